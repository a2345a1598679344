"""Small changes to a crop that leave its anatomy what it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import RandAdjustContrastd, RandGaussianNoised, RandShiftIntensityd
from monai.transforms.spatial.dictionary import RandAffined

from vesalius.arrays import Voxels

MAX_ANGLE = math.radians(10)
MAX_SCALE = 0.1


def augmented(
    image: Voxels, masks: Bool[np.ndarray, "n i j k"], *, seed: int
) -> tuple[Voxels, Bool[np.ndarray, "n i j k"]]:
    """Returns a crop turned by up to 10°, scaled by up to 10 %, with a little contrast, shift and noise.

    Nothing is mirrored: the left kidney would become a right one. The first mask is the drawn structure: where turning
    and scaling would move its last voxel out of the crop, both are left out.

    Args:
        image: `i j k`.
        masks: `n i j k`, moved along with the image; others than the first may come back empty.
        seed: decides everything.
    """
    moved = _transform(image, masks, seed=seed, with_motion=True)
    if not moved[1][0].any():
        moved = _transform(image, masks, seed=seed, with_motion=False)
    return moved


def _transform(
    image: Voxels, masks: Bool[np.ndarray, "n i j k"], *, seed: int, with_motion: bool
) -> tuple[Voxels, Bool[np.ndarray, "n i j k"]]:
    motion = RandAffined(
        keys=("image", "masks"),
        prob=1.0 if with_motion else 0.0,
        rotate_range=(MAX_ANGLE,) * 3,
        scale_range=(MAX_SCALE,) * 3,
        mode=("bilinear", "nearest"),
        padding_mode=("border", "zeros"),
    )
    chain = Compose(
        [
            motion,
            RandAdjustContrastd(keys="image", prob=0.3, gamma=(0.7, 1.4), retain_stats=True),
            RandShiftIntensityd(keys="image", prob=0.5, offsets=0.1),
            RandGaussianNoised(keys="image", prob=0.3, std=0.1),
        ]
    )
    chain.set_random_state(seed=seed)
    done: Any = chain({"image": torch.from_numpy(image)[None], "masks": torch.from_numpy(masks.astype(np.float32))})
    return (
        np.ascontiguousarray(np.asarray(done["image"], dtype=np.float32)[0]),
        np.asarray(done["masks"]) > 0.5,
    )
