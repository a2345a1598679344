"""Grids in space: spacing, orientation, resampling."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Float, Float32, Int, Shaped
from nibabel import orientations
from scipy import ndimage

from vesalius.arrays import Affine, LabelVoxels, Voxels
from vesalius.errors import SettingError
from vesalius.volumes.image import Image, LabelMap

Grid = TypeVar("Grid", Image, LabelMap)
Spacing = tuple[float, float, float]
Shape = tuple[int, int, int]

_AXES = ("LR", "PA", "IS")


def spacing_mm(affine: Affine) -> Spacing:
    """Returns the distance of neighbouring voxels along i, j, k in mm."""
    i, j, k = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return i, j, k


def orientation_of(affine: Affine) -> str:
    """Returns the direction that i, j and k run to, e.g. ``RAS``; the nearest one where the grid is oblique."""
    return "".join(str(code) for code in orientations.aff2axcodes(affine))


def check_orientation(orientation: str) -> None:
    """Checks that `orientation` names one direction of each world axis, e.g. ``RAS`` or ``ASR``.

    Raises:
        SettingError: it does not.
    """
    named = [pair for code in orientation for pair in _AXES if code in pair]
    if len(orientation) != 3 or sorted(named) != sorted(_AXES):
        raise SettingError(
            f"orientation {orientation!r} is none of the 48",
            remedy="name where i, j and k run to with one letter each of L/R, P/A, I/S, e.g. RAS",
        )


def reorient(grid: Grid, orientation: str) -> Grid:
    """Returns `grid` with its axes permuted and flipped to run towards `orientation`; no value changes.

    An oblique grid stays oblique: its axes only come to the nearest order.

    Raises:
        SettingError: `orientation` is none of the 48.
    """
    check_orientation(orientation)
    now = orientations.io_orientation(grid.affine)
    transform = orientations.ornt_transform(now, orientations.axcodes2ornt(tuple(orientation)))
    affine = grid.affine @ orientations.inv_ornt_aff(transform, grid.data.shape)
    data = np.ascontiguousarray(orientations.apply_orientation(grid.data, transform))
    return replace(grid, data=data, affine=affine)


def to_canonical(grid: Grid) -> Grid:
    """Returns `grid` in RAS+ order; exact, from any of the 48 orientations."""
    return reorient(grid, "RAS")


def grid_with_spacing(grid: Image | LabelMap, spacing: Spacing) -> tuple[Affine, Shape]:
    """Returns affine and shape of the grid with other spacing over the same field of view.

    Both grids have the same axes and the same centre; the size along an axis is rounded to whole voxels, at least one.
    At the grid's own spacing it is the grid itself.

    Args:
        grid: an image or a label map.
        spacing: along i, j, k in mm.

    Raises:
        SettingError: a spacing is not a positive number.
    """
    check_spacing(spacing)
    factors = np.array(spacing) / np.array(spacing_mm(grid.affine))
    factors = np.where(np.isclose(factors, 1, rtol=0, atol=1e-6), 1.0, factors)
    old = np.array(grid.data.shape)
    # Rounded first: a size of 10.5 - 1e-13 and one of 10.5 + 1e-13 are the same grid in another orientation.
    new = np.maximum(1, np.floor(np.round(old / factors, 6) + 0.5)).astype(int)
    affine = np.array(grid.affine)
    affine[:3, :3] = grid.affine[:3, :3] * factors
    affine[:3, 3] = grid.affine[:3, 3] + grid.affine[:3, :3] @ ((old - 1) / 2 - factors * (new - 1) / 2)
    i, j, k = new.tolist()
    return affine, (i, j, k)


def check_spacing(spacing: Spacing) -> None:
    """Checks that a spacing is three positive numbers of mm.

    Raises:
        SettingError: it is not.
    """
    if not all(math.isfinite(step) and step > 0 for step in spacing):
        raise SettingError(f"spacing {spacing} mm", remedy="give three positive numbers of mm, e.g. 1 1 3")


def resample(grid: Grid, affine: Affine, shape: Shape, *, order: Literal[0, 1], anti_alias: bool = False) -> Grid:
    """Returns `grid` sampled on another grid in the same world.

    Args:
        grid: an image or a label map.
        affine: of the other grid.
        shape: of the other grid.
        order: 1 interpolates an image linearly and repeats its edge outside; 0 takes the nearest voxel of a label map
            and gives background (0) outside. Where two voxels are as near, the one of higher index.
        anti_alias: smooth an image first along the axes that lose resolution, so that thin structures do not fall
            between samples.

    Raises:
        SettingError: order 1 for a label map, 0 for an image, or `anti_alias` for a label map.

    Source: anti-aliasing after Cardoso et al., *Scale factor point spread function matching*, MICCAI 2015, eq. 3.
    """
    if isinstance(grid, LabelMap) is (order == 1) or (isinstance(grid, LabelMap) and anti_alias):
        raise SettingError(
            f"order {order} (anti_alias {anti_alias}) for {type(grid).__name__}",
            remedy="take order 1 for images; order 0 without anti_alias for label maps",
        )
    # Rounded to a billionth of a voxel, so that how a grid was stored cannot decide which of two equal voxels is taken.
    transform = np.round(np.linalg.inv(grid.affine) @ affine, 9)
    if isinstance(grid, LabelMap):
        return replace(grid, data=_nearest(grid.data, transform, shape), affine=affine)
    data = np.asarray(grid.data, dtype=np.float32)
    if anti_alias:
        data = _smoothed(data, transform)
    return replace(grid, data=_linear(data, transform, shape), affine=affine)


def resample_labels_to(label_map: LabelMap, image: Image) -> LabelMap:
    """Returns a label map on the grid of `image`, by both affines: an atlas on its own grid comes to the image's."""
    i, j, k = image.data.shape
    return resample(label_map, image.affine, (i, j, k), order=0)


