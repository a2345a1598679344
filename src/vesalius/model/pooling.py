"""Means of a feature map over masks: one pass over the map, whatever the number of masks.

A map is read as rows, one voxel each, in pieces that stay in the processor's cache; a piece of all masks and a piece of the map
make one small matrix product. Masks stay boolean: only the piece at work is turned into numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_PIECE_BYTES = {"cpu": 2**20}
_PIECE_BYTES_ELSEWHERE = 2**27
_RUN = 256


def mean_over_masks(features: Float[Tensor, "c i j k"], masks: Bool[Tensor, "n i j k"]) -> Float[Tensor, "n c"]:
    """Returns the mean of a feature map over each mask; zeros for an empty one.

    The published repeat–multiply–sum makes `n c i j k` first. Here nothing but the masks is kept for the gradient. Quickest on
    maps whose channels lie together in memory (``torch.channels_last_3d``); right on all.

    Args:
        features: the map. Sums of half precision are taken in float32, and so are the means.
        masks: `n` masks; they may overlap.
    """
    return _MeanOverMasks.apply(features, masks.flatten(start_dim=1))  # pyright: ignore[reportReturnType]


def halve(masks: Bool[Tensor, "n i j k"]) -> Bool[Tensor, "n i2 j2 k2"]:
    """Returns masks on a grid of half the voxels along each axis, rounded up: a voxel is inside where one of its (up to) 8 is."""
    missing = [size % 2 for size in masks.shape[:0:-1]]
    if any(missing) or masks.storage_offset() % 2:
        masks = F.pad(masks, [amount for odd in missing for amount in (0, odd)])
    masks = masks.contiguous().view(torch.int16) != 0  # two neighbours along the last axis are one number
    masks = masks[:, :, 0::2] | masks[:, :, 1::2]
    return masks[:, 0::2] | masks[:, 1::2]


def as_rows(features: Float[Tensor, "c i j k"]) -> Float[Tensor, "v c"]:
    """Returns a view of a map with one voxel a row; the map has channels first or last in memory."""
    return features.flatten(start_dim=1).T


def pieces(rows: Float[Tensor, "v c"]) -> Iterator[slice]:
    """Gives the rows in pieces: of a size for the cache on a processor, of few calls on a GPU."""
    return pieces_of(len(rows), row_bytes=rows.shape[1] * rows.element_size(), device=rows.device)


def pieces_of(num: int, *, row_bytes: int, device: torch.device) -> Iterator[slice]:
    """Gives `num` rows of that many bytes in such pieces; a row at least."""
    size = max(1, _PIECE_BYTES.get(device.type, _PIECE_BYTES_ELSEWHERE) // row_bytes)
    for start in range(0, num, size):
        yield slice(start, min(num, start + size))


def exact_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns what sums of numbers of `dtype` are taken in: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def sums_of(rows: Float[Tensor, "v c"], masks: Bool[Tensor, "n v"], dtype: torch.dtype) -> Float[Tensor, "n c"]:
    """Returns the sum of `rows` over each mask.

    A matrix product adds one row after the other; over thousands of rows float32 would lose a digit and more. Runs of 256 rows
    are added first, then their sums.
    """
    rows, weights = rows.to(dtype), masks.to(dtype)
    even = len(rows) - len(rows) % _RUN
    runs = weights[:, :even].unflatten(1, (-1, _RUN)).transpose(0, 1) @ rows[:even].unflatten(0, (-1, _RUN))
    return runs.sum(dim=0) + weights[:, even:] @ rows[even:]


def add_gradient(gradient: Float[Tensor, "v c"], of_sums: Float[Tensor, "n c"], masks: Bool[Tensor, "n v"]) -> None:
    """Adds to the gradient of rows what comes of the gradient of their sums."""
    gradient.addmm_(masks.to(gradient.dtype).T, of_sums)


def num_voxels(masks: Bool[Tensor, "n v"], dtype: torch.dtype) -> Float[Tensor, "n 1"]:
    """Returns what to divide sums by: the voxels of each mask, 1 for an empty one."""
    # One by one: torch counts the whole of a tensor thirty times as fast as the rows of one.
    counts = [torch.count_nonzero(mask) for mask in masks]
    return torch.stack(counts).clamp(min=1).to(dtype)[:, None] if counts else masks.new_ones((0, 1), dtype=dtype)


class _MeanOverMasks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, masks: Tensor) -> Tensor:
        rows = as_rows(features)
        dtype = exact_dtype(features.dtype)
        with torch.autocast(features.device.type, enabled=False):
            sums = torch.stack([sums_of(rows[piece], masks[:, piece], dtype) for piece in pieces(rows)]).sum(dim=0)
        voxels = num_voxels(masks, sums.dtype)
        ctx.save_for_backward(masks, voxels)
        ctx.grid, ctx.dtype = features.shape[1:], features.dtype
        return sums / voxels

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_means: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        masks, voxels = ctx.saved_tensors
        of_sums = (of_means / voxels).to(ctx.dtype)
        rows = of_sums.new_empty((masks.shape[1], of_sums.shape[1]))
        for piece in pieces(rows):
            torch.mm(masks[:, piece].to(ctx.dtype).T, of_sums, out=rows[piece])
        return rows.T.unflatten(1, ctx.grid), None
