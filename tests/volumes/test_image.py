import gzip

import nibabel
import nrrd
import numpy as np
import pytest

from vesalius.errors import InputError
from vesalius.volumes.geometry import resample_labels_to
from vesalius.volumes.image import (
    Image,
    LabelMap,
    check_same_grid,
    read_image,
    read_label_map,
    read_label_maps,
    stem_of,
)

LPS = {"space": "left-posterior-superior", "space directions": np.diag([2.0, 3.0, 4.0]), "space origin": [5, 6, 7]}


def write_nrrd(path, data, **header):
    nrrd.write(str(path), data, {**LPS, **header}, index_order="F")
    return path


def refused(path, match, read=read_image):
    with pytest.raises(InputError, match=match) as caught:
        read(path)
    assert path.name in str(caught.value)
    assert caught.value.remedy


def test_a_nifti_image_is_read_with_its_scaling_and_affine(tmp_path):
    stored = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.diag([1.0, 2.0, 3.0, 1.0]))
    stored.header.set_slope_inter(2, -10)
    nibabel.save(stored, tmp_path / "a.nii.gz")
    image = read_image(tmp_path / "a.nii.gz")
    assert image.data.dtype == np.float32
    np.testing.assert_allclose(image.data, nibabel.load(tmp_path / "a.nii.gz").get_fdata())
    np.testing.assert_array_equal(image.affine, stored.affine)


def test_a_last_axis_of_one_is_no_fourth_axis(write_nifti):
    assert read_image(write_nifti("a.nii", np.ones((2, 3, 4, 1), dtype=np.float32))).data.shape == (2, 3, 4)


def test_nrrd_comes_from_lps_to_ras(tmp_path):
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = read_image(write_nrrd(tmp_path / "a.nrrd", data))
    np.testing.assert_array_equal(image.data, data)
    np.testing.assert_array_equal(image.affine @ [1, 1, 1, 1], [-7, -9, 11, 1])


def test_segments_bring_their_names(tmp_path):
    data = np.array([0, 3, 5, 5], dtype=np.uint8).reshape(2, 2, 1)
    header = {"Segment0_Name": "liver", "Segment0_LabelValue": "3", "Segment0_Layer": "0"}
    path = write_nrrd(tmp_path / "a.seg.nrrd", data, **header, Segment1_Name="spleen", Segment1_LabelValue="5")
    label_map = read_label_map(path)
    assert dict(label_map.labels) == {3: "liver", 5: "spleen"}
    np.testing.assert_array_equal(label_map.data, data)
    assert dict(read_label_map(path, {3: "other"}).labels) == {3: "other"}
    refused(path, "a segmentation, not an image")


def test_overlapping_segments_come_as_one_label_map_a_layer(tmp_path):
    data = np.zeros((2, 3, 3, 2), dtype=np.uint8)
    data[0, 0] = 1
    data[1, :2] = 1
    header = {
        "Segment0_Name": "lung", "Segment0_LabelValue": "1", "Segment0_Layer": "0",
        "Segment1_Name": "chest", "Segment1_LabelValue": "1", "Segment1_Layer": "1",
    }  # fmt: skip
    directions = np.vstack([[np.nan] * 3, np.diag([2.0, 3.0, 4.0])])
    kinds = ["list", "domain", "domain", "domain"]
    path = write_nrrd(tmp_path / "a.seg.nrrd", data, **{"space directions": directions, "kinds": kinds}, **header)
    layers = read_label_maps(path)
    assert [dict(layer.labels) for layer in layers] == [{1: "lung"}, {1: "chest"}]
    assert [int(layer.data.sum()) for layer in layers] == [6, 12]
    refused(path, "2 layers", read_label_map)
    refused(path, "cannot name the segments", lambda p: read_label_maps(p, {1: "x"}))


def test_segments_of_an_older_slicer_are_a_layer_each(tmp_path):
    data = np.zeros((2, 3, 3, 2), dtype=np.uint8)
    data[0, 0], data[1, :2] = 1, 1
    names = {"Segment0_Name": "lung", "Segment1_Name": "chest"}
    directions = np.vstack([[np.nan] * 3, np.diag([2.0, 3.0, 4.0])])
    path = write_nrrd(tmp_path / "a.seg.nrrd", data, **{"space directions": directions}, **names)
    assert [dict(layer.labels) for layer in read_label_maps(path)] == [{1: "lung"}, {1: "chest"}]
    one = write_nrrd(tmp_path / "b.seg.nrrd", data[0], Segment0_Name="lung")
    assert dict(read_label_map(one).labels) == {1: "lung"}
    refused(write_nrrd(tmp_path / "c.seg.nrrd", data[0], **names), "without a LabelValue", read_label_map)


