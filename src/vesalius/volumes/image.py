"""Images and label maps, and how they are read from NIfTI, NRRD and MetaImage files."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Real, Shaped

from vesalius.arrays import Affine, LabelVoxels, Voxels
from vesalius.errors import InputError
from vesalius.folder import unreadable
from vesalius.volumes.meta_file import read_meta
from vesalius.volumes.nifti_file import read_nifti
from vesalius.volumes.nrrd_file import Segment, read_nrrd

SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha")
"""File name endings that can be read, longer before shorter."""

GRID_TOLERANCE = 0.1
"""Voxels. Two grids are the same where no corner voxel moves further than this: tools round spacings and directions, and a
quaternion of single precision says a turn less exactly than a matrix."""

_NEARLY_WHOLE = 1e-3
"""How far a label value may lie from a whole number."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Image:
    """Intensities on a grid.

    Attributes:
        data: `i j k`, finite.
        affine: voxel index → world mm, RAS+; invertible.
        clipped: whether its source clipped or normalised the intensities already (0–255, zero mean): they are in no
            unit of the modality, and are not clipped again.

    Raises:
        InputError: `affine` is not invertible, or an axis holds no voxel.
    """

    data: Real[np.ndarray, "i j k"]
    affine: Affine
    clipped: bool = False

    def __post_init__(self) -> None:
        check_grid(self.data.shape, self.affine)


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelMap:
    """Label values on a grid, and what the dataset calls them.

    Attributes:
        data: `i j k`; 0 is background.
        affine: voxel index → world mm, RAS+; invertible.
        labels: value → the label as the dataset writes it. Values of one text are one structure in pieces.
        ignored: values that are no structure of this label map although they have no text: a value that another label
            map over the same array names, a dataset's "ignore" label.
        undrawn: labels that the dataset lists for the case, but that no value of it is known to draw.
        labelling: who drew it. The label maps of a case that share it are layers of one drawing; what several
            labellings (two atlases) draw is taken from the first of them.

    Raises:
        InputError: `affine` is not invertible, or an axis holds no voxel.
    """

    data: LabelVoxels
    affine: Affine
    labels: Mapping[int, str]
    ignored: frozenset[int] = frozenset()
    undrawn: frozenset[str] = frozenset()
    labelling: str = ""

    def __post_init__(self) -> None:
        check_grid(self.data.shape, self.affine)


def check_grid(shape: Sequence[int], affine: Affine, *, where: object | None = None) -> None:
    """Checks that a grid holds voxels and that its affine can be inverted.

    Raises:
        InputError: an axis is empty, or `affine` is not finite or not invertible.
    """
    if 0 in shape:
        raise InputError(f"a grid of shape {tuple(shape)} holds no voxel", where=where, remedy="export it again")
    matrix = affine[:3, :3]
    lengths = np.linalg.norm(matrix, axis=0)
    finite = bool(np.isfinite(affine).all())
    # The determinant of the unit axes does not depend on the spacing: 1 for orthogonal axes, 0 for coplanar ones.
    if not finite or not lengths.all() or abs(float(np.linalg.det(matrix / lengths))) < 1e-6:
        raise InputError(
            f"the affine {np.round(matrix, 4).tolist()} cannot be inverted",
            where=where,
            remedy="write the file again with its spacing and orientation",
        )


def check_same_grid(image: Image, label_map: LabelMap, *, where: object | None = None) -> None:
    """Checks that a label map lies on an image's own grid.

    Raises:
        InputError: the shapes differ, or a corner lies further than `GRID_TOLERANCE` of the smallest spacing from its
            counterpart.
    """
    if image.data.shape != label_map.data.shape:
        raise InputError(
            f"the label map has shape {label_map.data.shape}, its image {image.data.shape}",
            where=where,
            remedy="resample the label map to the image's grid",
        )
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
    corners[:, :3] *= np.array(image.data.shape) - 1
    moved_mm = float(np.linalg.norm((corners @ (image.affine - label_map.affine).T)[:, :3], axis=1).max())
    most_mm = GRID_TOLERANCE * float(np.linalg.norm(image.affine[:3, :3], axis=0).min())
    if moved_mm > most_mm:
        raise InputError(
            f"the label map lies up to {moved_mm:.4g} mm off its image's grid (at most {most_mm:.4g} mm)",
            where=where,
            remedy="resample the label map to the image's grid",
        )


