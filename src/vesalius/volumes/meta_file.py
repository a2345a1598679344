"""MetaImage files (`.mha`), as ITK writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Shaped

from vesalius.arrays import Affine
from vesalius.errors import InputError
from vesalius.volumes.payload import Inflated, Stream, read_voxels

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_LONGEST_HEADER = 2**16


@dataclass(frozen=True, kw_only=True, eq=False)
class MetaFile:
    """What a MetaImage file holds.

    Attributes:
        data: the array, its first axis fastest.
        affine: voxel index → world mm, RAS+.
    """

    data: Shaped[np.ndarray, ...]
    affine: Affine


def read_meta(path: Path) -> MetaFile:
    """Reads a MetaImage file whose header and data are in one file.

    Raises:
        InputError: it keeps its data in another file, or does not say where left is.
        ValueError, KeyError, zlib.error: it is damaged.
        OSError: it cannot be opened.

    Source: the MetaIO documentation of the MetaImage format; world coordinates are LPS, and each row of
    `TransformMatrix` is the direction of one axis of the array, as in ITK.
    """
    with path.open("rb") as file:
        header = _read_header(file, path)
        shape = tuple(int(size) for size in header["dimsize"].split())
        if len(shape) != int(header.get("ndims", len(shape))):
            raise ValueError(f"NDims {header['ndims']} but DimSize {header['dimsize']}")
        if int(header.get("elementnumberofchannels", 1)) != 1:
            raise InputError("several values a voxel", where=path, remedy="split it into volumes")
        if not _is_true(header, "binarydata", default=True):
            raise InputError("voxels written as text", where=path, remedy="write it in binary")
        if header["elementtype"].upper() not in _TYPES:
            raise ValueError(f"ElementType {header['elementtype']}")
        big = _is_true(header, "binarydatabyteordermsb") or _is_true(header, "elementbyteordermsb")
        dtype = np.dtype(_TYPES[header["elementtype"].upper()]).newbyteorder(">" if big else "<")
        stream: Stream = Inflated(file) if _is_true(header, "compresseddata") else file
        data = read_voxels(stream, dtype, shape)
    return MetaFile(data=data, affine=_affine(header, path))


def _read_header(file: IO[bytes], path: Path) -> dict[str, str]:
    """Returns the entries of the header, their keys in lower case, and leaves the file at the first byte behind it."""
    header: dict[str, str] = {}
    while "elementdatafile" not in header:
        line = file.readline(_LONGEST_HEADER)
        if not line or file.tell() > _LONGEST_HEADER:
            raise ValueError("no MetaImage header")
        key, equals, value = line.decode("latin-1").partition("=")
        if not equals and line.strip():
            raise ValueError("no MetaImage header")
        header[key.strip().lower()] = value.strip()
    if header["elementdatafile"].upper() != "LOCAL":
        raise InputError("the data are in another file", where=path, remedy="write header and data as one .mha")
    return header


def _affine(header: Mapping[str, str], path: Path) -> Affine:
    matrix = next((header[key] for key in ("transformmatrix", "rotation", "orientation") if key in header), None)
    offset = next((header[key] for key in ("offset", "origin", "position") if key in header), None)
    spacing = header.get("elementspacing", header.get("elementsize"))
    if matrix is None or offset is None or spacing is None:
        raise InputError(
            "no TransformMatrix, Offset or ElementSpacing: it does not say where left is",
            where=path,
            remedy="write it again with its direction, e.g. with SimpleITK",
        )
    directions = np.array([float(number) for number in matrix.split()])
    origin = np.array([float(number) for number in offset.split()])
    steps = np.array([float(number) for number in spacing.split()])
    axes = len(steps)
    if len(directions) != axes**2 or len(origin) != axes:
        raise ValueError("TransformMatrix, Offset and ElementSpacing do not fit each other")
    if axes != 3:
        raise InputError(f"{axes} axes in space, not 3", where=path, remedy="split it into volumes")
    affine = np.eye(4)
    affine[:3, :3] = directions.reshape(3, 3).T * steps
    affine[:3, 3] = origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _is_true(header: Mapping[str, str], key: str, *, default: bool = False) -> bool:
    return header[key].lower() in {"true", "1", "yes", "t"} if key in header else default