def test_label_values_that_scaling_or_rounding_moved_are_whole(tmp_path, write_nifti):
    drawn = np.array([[[0, 1, 5, 13]]])
    nearly = write_nifti("a.nii.gz", np.where(drawn == 1, 0.9999, drawn).astype(np.float32))
    assert read_label_map(nearly).data.tolist() == drawn.tolist()
    stored = nibabel.Nifti1Image(drawn.astype(np.float64), np.eye(4))
    stored.set_data_dtype(np.uint8)  # nibabel spreads 0 to 13 over all bytes
    stored.to_filename(tmp_path / "b.nii.gz")
    assert np.abs(nibabel.load(tmp_path / "b.nii.gz").get_fdata() - drawn).max() > 0.01
    assert read_label_map(tmp_path / "b.nii.gz").data.tolist() == drawn.tolist()
    blurred = nibabel.Nifti1Image(np.array([[[0, 0.3, 1]]]), np.eye(4))
    blurred.set_data_dtype(np.uint8)
    blurred.to_filename(tmp_path / "c.nii.gz")
    refused(tmp_path / "c.nii.gz", "not whole numbers", read_label_map)


def test_whole_numbers_stored_as_floats_are_labels(write_nifti):
    label_map = read_label_map(write_nifti("a.nii.gz", np.array([[[0.0, 70000.0]]])), {70000: "x"})
    assert label_map.data.tolist() == [[[0, 70000]]]


