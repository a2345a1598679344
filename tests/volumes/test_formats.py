"""Each file format against another reader of it."""

import gzip
import io
import pickle
import zipfile

import blosc2
import nibabel
import numpy as np
import pytest
import SimpleITK
from nibabel.nifti1 import Nifti1Extension

from vesalius.errors import InputError
from vesalius.volumes.blosc_file import read_b2nd
from vesalius.volumes.image import read_image, read_label_map, read_label_maps
from vesalius.volumes.inert_pickle import Noted, plain, read_inert
from vesalius.volumes.npy_file import read_npy, read_npz

RNG = np.random.default_rng(3)
DATA = RNG.integers(-900, 900, size=(5, 6, 7)).astype(np.int16)


def refused(path, match, read=read_image):
    with pytest.raises(InputError, match=match) as caught:
        read(path)
    assert path.name in str(caught.value)
    assert caught.value.remedy


def rotations(count):
    """Right- and left-handed, oblique and not."""
    yield np.eye(3)
    yield np.diag([-1.0, 1.0, 1.0])
    yield np.eye(3)[[2, 0, 1]] * [1, -1, 1]
    for _ in range(count):
        yield np.linalg.qr(RNG.normal(size=(3, 3)))[0]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_lps_of_itk_becomes_the_ras_of_nibabel(tmp_path, ending, compressed):
    for number, rotation in enumerate(rotations(4)):
        image = SimpleITK.GetImageFromArray(DATA.transpose(2, 1, 0))
        image.SetSpacing((0.7, 1.5, 3.0))
        image.SetOrigin((-12.5, 40.25, 7.0))
        image.SetDirection(rotation.ravel().tolist())
        path, reference = tmp_path / f"{number}{ending}", tmp_path / f"{number}.nii.gz"
        SimpleITK.WriteImage(image, str(path), useCompression=compressed)
        SimpleITK.WriteImage(image, str(reference))
        found, expected = read_image(path), nibabel.load(reference)
        np.testing.assert_array_equal(found.data, DATA)
        np.testing.assert_array_equal(found.data, expected.get_fdata())
        np.testing.assert_allclose(found.affine, expected.affine, atol=2e-5)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_type_of_voxels_is_read_from_mha(tmp_path, kind):
    data = RNG.integers(0, 100, size=(3, 4, 5)).astype(kind)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(data.transpose(2, 1, 0)), str(tmp_path / "a.MHA".lower()))
    np.testing.assert_array_equal(read_image(tmp_path / "a.mha").data, data)


def test_mha_of_other_kinds_is_refused(tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(DATA), str(tmp_path / "a.mha"))
    whole = (tmp_path / "a.mha").read_bytes()
    path = tmp_path / "b.mha"
    path.write_bytes(whole[:-20])
    refused(path, "promises 420 bytes, 400 are there")
    path.write_bytes(whole.replace(b"LOCAL", b"/etc/passwd"))
    refused(path, "in another file")
    path.write_bytes(whole.replace(b"TransformMatrix", b"TransformMatrax"))
    refused(path, "where left is")
    path.write_bytes(whole.replace(b"ElementType = MET_SHORT", b"ElementType = MET_SHIRT"))
    refused(path, "MET_SHIRT")
    path.write_bytes(b"x" * 10**6)
    refused(path, "no MetaImage header")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(DATA[0]), str(tmp_path / "flat.mha"))
    refused(tmp_path / "flat.mha", "2 axes")
    vector = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5, 3), dtype=np.float32), isVector=True)
    SimpleITK.WriteImage(vector, str(tmp_path / "vector.mha"))
    refused(tmp_path / "vector.mha", "several values a voxel")


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_of_both_versions_and_byte_orders_is_read_as_nibabel_does(tmp_path, kind, order):
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype("i2").newbyteorder(order))
    affine = np.diag([-1.25, 2, 3, 1.0])
    image = kind(DATA, affine, header)
    image.header.set_slope_inter(0.37, -1024.5)
    image.to_filename(tmp_path / "a.nii.gz")
    found = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(found.data, nibabel.load(tmp_path / "a.nii.gz").get_fdata().astype(np.float32))
    np.testing.assert_array_equal(found.affine, nibabel.load(tmp_path / "a.nii.gz").affine)