def stem_of(path: Path) -> str:
    """Returns a file's name without its image suffix, `.nii.gz` as one.

    Raises:
        InputError: the suffix is none of `SUFFIXES`.
    """
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    raise InputError("not a file this version reads", where=path, remedy=f"give one of {', '.join(SUFFIXES)}")


def read_image(path: Path, *, channel: int | None = None) -> Image:
    """Reads an image in its own orientation; intensities as float32, the file's scaling applied.

    Args:
        path: NIfTI, NRRD or MetaImage.
        channel: which one to take along the last of 4 axes; None for a file of 3.

    Raises:
        InputError: the file is missing, damaged, not 3D, holds no number in some voxel, or its affine is no use.
    """
    file = _read(path)
    if file.segments:
        raise InputError("this is a segmentation, not an image", where=path, remedy="give the image it belongs to")
    data = file.data
    if channel is not None:
        if data.ndim != 4 or channel >= data.shape[3]:
            raise InputError(
                f"no channel {channel} in an array of shape {data.shape}", where=path, remedy="check its channels"
            )
        data = data[..., channel]
    volume = _checked_volume(data, file.affine, path)
    return Image(data=check_intensities(volume, path, slope=file.slope, inter=file.inter), affine=file.affine)


def check_intensities(
    data: Shaped[np.ndarray, "i j k"], where: object, *, slope: float = 1.0, inter: float = 0.0
) -> Voxels:
    """Returns intensities as float32, in memory order, scaled.

    Args:
        data: as stored.
        where: what to name in an error.
        slope: that stored values are multiplied with.
        inter: that is added then.

    Raises:
        InputError: a voxel is NaN or infinite.
    """
    intensities: Voxels = np.empty(data.shape, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        if (slope, inter) == (1.0, 0.0):
            intensities[:] = data
        else:
            for plane in range(data.shape[2]):  # plane by plane: doubles of the whole would be twice the memory
                intensities[:, :, plane] = data[:, :, plane].astype(np.float64) * slope + inter
    num_bad = intensities.size - int(np.isfinite(intensities).sum())
    if num_bad:
        raise InputError(
            f"{num_bad} of {intensities.size} voxels are NaN or infinite",
            where=where,
            remedy="replace them, e.g. with the background's intensity",
        )
    return intensities


def read_label_map(path: Path, labels: Mapping[int, str] | None = None) -> LabelMap:
    """Reads a label map of one layer in its own orientation.

    Args:
        path: NIfTI, NRRD or MetaImage; a `.seg.nrrd` names its own segments.
        labels: value → label; takes the place of the names in the file. Without either, no value has a name.

    Raises:
        InputError: as `read_label_maps`, or the file holds several layers.
    """
    label_maps = read_label_maps(path, labels)
    if len(label_maps) > 1:
        raise InputError(
            f"{len(label_maps)} layers of overlapping segments where one is asked for",
            where=path,
            remedy="export the segments without overlap, or read all layers",
        )
    return label_maps[0]


def read_label_maps(path: Path, labels: Mapping[int, str] | None = None) -> list[LabelMap]:
    """Reads a label map, one for each layer of a `.seg.nrrd` whose segments overlap.

    Args:
        path: NIfTI, NRRD or MetaImage.
        labels: value → label; takes the place of the names in the file (which must then be of one layer).

    Raises:
        InputError: the file is missing, damaged, not 3D, holds other than whole numbers, or its affine is no use.
    """
    file = _read(path)
    layered = bool(file.segments) and file.data.ndim == 4
    layers = list(file.data) if layered else [file.scaled]
    if labels is not None and len(layers) > 1:
        raise InputError(
            f"a label table cannot name the segments of {len(layers)} layers",
            where=path,
            remedy="leave the table out: the file names its segments",
        )
    return [
        LabelMap(
            data=whole_numbers(_checked_volume(layer, file.affine, path), path, step=file.step),
            affine=file.affine,
            labels=labels if labels is not None else file.names_of(number),
        )
        for number, layer in enumerate(layers)
    ]


def read_label_stack(path: Path) -> list[LabelMap]:
    """Reads a label map, or a stack of masks that lie one behind the other along the first of 4 axes.

    Returns:
        One label map without names for a file of 3 axes, one a mask for a file of 4, on the grid of the last 3.

    Raises:
        InputError: as `read_label_maps`.
    """
    file = _read(path)
    stacked = file.data.ndim == 4 and file.data.shape[3] > 1
    return [
        LabelMap(
            data=whole_numbers(_checked_volume(layer, file.affine, path), path, step=file.step),
            affine=file.affine,
            labels={},
        )
        for layer in (file.scaled if stacked else [file.scaled])
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _File:
    data: Shaped[np.ndarray, ...]
    affine: Affine
    slope: float = 1.0
    inter: float = 0.0
    segments: tuple[Segment, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def scaled(self) -> Shaped[np.ndarray, ...]:
        if (self.slope, self.inter) == (1.0, 0.0) or self.data.dtype.kind not in "biuf":
            return self.data
        return self.data.astype(np.float64) * self.slope + self.inter

    @property
    def step(self) -> float:
        """Distance of neighbouring values, where whole numbers are stored and scaled to others; else 0."""
        return abs(self.slope) if self.slope != 1 and self.data.dtype.kind in "iu" else 0.0

    def names_of(self, layer: int) -> dict[int, str]:
        return {s.value: s.name for s in self.segments if s.layer == layer} or dict(self.names)


def _read(path: Path) -> _File:
    stem_of(path)
    try:
        if path.name.lower().endswith(".nrrd"):
            nrrd = read_nrrd(path)
            return _File(data=nrrd.data, affine=nrrd.affine, segments=nrrd.segments)
        if path.name.lower().endswith(".mha"):
            meta = read_meta(path)
            return _File(data=meta.data, affine=meta.affine)
        nifti = read_nifti(path)
        return _File(data=nifti.data, affine=nifti.affine, slope=nifti.slope, inter=nifti.inter, names=nifti.names)
    except OSError as error:
        # A number is the system's (no such file); without one it is gzip's or bzip2's word on damaged content.
        raise unreadable(path, error) if error.errno is not None else damaged(path, error) from error
    except (EOFError, ValueError, KeyError, OverflowError, zlib.error) as error:
        raise damaged(path, error) from error


def damaged(where: object, error: Exception) -> InputError:
    """Returns the error to raise where a file's content could not be read."""
    said = str(error).strip().splitlines()
    return InputError(
        f"cannot be read ({said[0][:200] if said else type(error).__name__})",
        where=where,
        remedy="the file is damaged or cut short: copy it again",
    )


def _checked_volume(data: Shaped[np.ndarray, ...], affine: Affine, path: Path) -> Shaped[np.ndarray, "i j k"]:
    if data.dtype.kind not in "biuf":
        raise InputError(
            f"voxels of type {data.dtype}, not one number each", where=path, remedy="convert it to intensities"
        )
    volume = data.reshape(data.shape[:3]) if data.ndim > 3 and set(data.shape[3:]) == {1} else data
    if volume.ndim != 3:
        raise InputError(
            f"an array of shape {data.shape}, not a volume of 3 axes", where=path, remedy="split it into volumes"
        )
    check_grid(volume.shape, affine, where=path)
    return volume


def whole_numbers(data: Shaped[np.ndarray, "i j k"], where: object, *, step: float = 0.0) -> LabelVoxels:
    """Returns label values as the smallest signed integers that hold them, at least 16 bits.

    Args:
        data: label values; floats as whole as they were stored.
        where: what to name in an error.
        step: between neighbouring values, where they were scaled: in steps of 13/255, a 1 comes back as 1.02.

    Raises:
        InputError: a value is no whole number.
    """
    if data.dtype.kind == "f":
        whole = np.rint(data)
        furthest = max(_NEARLY_WHOLE, min(0.51 * step, 0.1))
        if not (np.isfinite(data).all() and np.abs(data - whole).max() <= furthest):
            raise InputError(
                "a label map with values that are not whole numbers", where=where, remedy="give label values"
            )
        data = whole
    low, high = data.min(), data.max()
    for dtype in (np.int16, np.int32, np.int64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return np.ascontiguousarray(data, dtype=dtype)
    raise InputError(f"label values up to {high}", where=where, remedy="number the labels from 1")
