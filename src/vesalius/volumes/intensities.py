"""Intensities: clipped, brought to zero mean and unit variance, and kept as whole levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped, UInt16

from vesalius.arrays import Affine, Box, Voxels
from vesalius.errors import InputError
from vesalius.ids import Modality
from vesalius.volumes.image import Image

CT_WINDOW_HU = (-500.0, 1000.0)
PERCENTILES = (0.5, 99.5)

NUM_STEPS = 48_000
"""Steps between the clip bounds: in ct 1/32 HU each, so that whole HU are kept exactly."""

Levels = UInt16[np.ndarray, "i j k"]
"""Intensities as steps above the lower clip bound, 0 … `NUM_STEPS`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedImage:
    """An image as models see it.

    Attributes:
        levels: `i j k`, steps above the lower bound of `clip`.
        scale: what a level is multiplied by.
        offset: what is added then: the intensity of level 0.
        affine: voxel index → world mm, RAS+.
        crop_start: first voxel of the crop on the resampled grid, i j k.
        clip: lower and upper bound the intensities were clipped to, in the image's own unit.
        mean: that was subtracted after clipping.
        std: that was divided by.
    """

    levels: Levels
    scale: float
    offset: float
    affine: Affine
    crop_start: tuple[int, int, int]
    clip: tuple[float, float]
    mean: float
    std: float

    @property
    def image(self) -> Voxels:
        """The intensities, `i j k`, zero mean and unit variance."""
        return intensities(self.levels, scale=self.scale, offset=self.offset)


def intensities(
    levels: Shaped[np.ndarray, ...], *, scale: float, offset: float, out: Shaped[np.ndarray, ...] | None = None
) -> Shaped[np.ndarray, ...]:
    """Returns levels as float32 intensities: the one place where this is computed.

    Args:
        levels: whole numbers, of any shape.
        scale: what a level is multiplied by.
        offset: what is added then.
        out: float32, of the same shape, to write them to.
    """
    made = np.multiply(levels, np.float32(scale), out=out, dtype=np.float32, casting="same_kind")
    return np.add(made, np.float32(offset), out=made)


def foreground_of(image: Image, modality: Modality) -> Bool[np.ndarray, "i j k"]:
    """Returns what lies above the lowest intensity, in ct after clipping: the body without the air around it.

    Raises:
        InputError: the image is of one intensity.
    """
    lowest = float(image.data.min())
    if modality == "ct" and not image.clipped:
        lowest = max(lowest, CT_WINDOW_HU[0])
    foreground: Bool[np.ndarray, "i j k"] = image.data > lowest
    if not foreground.any():
        raise InputError(f"an image of one intensity ({lowest:g})", remedy="leave the case out")
    return foreground


def normalise_image(
    image: Image, modality: Modality, *, foreground: Bool[np.ndarray, "i j k"], box: Box
) -> PreparedImage:
    """Crops to `box`, clips, and gives zero mean and unit variance over the crop.

    CT is clipped to `CT_WINDOW_HU`, other modalities to `PERCENTILES` of their foreground, and what its source clipped
    already to nothing. Between the bounds an intensity is rounded to one of `NUM_STEPS` equal steps. Mean and variance
    are those of the rounded intensities, summed as whole numbers, so that they do not depend on the order of voxels.

    Raises:
        InputError: the image is of one intensity between the bounds.

    Source: SAT, arXiv 2312.17183, data preparation; we depart by rounding, by at most 1/96,000 of the clip window.
    """
    start, stop = box
    cropped: Voxels = image.data[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))].astype(np.float32)
    if image.clipped:
        low, high = float(cropped.min()), float(cropped.max())
    elif modality == "ct":
        low, high = CT_WINDOW_HU
    else:
        low, high = map(float, np.percentile(image.data[foreground], PERCENTILES))
    step = (high - low) / NUM_STEPS
    np.clip(cropped, low, high, out=cropped)
    cropped -= np.float32(low)
    if step > 0:
        cropped /= np.float32(step)
    levels: Levels = np.clip(np.rint(cropped, out=cropped), 0, NUM_STEPS, out=cropped).astype(np.uint16)
    total = int(levels.sum(dtype=np.uint64))
    squares = sum(int(np.square(plane, dtype=np.uint64).sum()) for plane in levels)
    variance = (squares * levels.size - total**2) / levels.size**2
    if variance == 0:
        raise InputError(f"an image of one intensity between {low:g} and {high:g}", remedy="leave the case out")
    mean, std = total / levels.size, variance**0.5
    affine = np.array(image.affine)
    affine[:3, 3] += image.affine[:3, :3] @ start
    return PreparedImage(
        levels=np.ascontiguousarray(levels),
        scale=float(np.float32(1 / std)),
        offset=float(np.float32(-mean / std)),
        affine=affine,
        crop_start=start,
        clip=(low, high),
        mean=low + mean * step,
        std=std * step,
    )
