"""NIfTI-1 and NIfTI-2 files, gzipped or not."""

from __future__ import annotations

import html
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from jaxtyping import Shaped
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from vesalius.arrays import Affine
from vesalius.errors import InputError
from vesalius.volumes.payload import Stream, check_end, decompressed, read_exactly, read_voxels

_LABEL = re.compile(rb"<Label\b[^>]*?\bKey=[\"'](\d{1,9})[\"'][^>]*>\s*(?:<!\[CDATA\[(.*?)\]\]>|([^<]*))", re.DOTALL)

_HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_MAGIC = {b"n+1\0": 348, b"n+2\0": 540}
_LARGEST_EXTENSION = 2**24


@dataclass(frozen=True, kw_only=True, eq=False)
class NiftiFile:
    """What a NIfTI file holds.

    Attributes:
        data: the array as it is stored, its first axis fastest.
        affine: voxel index → world mm, RAS+.
        slope: that stored values are multiplied with.
        inter: that is added then.
        names: label value → name, where an extension of the header holds a table of labels.
    """

    data: Shaped[np.ndarray, ...]
    affine: Affine
    slope: float
    inter: float
    names: Mapping[int, str]


def read_nifti(path: Path) -> NiftiFile:
    """Reads a NIfTI file whose header and data are in one file.

    Raises:
        InputError: it is a pair, or does not say where left is.
        ValueError, EOFError, zlib.error: it is damaged.
        OSError: it cannot be opened, or its gzip stream is damaged.

    Source: the NIfTI-1 and NIfTI-2 headers (nifti1.h, nifti2.h); for the table of labels the extension that
    TotalSegmentator writes with its label maps, in the form of Connectome Workbench.
    """
    with path.open("rb") as file:
        stream = decompressed(file)
        header, size = _read_header(stream, path)
        try:
            shape = tuple(int(size) for size in header.get_data_shape())
            dtype = np.dtype(header.get_data_dtype())
            offset = int(header.get_data_offset()) or size + 4
            slope, inter = header.get_slope_inter()
            if int(header["qform_code"]) <= 0 and int(header["sform_code"]) <= 0:
                raise InputError(
                    "it does not say where left is (qform_code and sform_code are both 0)",
                    where=path,
                    remedy="convert it again from its source, or set its sform",
                )
            pixdim = header["pixdim"]
            pixdim[0] = -1 if pixdim[0] == -1 else 1  # the format: a qfac of 0 is 1
            pixdim[1:4] = np.abs(pixdim[1:4])
            with np.errstate(all="ignore"):
                affine = np.array(header.get_best_affine(), dtype=np.float64)
        except (HeaderDataError, HeaderTypeError, OverflowError) as error:
            raise ValueError(str(error)) from error
        except np.linalg.LinAlgError as error:
            raise ValueError(str(error)) from error
        names = _names(stream, offset - size)
        data = read_voxels(stream, dtype, shape)
        check_end(stream)
    return NiftiFile(
        data=data,
        affine=affine,
        slope=1.0 if slope is None else float(slope),
        inter=0.0 if inter is None else float(inter),
        names=names,
    )


def _read_header(stream: Stream, path: Path) -> tuple[nibabel.Nifti1Header, int]:
    start = bytes(read_exactly(stream, 4))
    size = next((size for size in _HEADERS if start in {struct.pack("<i", size), struct.pack(">i", size)}), None)
    if size is None:
        raise ValueError("no NIfTI header")
    block = start + bytes(read_exactly(stream, size - 4))
    magic = block[4:8] if size == 540 else block[344:348]
    if magic[:3] in {b"ni1", b"ni2"} or magic == b"\0\0\0\0":
        raise InputError("header and voxels are in two files", where=path, remedy="write them as one .nii or .nii.gz")
    if _MAGIC.get(magic) != size:
        raise ValueError(f"no NIfTI header (magic {magic!r})")
    try:
        return _HEADERS[size](block, check=False), size
    except (HeaderDataError, HeaderTypeError) as error:
        raise ValueError(str(error)) from error


def _names(stream: Stream, num_bytes: int) -> dict[int, str]:
    """Reads what lies between header and voxels, and returns the table of labels in it, if there is one."""
    if not 4 <= num_bytes <= _LARGEST_EXTENSION:
        raise ValueError(f"the voxels begin {num_bytes} bytes behind the header")
    extensions = bytes(read_exactly(stream, num_bytes))
    return {
        int(key): html.unescape((quoted or plain).decode("utf-8", errors="replace")).strip()
        for key, quoted, plain in _LABEL.findall(extensions)
        if int(key)
    }