def test_broken_and_foreign_files_are_refused_with_their_name(tmp_path, write_nifti):
    good = write_nifti("good.nii.gz", np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32))
    packed = good.read_bytes()
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(packed[: len(packed) // 2])
    refused(cut, "damaged or cut short")
    short = tmp_path / "short.nii.gz"
    short.write_bytes(gzip.compress(gzip.decompress(packed)[:-100]))
    refused(short, "damaged or cut short")
    plain = tmp_path / "plain.nii"
    plain.write_bytes(gzip.decompress(packed)[:-100])
    refused(plain, "damaged or cut short")
    for name in ("empty.nii.gz", "empty.nii", "empty.nrrd", "empty.seg.nrrd"):
        (tmp_path / name).touch()
        refused(tmp_path / name, "cannot be read")
        refused(tmp_path / name, "cannot be read", read_label_map)
    for name in ("text.nii.gz", "text.nii", "text.nrrd"):
        (tmp_path / name).write_text("not an image at all\n" * 40)
        refused(tmp_path / name, "cannot be read")
    for name in ("missing.nii.gz", "missing.nrrd"):
        refused(tmp_path / name, "No such file|no such file")
    folder = tmp_path / "folder.nii.gz"
    folder.mkdir()
    refused(folder, "directory")
    refused(tmp_path / "a.mhd", "give one of")


def test_nrrd_cut_short_or_pointing_elsewhere_is_refused(tmp_path):
    path = write_nrrd(tmp_path / "a.nrrd", np.random.default_rng(0).normal(size=(9, 9, 9)))
    path.write_bytes(path.read_bytes()[:-500])
    refused(path, "cannot be read")
    elsewhere = tmp_path / "b.nrrd"
    elsewhere.write_text(
        "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 1 1 1\nencoding: raw\ndata file: /etc/hostname\n\n"
    )
    refused(elsewhere, "in another file")


def test_nrrd_without_anatomical_space_is_refused(tmp_path):
    nrrd.write(str(tmp_path / "a.nrrd"), np.ones((2, 2, 2)), {"spacings": [1, 1, 1]})
    refused(tmp_path / "a.nrrd", "no anatomical space")


def test_wrong_content_is_refused(write_nifti):
    refused(write_nifti("4d.nii.gz", np.ones((2, 3, 4, 5), dtype=np.float32)), "not a volume of 3 axes")
    refused(write_nifti("2d.nii.gz", np.ones((4, 5), dtype=np.float32)), "not a volume of 3 axes")
    refused(write_nifti("nan.nii.gz", np.array([[[1.0, np.nan, np.inf]]])), "2 of 3 voxels are NaN or infinite")
    refused(write_nifti("huge.nii.gz", np.array([[[1.0, 1e300]]])), "1 of 2 voxels")
    refused(write_nifti("complex.nii.gz", np.ones((2, 2, 2), dtype=np.complex64)), "not one number each")
    halves = write_nifti("half.nii.gz", np.array([[[0.0, 1.5]]]))
    refused(halves, "not whole numbers", read_label_map)
    refused(write_nifti("nanlabel.nii.gz", np.array([[[0.0, np.nan]]])), "not whole numbers", read_label_map)


def test_an_affine_of_no_use_is_refused(tmp_path, write_nifti):
    flat = np.diag([1.0, 1.0, 1.0, 1.0])
    flat[:3, 2] = flat[:3, 1]
    path = tmp_path / "flat.nii"
    stored = nibabel.Nifti1Image(np.ones((2, 2, 2), dtype=np.float32), np.eye(4))
    stored.header.set_sform(flat, code=1)
    stored.header.set_qform(None, code=0)
    stored.header["pixdim"][1:4] = 1
    nibabel.Nifti1Image(stored.dataobj, None, stored.header).to_filename(path)
    refused(path, "cannot be inverted")
    for wrong in (flat, np.zeros((4, 4)), np.full((4, 4), np.nan)):
        with pytest.raises(InputError, match="cannot be inverted"):
            Image(data=np.ones((2, 2, 2), dtype=np.float32), affine=wrong)


def test_very_small_and_very_large_spacings_are_no_reason_to_refuse():
    for step in (1e-4, 1e4):
        Image(data=np.ones((2, 2, 2), dtype=np.float32), affine=np.diag([step, step, step, 1.0]))


def test_an_image_that_does_not_say_where_left_is_is_refused(tmp_path):
    stored = nibabel.Nifti1Image(np.ones((2, 2, 2), dtype=np.float32), None)
    stored.to_filename(tmp_path / "a.nii.gz")
    refused(tmp_path / "a.nii.gz", "where left is")


def test_grids_that_differ_are_told_apart(body):
    image, label_map = body
    check_same_grid(image, label_map)
    moved = label_map.affine + np.array([[0, 0, 0, 0.2]] + [[0] * 4] * 3)
    other = LabelMap(data=label_map.data, affine=moved, labels={})
    with pytest.raises(InputError, match=r"lab\.nii: .* 0\.2 mm off .*at most 0\.15 mm"):
        check_same_grid(image, other, where="lab.nii")
    other = LabelMap(data=label_map.data[1:], affine=label_map.affine, labels={})
    with pytest.raises(InputError, match=r"shape \(19, 24, 18\)"):
        check_same_grid(image, other)
    rounded = LabelMap(data=label_map.data, affine=label_map.affine.astype(np.float32).astype(float), labels={})
    check_same_grid(image, rounded)


def test_one_grid_said_as_a_matrix_and_as_a_quaternion_is_one(body):
    """A turn by almost 180° is what a quaternion of single precision says worst."""
    image, label_map = body
    turn, steps = np.pi - 1e-3, (1.5, 1.5, 2.0)
    across = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = across * steps
    header = nibabel.Nifti1Header()
    header.set_qform(affine, code=1)
    told = header.get_qform()
    drift_mm = np.abs((told - affine) @ [*np.array(image.data.shape) - 1, 1]).max()
    assert 1e-3 < drift_mm < 0.15
    turned = Image(data=image.data, affine=affine)
    other = LabelMap(data=label_map.data, affine=told, labels=label_map.labels)
    check_same_grid(turned, other)
    np.testing.assert_array_equal(resample_labels_to(other, turned).data, label_map.data)


def test_stems(tmp_path):
    names = {"a.nii.gz": "a", "a.b.nii": "a.b", "A.SEG.NRRD": "A", "x.nrrd": "x"}
    assert {name: stem_of(tmp_path / name) for name in names} == names
    for name in ("a.txt", ".nii.gz", "a"):
        with pytest.raises(InputError):
            stem_of(tmp_path / name)