def test_a_header_without_qfac_or_with_a_signed_spacing_is_read_as_nibabel_does(tmp_path):
    stored = nibabel.Nifti1Image(DATA, None)
    stored.header.set_qform(np.diag([-1.25, -2, 3, 1.0]), code=1)
    stored.header["pixdim"][1:4] *= (-1, 1, 1)
    stored.header["pixdim"][0] = 0
    header = bytes(stored.header.binaryblock)
    (tmp_path / "a.nii").write_bytes(header + bytes(4) + DATA.tobytes(order="F"))
    plain = bytearray((tmp_path / "a.nii").read_bytes())
    plain[344:348] = b"n+1\0"
    plain[108:112] = np.float32(352).tobytes()
    (tmp_path / "a.nii").write_bytes(plain)
    found = read_image(tmp_path / "a.nii")
    np.testing.assert_array_equal(found.data, DATA)
    np.testing.assert_allclose(found.affine, nibabel.load(tmp_path / "a.nii").affine)


def test_a_name_in_capitals_and_an_ending_that_lies_do_not_matter(tmp_path):
    nibabel.save(nibabel.Nifti1Image(DATA, np.eye(4)), tmp_path / "a.nii")
    plain_bytes = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "A.NII.GZ").write_bytes(gzip.compress(plain_bytes))
    (tmp_path / "zipped.nii").write_bytes(gzip.compress(plain_bytes))
    (tmp_path / "plain.nii.gz").write_bytes(plain_bytes)
    for name in ("A.NII.GZ", "zipped.nii", "plain.nii.gz"):
        np.testing.assert_array_equal(read_image(tmp_path / name).data, DATA)


def test_a_flipped_bit_in_a_gzip_stream_is_noticed(tmp_path):
    nibabel.save(nibabel.Nifti1Image(RNG.normal(size=(9, 9, 9)), np.eye(4)), tmp_path / "a.nii.gz")
    packed = bytearray((tmp_path / "a.nii.gz").read_bytes())
    packed[-6] ^= 1  # of the checksum
    (tmp_path / "a.nii.gz").write_bytes(packed)
    refused(tmp_path / "a.nii.gz", "cannot be read")


def test_a_pair_of_header_and_voxels_is_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(DATA, np.eye(4)), tmp_path / "a.img")
    (tmp_path / "a.hdr").rename(tmp_path / "a.nii")
    refused(tmp_path / "a.nii", "in two files")


def test_a_table_of_labels_in_the_header_names_the_values(tmp_path):
    image = nibabel.Nifti1Image(np.array([[[0, 1, 2]]], dtype=np.uint8), np.eye(4))
    table = (
        b'<?xml version="1.0"?><CaretExtension><VolumeInformation Index="0"><LabelTable>'
        b'<Label Key="1" Red="1" Alpha="1"><![CDATA[spleen]]></Label>'
        b'<Label Key="2" Red="0">kidney &amp; ureter</Label></LabelTable></VolumeInformation></CaretExtension>'
    )
    image.header.extensions.append(Nifti1Extension(0, table))
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert dict(read_label_map(tmp_path / "a.nii.gz").labels) == {1: "spleen", 2: "kidney & ureter"}
    assert dict(read_label_maps(tmp_path / "a.nii.gz", {})[0].labels) == {}


def test_a_channel_is_taken_from_a_fourth_axis(tmp_path):
    stack = np.stack([DATA, -DATA], axis=-1)
    nibabel.save(nibabel.Nifti1Image(stack, np.eye(4)), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii.gz", channel=1).data, -DATA)
    refused(tmp_path / "a.nii.gz", "no channel 2", lambda path: read_image(path, channel=2))
    refused(tmp_path / "a.nii.gz", "not a volume of 3 axes")


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_numpy_come_back(tmp_path, order):
    array = np.asarray(RNG.normal(size=(3, 4, 5)), order=order)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), array)
    np.savez_compressed(tmp_path / "a.npz", x=array, y=array > 0)
    found = read_npz(tmp_path / "a.npz", ("x", "y"))
    np.testing.assert_array_equal(found["x"], array)
    assert found["y"].dtype == bool
    np.save(tmp_path / "empty.npy", array[:, :0])
    assert read_npy(tmp_path / "empty.npy").shape == (3, 0, 5)


