"""The slices of a DICOM series as one image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from pydicom import Dataset

from vesalius.arrays import Affine, Voxels
from vesalius.errors import InputError
from vesalius.volumes.dicom_file import DAMAGED, damaged_dicom, frame_of, read_dicom, silently
from vesalius.volumes.image import Image, check_grid, check_intensities

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_DIRECTION = 1e-3
_UNEVEN = 0.05
"""Share of the distance between slices that a distance may differ from their mean."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """Where a frame lies.

    Attributes:
        axes: unit vectors in mm, LPS: where the columns and where the rows run to.
        position: of the first pixel's centre, LPS.
        spacing_mm: between columns and between rows.
        thickness_mm: of the slice, or 0 if it is not said.
    """

    axes: Float[np.ndarray, "2 3"]
    position: Float[np.ndarray, " 3"]
    spacing_mm: tuple[float, float]
    thickness_mm: float

    @property
    def normal(self) -> Float[np.ndarray, " 3"]:
        """Unit vector across the plane, LPS."""
        return np.cross(self.axes[0], self.axes[1])


@silently()
def read_series(paths: Sequence[Path], *, where: str) -> Image:
    """Reads the slices of a series, in the order of their position.

    Args:
        paths: its files.
        where: what to name in an error; never a path.

    Raises:
        InputError: a file is damaged, slices differ in orientation or size, lie at one place or unevenly, or voxels
            are no numbers.

    Source: DICOM PS3.3, C.7.6.2 (image plane), C.7.6.16.2 (frames of enhanced objects), C.11.1 (rescaling).
    """
    slices: list[tuple[Plane, Voxels]] = []
    for number, path in enumerate(paths, start=1):
        place = f"{where}, its file {number} of {len(paths)} by name"
        dataset = read_dicom(path, where=place)
        try:
            slices += _slices(dataset)
        except DAMAGED as error:
            raise damaged_dicom(place, error) from None
    if not slices:
        raise InputError("a series without a slice", where=where, remedy="leave it out")
    shapes = {pixels.shape for _, pixels in slices}
    if len(shapes) > 1:
        raise InputError(f"slices of {len(shapes)} sizes", where=where, remedy="keep those of one image")
    affine, order = grid_of([plane for plane, _ in slices], where=where)
    rows, columns = shapes.pop()
    check_grid((columns, rows, len(slices)), affine, where=where)
    data = np.empty((columns, rows, len(slices)), dtype=np.float32)
    for index, number in enumerate(order):
        data[:, :, index] = slices[number][1].T
    return Image(data=check_intensities(data, where), affine=affine)


def grid_of(planes: Sequence[Plane], *, where: str) -> tuple[Affine, list[int]]:
    """Returns the affine of evenly spaced planes, and their order along k.

    Raises:
        InputError: they are not parallel, several lie at one place, or their distances differ.
    """
    first = planes[0]
    if any(
        np.abs(plane.axes - first.axes).max() > _SAME_DIRECTION
        or not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=1e-3)
        for plane in planes
    ):
        raise InputError("slices of several orientations or spacings", where=where, remedy="keep those of one image")
    heights = np.array([plane.position @ first.normal for plane in planes])
    order = np.argsort(heights, kind="stable").tolist()
    steps = np.diff(heights[order])
    if len(planes) == 1:
        if first.thickness_mm <= 0:
            raise InputError("one slice of unknown thickness", where=where, remedy="leave it out")
        across = first.normal * first.thickness_mm
    else:
        mean = float(steps.mean())
        if steps.min() < 1e-3:
            raise InputError("several slices at one place", where=where, remedy="split the phases into series")
        if np.abs(steps - mean).max() > _UNEVEN * mean + 1e-2:
            raise InputError(
                f"distances between slices from {steps.min():.3f} to {steps.max():.3f} mm",
                where=where,
                remedy="a slice is missing: export the series again",
            )
        # Between the outermost slices, so that a tilted gantry gives a sheared grid and rounding does not add up.
        across = (planes[order[-1]].position - planes[order[0]].position) / (len(planes) - 1)
    return plane_affine(planes[order[0]], across), order


def plane_affine(plane: Plane, across: Float[np.ndarray, " 3"]) -> Affine:
    """Returns the affine of a stack that begins at `plane`, with `across` (LPS, mm) from slice to slice."""
    affine = np.eye(4)
    affine[:3, 0] = plane.axes[0] * plane.spacing_mm[0]
    affine[:3, 1] = plane.axes[1] * plane.spacing_mm[1]
    affine[:3, 2] = across
    affine[:3, 3] = plane.position
    return _TO_RAS @ affine


def plane_of(holder: Any, shared: Any, frame: Any) -> Plane:
    """Returns where a frame lies: by its own functional groups, those all frames share, or the file's plain elements.

    Raises:
        AttributeError, ValueError, TypeError, IndexError: it does not say it, or not in numbers.
    """
    position = _element(holder, shared, frame, "PlanePositionSequence", "ImagePositionPatient")
    direction = _element(holder, shared, frame, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = _element(holder, shared, frame, "PixelMeasuresSequence", "PixelSpacing")
    axes = np.array([float(number) for number in direction]).reshape(2, 3)
    placed = np.array([float(number) for number in position]).reshape(3)
    between_rows, between_columns = (float(step) for step in spacing)
    if not (np.isfinite(axes).all() and np.isfinite(placed).all()) or np.abs(axes @ axes.T - np.eye(2)).max() > 1e-2:
        raise ValueError("axes of an image that are no right angle")
    try:
        thickness = float(_element(holder, shared, frame, "PixelMeasuresSequence", "SliceThickness") or 0)
    except AttributeError:
        thickness = 0.0
    return Plane(axes=axes, position=placed, spacing_mm=(between_columns, between_rows), thickness_mm=thickness)


def frames_of(dataset: Dataset) -> list[Any]:
    """Returns the functional groups of each frame; one None for a file of a single plain frame.

    Raises:
        ValueError: there are not as many as frames.
    """
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    num_frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if groups is None:
        if num_frames != 1:
            raise ValueError("frames that do not say where they lie")
        return [None]
    if len(groups) != num_frames:
        raise ValueError("not as many functional groups as frames")
    return list(groups)


def shared_groups(dataset: Dataset) -> Any:
    """Returns the functional groups that all frames share, or None."""
    shared = dataset.get("SharedFunctionalGroupsSequence")
    return shared[0] if shared else None


def _slices(dataset: Dataset | None) -> Iterator[tuple[Plane, Voxels]]:
    if dataset is None:
        return
    shared = shared_groups(dataset)
    for number, frame in enumerate(frames_of(dataset)):
        plane = plane_of(dataset, shared, frame)
        slope, inter = (_rescale(dataset, shared, frame, key) for key in ("RescaleSlope", "RescaleIntercept"))
        pixels = frame_of(dataset, number).astype(np.float64)
        scaled: Voxels = (pixels * (1.0 if slope is None else slope) + (inter or 0.0)).astype(np.float32)
        yield plane, scaled


def _rescale(holder: Any, shared: Any, frame: Any, key: str) -> float | None:
    try:
        value = _element(holder, shared, frame, "PixelValueTransformationSequence", key)
    except AttributeError:
        return None
    return None if value is None or value == "" else float(value)


def _element(holder: Any, shared: Any, frame: Any, sequence: str, key: str) -> Any:
    for groups in (frame, shared):
        items = groups.get(sequence) if groups is not None else None
        if items and key in items[0]:
            return getattr(items[0], key)
    return getattr(holder, key)
