"""The grid of an array that does not say where it lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nibabel import orientations

from vesalius.arrays import Affine


def plain_affine(orientation: str, spacing_mm: Sequence[float]) -> Affine:
    """Returns an affine whose i, j and k run to `orientation`, with the first voxel at the world's origin.

    Args:
        orientation: such as ``LPS``.
        spacing_mm: along i, j, k.
    """
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (towards, step) in enumerate(zip(orientations.axcodes2ornt(tuple(orientation)), spacing_mm, strict=True)):
        affine[int(towards[0]), axis] = float(towards[1]) * float(step)
    return affine
