"""NRRD files, among them the segmentations (`.seg.nrrd`) of 3D Slicer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nrrd
import numpy as np
from jaxtyping import Shaped

from vesalius.arrays import Affine
from vesalius.errors import InputError
from vesalius.volumes.payload import Stream, bunzipped, check_end, decompressed, read_voxels, skip

_TO_RAS = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}
"""Sign of each world axis of a named space, towards RAS."""

_TYPES = {
    name: code
    for code, names in {
        "i1": ("signed char", "int8", "int8_t"),
        "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
        "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
        "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
        "i4": ("int", "signed int", "int32", "int32_t"),
        "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
        "i8": (
            "longlong",
            "long long",
            "long long int",
            "signed long long",
            "signed long long int",
            "int64",
            "int64_t",
        ),
        "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
        "f4": ("float",),
        "f8": ("double",),
    }.items()
    for name in names
}
"""How a header writes a type → NumPy's code."""

_SEGMENT = re.compile(r"(Segment\d+)_Name")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A segment of a `.seg.nrrd`: its name, and the label value and the layer it is drawn with."""

    name: str
    value: int
    layer: int


@dataclass(frozen=True, kw_only=True, eq=False)
class NrrdFile:
    """What an NRRD file holds.

    Attributes:
        data: the array in file order, fastest axis first; layers of overlapping segments come first of 4 axes.
        affine: voxel index → world mm, RAS+.
        segments: of a segmentation; else empty.
    """

    data: Shaped[np.ndarray, ...]
    affine: Affine
    segments: tuple[Segment, ...]


def read_nrrd(path: Path) -> NrrdFile:
    """Reads an NRRD file whose header and data are in one file.

    Raises:
        InputError: it lacks an anatomical space, keeps its data in another file, or does not say what draws a segment.
        nrrd.NRRDError, ValueError, EOFError, zlib.error: it is damaged.
        OSError: it cannot be opened.

    Source: the NRRD format definition (teem), sections on orientation information, and 3D Slicer's
    documentation of the segmentation file format.
    """
    try:
        with path.open("rb") as file:
            header = nrrd.read_header(file)
            # Another file could be any file of this machine, and a moved pair is a damaged one.
            if "data file" in header or "datafile" in header:
                raise InputError(
                    "the data are in another file", where=path, remedy="write header and data as one .nrrd"
                )
            data = _read_data(header, file, path)
    except (nrrd.NRRDError, StopIteration, OverflowError, TypeError) as error:  # StopIteration: an empty file
        raise ValueError(str(error) or "an empty file") from error
    segments = _segments(header, path, layered=data.ndim == 4)
    return NrrdFile(data=data, affine=_affine(header, path), segments=segments)


def _read_data(header: Mapping[str, Any], file: IO[bytes], path: Path) -> Shaped[np.ndarray, ...]:
    kind, encoding = str(header.get("type")).lower(), str(header.get("encoding")).lower()
    if kind not in _TYPES:
        raise InputError(f"voxels of type {header.get('type')}", where=path, remedy="convert it to one number a voxel")
    shape = tuple(int(size) for size in header["sizes"])
    if len(shape) != int(header["dimension"]):
        raise ValueError(f"dimension {header['dimension']} but {len(shape)} sizes")
    dtype = np.dtype(_TYPES[kind]).newbyteorder(">" if header.get("endian") == "big" else "<")
    for _ in range(int(header.get("line skip", header.get("lineskip", 0)))):
        if not file.readline():
            raise ValueError("lines to skip behind the end of the file")
    num_skipped = int(header.get("byte skip", header.get("byteskip", 0)))
    if encoding == "raw" and num_skipped == -1:
        file.seek(-math.prod(shape) * dtype.itemsize, 2)
        num_skipped = 0
    stream: Stream
    if encoding == "raw":
        stream = file
    elif encoding in {"gzip", "gz"}:
        stream = decompressed(file)
    elif encoding in {"bzip2", "bz2"}:
        stream = bunzipped(file)
    else:
        raise InputError(f"encoding {encoding}", where=path, remedy="write it as raw or gzip")
    skip(stream, num_skipped)
    data = read_voxels(stream, dtype, shape)
    check_end(stream)
    return data


def _affine(header: Mapping[str, Any], path: Path) -> Affine:
    signs = _TO_RAS.get(str(header.get("space", "")).lower())
    if signs is None or "space directions" not in header or "space origin" not in header:
        raise InputError(
            f"no anatomical space (space: {header.get('space')!r})",
            where=path,
            remedy="save it with space, space directions and space origin, e.g. with 3D Slicer",
        )
    rows = np.array([row if row is not None else (np.nan,) * 3 for row in header["space directions"]], dtype=np.float64)
    directions = rows[~np.isnan(rows).all(axis=1)]  # an axis of layers or channels has none
    if directions.shape != (3, 3):
        raise InputError(f"{len(directions)} axes in space, not 3", where=path, remedy="split it into volumes")
    affine = np.eye(4)
    affine[:3, :3] = directions.T
    affine[:3, 3] = header["space origin"]
    return np.diag([*signs, 1.0]) @ affine


def _segments(header: Mapping[str, Any], path: Path, *, layered: bool) -> tuple[Segment, ...]:
    """Returns the segments. Before version 4.11 3D Slicer wrote each as a layer of its own, of value 1, and said neither."""
    prefixes = [match[1] for key in header if (match := _SEGMENT.fullmatch(key))]
    plain = [prefix for prefix in prefixes if f"{prefix}_LabelValue" not in header]
    if plain and not layered and len(prefixes) > 1:
        raise InputError("segments without a LabelValue", where=path, remedy="save it again with 3D Slicer")
    return tuple(
        Segment(
            name=str(header[f"{prefix}_Name"]).strip(),
            value=int(header.get(f"{prefix}_LabelValue", 1)),
            layer=int(header.get(f"{prefix}_Layer", prefix[len("Segment") :] if prefix in plain and layered else 0)),
        )
        for prefix in prefixes
    )
