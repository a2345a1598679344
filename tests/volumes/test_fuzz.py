"""Readers against bytes that lie: they read or refuse, soon, and take no memory that the file does not fill."""

import gzip
import struct
import time
import tracemalloc
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK

from vesalius.errors import InputError
from vesalius.volumes.image import read_image, read_label_maps, read_label_stack
from vesalius.volumes.npy_file import read_npy, read_npz

MIB = 2**20
NUM_MUTATIONS = 120
ALLOWED_BYTES = 8 * MIB
"""Of memory for files of some kB: the reader's piece and what a format's own tables take."""

DATA = np.random.default_rng(5).integers(0, 9, size=(6, 7, 8)).astype(np.int16)


def write_nifti(path: Path) -> int:
    nibabel.save(nibabel.Nifti1Image(DATA, np.eye(4)), path)
    return 352


def write_mha(path: Path) -> int:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(DATA), str(path))
    return path.read_bytes().index(b"LOCAL") + 6


def write_zipped_mha(path: Path) -> int:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(DATA), str(path), useCompression=True)
    return len(path.read_bytes())


def write_nrrd(path: Path) -> int:
    space = {"space": "left-posterior-superior", "space directions": np.eye(3), "space origin": [0, 0, 0]}
    nrrd.write(str(path), DATA, {**space, "encoding": "raw"})
    return path.read_bytes().index(b"\n\n")


def write_seg_nrrd(path: Path) -> int:
    space = {"space": "left-posterior-superior", "space directions": np.eye(3), "space origin": [0, 0, 0]}
    segment = {"Segment0_Name": "liver", "Segment0_LabelValue": "1", "Segment0_Layer": "0"}
    nrrd.write(str(path), DATA, {**space, **segment, "encoding": "gzip"})
    return len(path.read_bytes())


def write_npy(path: Path) -> int:
    np.save(path, DATA)
    return 128


def write_npz(path: Path) -> int:
    np.savez_compressed(path, x=DATA)
    return len(path.read_bytes())


CASES = {
    "a.nii": (write_nifti, (read_image, read_label_maps, read_label_stack)),
    "a.mha": (write_mha, (read_image, read_label_maps)),
    "zipped.mha": (write_zipped_mha, (read_image,)),
    "a.nrrd": (write_nrrd, (read_image, read_label_maps)),
    "a.seg.nrrd": (write_seg_nrrd, (read_label_maps,)),
    "a.npy": (write_npy, (read_npy,)),
    "a.npz": (write_npz, (lambda path: read_npz(path, ("x",)),)),
}


def mutated(whole: bytes, num_header: int, rng: np.random.Generator) -> bytes:
    """Returns the bytes with some of the header's replaced, lost or doubled."""
    made = bytearray(whole)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, min(num_header, len(made))))
        kind = rng.integers(0, 5)
        if kind == 0:
            made[at] = int(rng.integers(0, 256))
        elif kind == 1:
            made[at : at + 4] = rng.bytes(4)
        elif kind == 2:
            made[at : at + 8] = struct.pack(">q", int(rng.integers(-(2**62), 2**62)))
        elif kind == 3:
            made[at:at] = b"9" * int(rng.integers(1, 12))
        else:
            del made[at : at + int(rng.integers(1, 9))]
    return bytes(made)


def peak_of(read, path: Path) -> int:
    """Returns the most memory that reading took beyond what was in use, whatever becomes of it."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    said = refusal_of(read, path)
    peak = tracemalloc.get_traced_memory()[1] - before
    assert said is None or (path.name in said and "\n" not in said)
    return peak


def refusal_of(read, path: Path) -> str | None:
    try:
        read(path)
    except InputError as error:
        return str(error)
    return None


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("name", CASES)
def test_mutated_headers_are_read_or_refused(name, tmp_path, traced):
    write, readers = CASES[name]
    path = tmp_path / name
    num_header = write(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(sum(name.encode()))
    for _ in range(NUM_MUTATIONS):
        path.write_bytes(mutated(whole, num_header, rng))
        for read in readers:
            started = time.monotonic()
            assert peak_of(read, path) < ALLOWED_BYTES
            assert time.monotonic() - started < 5


def test_a_trillion_voxels_in_a_kilobyte_are_refused_before_they_are_allocated(tmp_path, traced):
    header = nibabel.Nifti2Header()
    header.set_data_dtype(np.float32)
    header["dim"][:4] = [3, 10**4, 10**4, 10**4]
    header["sform_code"], header["srow_x"][0], header["srow_y"][1], header["srow_z"][2] = 1, 1, 1, 1
    header["magic"], header["vox_offset"] = b"n+2\0\r\n\x1a\n", 544
    claims = {
        "a.nii": header.binaryblock + b"\0" * 484,
        "b.nii.gz": gzip.compress(header.binaryblock + b"\0" * 484),
        "c.mha": b"NDims = 3\nDimSize = 10000 10000 10000\nElementType = MET_FLOAT\nElementSpacing = 1 1 1\nOffset = 0 0 0\n"
        b"TransformMatrix = 1 0 0 0 1 0 0 0 1\nElementDataFile = LOCAL\n" + b"\0" * 800,
        "d.nrrd": b"NRRD0004\ntype: float\ndimension: 3\nsizes: 10000 10000 10000\nspace: RAS\nspace origin: (0,0,0)\n"
        b"space directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: raw\nendian: little\n\n" + b"\0" * 800,
    }
    for name, content in claims.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match="promises 4000000000000 bytes"):
            read_image(path)
        assert peak_of(read_image, path) < MIB
    path = tmp_path / "e.npy"
    np.save(path, np.zeros(100, dtype=np.float32))
    path.write_bytes(path.read_bytes().replace(b"(100,), }          ", b"(1000000000000,), }"))
    with pytest.raises(InputError, match="promises 4000000000000 bytes"):
        read_npy(path)
    assert peak_of(read_npy, path) < MIB


def test_a_gzip_stream_of_more_than_its_header_says_is_not_unpacked_whole(tmp_path, traced):
    nibabel.save(nibabel.Nifti1Image(DATA, np.eye(4)), tmp_path / "a.nii")
    bomb = gzip.compress((tmp_path / "a.nii").read_bytes() + b"\0" * 200 * MIB, compresslevel=1)
    (tmp_path / "a.nii.gz").write_bytes(bomb)
    assert peak_of(read_image, tmp_path / "a.nii.gz") < 40 * MIB