def test_pickled_arrays_and_members_that_point_outside_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    refused(tmp_path / "a.npy", "pickled array", read_npy)
    np.savez(tmp_path / "a.npz", x=np.array([{"x": 1}], dtype=object))
    refused(tmp_path / "a.npz", "pickled array", lambda path: read_npz(path, ("x",)))
    buffer = io.BytesIO()
    np.save(buffer, DATA)
    for number, name in enumerate(("../x.npy", "/x.npy", "a/../../x.npy", "..\\x.npy", "C:\\x.npy")):
        path = tmp_path / f"out{number}.npz"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", buffer.getvalue())
            archive.writestr(name, b"x")
        refused(path, "points outside", lambda path: read_npz(path, ("x",)))


def test_damaged_archives_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=RNG.normal(size=(9, 9, 9)))
    packed = (tmp_path / "a.npz").read_bytes()
    read = lambda path: read_npz(path, ("x",))  # noqa: E731
    for number, content in enumerate((b"", b"PK", packed[:-100], packed[: len(packed) // 2], b"no archive" * 50)):
        path = tmp_path / f"{number}.npz"
        path.write_bytes(content)
        refused(path, "cannot be read", read)
    broken = bytearray(packed)
    broken[len(packed) // 2] ^= 0xFF
    (tmp_path / "flipped.npz").write_bytes(broken)
    refused(tmp_path / "flipped.npz", "cannot be read", read)
    refused(tmp_path / "a.npz", "no array y", lambda path: read_npz(path, ("y",)))
    refused(tmp_path / "none.npz", "No such file", read)


def test_blosc2_arrays_come_back_and_damaged_ones_are_refused(tmp_path):
    array = RNG.normal(size=(1, 8, 9, 10)).astype(np.float32)
    blosc2.asarray(array, urlpath=str(tmp_path / "a.b2nd"))
    np.testing.assert_array_equal(read_b2nd(tmp_path / "a.b2nd"), array)
    refused(tmp_path / "a.b2nd", r"not \(1, 2, 3, 4\)", lambda path: read_b2nd(path, shape=(1, 2, 3, 4)))
    packed = (tmp_path / "a.b2nd").read_bytes()
    for number, content in enumerate((b"", packed[:-10], packed + b"x", b"x" * 200)):
        path = tmp_path / f"{number}.b2nd"
        path.write_bytes(content)
        refused(path, "cannot be read", read_b2nd)
    blosc2.zeros((1, 10**4, 10**4, 10**4), dtype=np.float32, urlpath=str(tmp_path / "zeros.b2nd"))
    refused(tmp_path / "zeros.b2nd", "in .* bytes", read_b2nd)


class _Evil:
    def __reduce__(self):
        return (print, ("this must not run",))


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_read_without_running_it(protocol, capsys):
    held = {
        "spacing": (3.0, 0.75, 0.75), "box": [[np.int64(1), 20], [0, 30]], "name": "ä", "none": None, "yes": True,
        "affine": np.arange(16, dtype=float).reshape(4, 4), "evil": _Evil(), "size": np.float64(2.5),
    }  # fmt: skip
    found = read_inert(pickle.dumps(held, protocol=protocol))
    assert capsys.readouterr().out == ""
    assert found["spacing"] == (3.0, 0.75, 0.75)
    assert (found["name"], found["none"], found["yes"]) == ("ä", None, True)
    assert isinstance(found["evil"], Noted)
    with pytest.raises(ValueError, match="no number"):
        plain(found["evil"])
    if protocol >= 3:  # before, the bytes of numbers go through a call of their own
        assert plain(found["box"]) == [[1, 20], [0, 30]]
        assert plain(found["affine"]) == held["affine"].tolist()
        assert plain(found["size"]) == 2.5


def test_a_damaged_pickle_is_refused():
    whole = pickle.dumps({"a": [1, 2, 3], "b": (1.0, "x")})
    for cut in range(len(whole) - 1):
        with pytest.raises(ValueError, match=r"\w"):
            read_inert(whole[:cut])
