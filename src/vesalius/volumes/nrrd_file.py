"""NRRD files, among them the segmentations (`.seg.nrrd`) of 3D Slicer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
from jaxtyping import Shaped

from vesalius.arrays import Affine
from vesalius.errors import InputError

_TO_RAS = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}
"""Sign of each world axis of a named space, towards RAS."""

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
        data: the array in file order, fastest axis first; with `layered`, the layers come first.
        affine: voxel index → world mm, RAS+.
        segments: of a segmentation; else empty.
        layered: whether the first axis of `data` counts layers of overlapping segments.
    """

    data: Shaped[np.ndarray, ...]
    affine: Affine
    segments: tuple[Segment, ...]
    layered: bool


def read_nrrd(path: Path) -> NrrdFile:
    """Reads an NRRD file whose header and data are in one file.

    Raises:
        InputError: it lacks an anatomical space, or keeps its data in another file.
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
            data = nrrd.read_data(header, file, filename=None, index_order="F")
    except (nrrd.NRRDError, StopIteration) as error:  # StopIteration: an empty file
        raise ValueError(str(error) or "an empty file") from error
    segments = _segments(header)
    layered = bool(segments) and data.ndim == 4
    return NrrdFile(data=data, affine=_affine(header, path), segments=segments, layered=layered)


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


def _segments(header: Mapping[str, Any]) -> tuple[Segment, ...]:
    prefixes = [match[1] for key in header if (match := _SEGMENT.fullmatch(key))]
    return tuple(
        Segment(
            name=str(header[f"{prefix}_Name"]).strip(),
            value=int(header[f"{prefix}_LabelValue"]),
            layer=int(header.get(f"{prefix}_Layer", 0)),
        )
        for prefix in prefixes
    )
