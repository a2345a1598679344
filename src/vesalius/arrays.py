"""Array types with named axes.

Axis legend, used in every shape of the package:

    i j k   voxel axes in array order
    n m     items: texts, regions, rows, columns
    d       embedding or feature dimension
    c       channels of a feature map
    b       items of a batch
    t       tokens of a text
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

Voxels: TypeAlias = Float32[np.ndarray, "i j k"]
"""Intensities of an image, in array order."""

LabelVoxels: TypeAlias = Int[np.ndarray, "i j k"]
"""Label values on an image's grid; 0 is background."""

Mask: TypeAlias = Bool[np.ndarray, "i j k"]
"""Voxels of one concept."""

BoxMask: TypeAlias = Bool[np.ndarray, "_ _ _"]
"""Voxels of one concept in a box of its own, each `i j k` of its own."""

Affine: TypeAlias = Float[np.ndarray, "4 4"]
"""Voxel index (i j k 1) → world coordinate (x y z 1) in mm, RAS+."""

Box: TypeAlias = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Start (inclusive) and stop (exclusive) voxel of a box, each i j k."""
