"""Blosc2 arrays (`.b2nd`), as nnU-Net keeps its preprocessed cases."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from vesalius.errors import InputError
from vesalius.folder import unreadable
from vesalius.volumes.image import damaged

_MAGIC = b"b2frame\x00"
_LARGEST_RATIO = 2**14


def read_b2nd(path: Path, *, shape: tuple[int, ...] | None = None) -> Shaped[np.ndarray, ...]:
    """Reads an array.

    Args:
        path: the file.
        shape: it must have, if it is known; so an array of nothing but zeros takes no memory that its image does not.

    Raises:
        InputError: the file is missing, damaged, of another shape, or smaller than any image of its shape could be.

    Source: the contiguous frame format of C-Blosc2: magic, header length (bytes 11–15) and frame length (bytes 16–24),
    big-endian MessagePack.
    """
    import blosc2  # noqa: PLC0415  only this layout needs it; the package is in an extra

    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(25)
    except OSError as error:
        raise unreadable(path, error) from error
    if len(start) < 25 or start[2:10] != _MAGIC or int.from_bytes(start[16:24], "big") != size:
        raise damaged(path, ValueError("no Blosc2 frame of the file's own length"))
    try:
        array = blosc2.open(urlpath=str(path), mode="r")
        if not isinstance(array, blosc2.NDArray):
            raise InputError("no array, but another Blosc2 object", where=path, remedy="check what the file is")
        held, dtype = tuple(array.shape), np.dtype(array.dtype)
        if dtype.kind not in "biuf":
            raise InputError(f"values of type {dtype}", where=path, remedy="give numbers")
        if shape is not None and held != shape:
            raise InputError(f"an array of shape {held}, not {shape}", where=path, remedy="preprocess it again")
        if shape is None and math.prod(held) * dtype.itemsize > size * _LARGEST_RATIO:
            raise damaged(path, ValueError(f"an array of shape {held} in {size} bytes"))
        return np.asarray(array[:])
    except (RuntimeError, ValueError, TypeError, KeyError, OverflowError, SyntaxError) as error:
        raise damaged(path, error) from error