def _linear(data: Voxels, transform: Float[np.ndarray, "4 4"], shape: Shape) -> Float32[np.ndarray, "p q r"]:
    matrix, offset = transform[:3, :3], transform[:3, 3]
    if np.array_equal(transform, np.eye(4)) and data.shape == shape:
        return data
    # For a diagonal, SciPy interpolates without computing each voxel's coordinates.
    linear = matrix if np.count_nonzero(matrix - np.diag(np.diag(matrix))) else np.diag(matrix)
    # SciPy's stubs know an offset of one number only.
    return ndimage.affine_transform(data, linear, list(offset), output_shape=shape, order=1, mode="nearest")  # pyright: ignore[reportArgumentType]


def _smoothed(data: Voxels, transform: Float[np.ndarray, "4 4"]) -> Voxels:
    # How many voxels of `data` a step of the other grid spans, along each axis of `data`.
    factors = np.linalg.norm(transform[:3, :3], axis=1)
    sigmas = np.sqrt(np.maximum(factors**2 - 1, 0) / (8 * math.log(2)))
    # Four deviations to each side, but no more than there are voxels: a header may claim any factor.
    radii = [min(int(4 * sigma + 0.5), size) for sigma, size in zip(sigmas, data.shape, strict=True)]
    return ndimage.gaussian_filter(data, sigmas, mode="nearest", radius=radii)


def _nearest(data: LabelVoxels, transform: Float[np.ndarray, "4 4"], shape: Shape) -> Int[np.ndarray, "p q r"]:
    matrix, offset = transform[:3, :3], transform[:3, 3]
    used = matrix != 0
    if (used.sum(axis=0) == 1).all() and (used.sum(axis=1) == 1).all():
        return _nearest_along_axes(data, matrix, offset, shape)
    return ndimage.affine_transform(data, matrix, list(offset), output_shape=shape, order=0, mode="grid-constant")  # pyright: ignore[reportArgumentType]


def _nearest_along_axes(
    data: LabelVoxels, matrix: Float[np.ndarray, "3 3"], offset: Float[np.ndarray, " 3"], shape: Shape
) -> Int[np.ndarray, "p q r"]:
    """Nearest neighbours where each axis of the one grid runs along one axis of the other: a choice of planes."""
    towards = [int(np.flatnonzero(row)[0]) for row in matrix]  # axis of `data` → axis of the other grid
    inside: list[Shaped[np.ndarray, " n"]] = [np.empty(0, dtype=int)] * 3
    planes = []
    for axis, other in enumerate(towards):
        index = np.floor(matrix[axis, other] * np.arange(shape[other]) + offset[axis] + 0.5).astype(int)
        inside[other] = np.flatnonzero((index >= 0) & (index < data.shape[axis]))
        planes.append(index[inside[other]])
    moved = np.zeros(shape, dtype=data.dtype)
    moved[np.ix_(*inside)] = data[np.ix_(*planes)].transpose(np.argsort(towards))
    return moved
