"""Blocks of a convolutional encoder that keep one tensor each: what the convolution gave.

As plain modules a block keeps three maps for its gradient: the convolution's output for the norm, the norm's for the leaky ReLU,
and that one's for the next convolution. Here instance norm and leaky ReLU belong to what follows them: a step takes the output
of one convolution, normalises, activates, takes the means over masks, and convolves again. It keeps its input and does the first
three once more for the gradient, which costs a pass over the map in pieces that stay in the cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vesalius.model.pooling import add_gradient, as_rows, exact_dtype, num_voxels, pieces, pieces_of, sums_of

NEGATIVE_SLOPE = 1e-2
_LAYOUT = torch.channels_last_3d
_SLAB = 2**27
"""Numbers of a map that are convolved at once for the gradient of a kernel."""


def first_convolution(image: Float[Tensor, "1 c i j k"], conv: nn.Conv3d) -> Float[Tensor, "1 d i j k"]:
    """Returns the convolution of an image. One channel given to a network of several stands for as many equal ones.

    The sum of the kernel over its input channels gives the same as the repeated image.
    """
    assert conv.bias is not None
    if image.shape[1] > 1 or image.requires_grad:
        image = image.expand(-1, conv.in_channels, -1, -1, -1)
        return _convolve(image, conv.weight, conv.bias, conv.stride)
    kernels = conv.weight.sum(dim=1).flatten(start_dim=1)
    return _ConvolveOneChannel.apply(image, kernels, conv.bias)  # pyright: ignore[reportReturnType]


def pool_and_convolve(
    features: Float[Tensor, "1 c i j k"],
    *,
    norm: nn.InstanceNorm3d,
    masks: Bool[Tensor, "n v"] | None,
    conv: nn.Conv3d | None,
) -> tuple[Float[Tensor, "n c"] | None, Float[Tensor, "1 d i2 j2 k2"] | None]:
    """Normalises and activates what a convolution gave; returns the means of that over masks, and the next convolution of it.

    Args:
        features: a convolution's output, channels together in memory. With gradients off it is overwritten.
        norm: instance norm with scale and shift.
        masks: `n` masks over flattened voxels; None for no means.
        conv: the next convolution; None for none.
    """
    assert features.is_contiguous(memory_format=_LAYOUT)
    tensors = (features, norm.weight, norm.bias, *((None, None) if conv is None else (conv.weight, conv.bias)), masks)
    stride = (1, 1, 1) if conv is None else conv.stride
    if torch.is_grad_enabled():
        return _PoolAndConvolve.apply(*tensors, stride, norm.eps)  # pyright: ignore[reportReturnType]
    features, weight, bias, *_ = tensors
    moments = _moments(as_rows(features[0]), norm.eps)
    sums = _activate(features, _scale_and_shift(weight, bias, *moments), out=features, masks=masks)
    means = None if masks is None or sums is None else sums / num_voxels(masks, sums.dtype)
    return means, None if conv is None else _convolve(features, conv.weight, conv.bias, conv.stride)


class _ConvolveOneChannel(torch.autograd.Function):
    """Convolves an image of one channel as a matrix product with its 27 shifts, channels together.

    torch's convolutions write a single channel's result channels first, and take several times as long for the gradient of the kernels
    where that of the result has its channels together.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(image, kernels)
        shape = (1, len(kernels), *image.shape[2:])
        features = torch.empty(shape, dtype=image.dtype, device=image.device, memory_format=_LAYOUT)
        rows = as_rows(features[0])
        for piece, shifts in _shifts(image[0, 0]):
            rows[piece] = torch.addmm(bias.to(image.dtype), shifts.T, kernels.T.to(image.dtype))
        return features

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, of_features: Tensor
    ) -> tuple[None, Tensor, Tensor]:
        image, kernels = ctx.saved_tensors
        rows = as_rows(of_features[0])
        of_kernels, of_bias = torch.zeros_like(kernels), kernels.new_zeros(len(kernels))
        for piece, shifts in _shifts(image[0, 0]):
            of_kernels.T.addmm_(shifts.to(kernels.dtype), rows[piece].to(kernels.dtype))
            of_bias += rows[piece].sum(dim=0, dtype=kernels.dtype)
        return None, of_kernels, of_bias


def _shifts(image: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Gives, for pieces of the voxels of `i j k`, the 27 shifts of the image that a kernel of 3×3×3 reads there: `27 v`."""
    padded = F.pad(image, (1,) * 6)
    plane = image[0].numel()
    for planes in pieces_of(len(image), row_bytes=27 * plane * image.element_size(), device=image.device):
        num = planes.stop - planes.start
        places = itertools.product(range(planes.start, planes.start + 3), range(3), range(3))
        shifts = [padded[i : i + num, j : j + image.shape[1], k : k + image.shape[2]] for i, j, k in places]
        yield slice(planes.start * plane, planes.stop * plane), torch.stack(shifts).flatten(start_dim=1)


class _PoolAndConvolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        conv_weight: Tensor | None,
        conv_bias: Tensor | None,
        masks: Tensor | None,
        stride: tuple[int, ...],
        eps: float,
    ) -> tuple[Tensor | None, Tensor | None]:
        mean, inverse_deviation = _moments(as_rows(features[0]), eps)
        voxels = None if masks is None else num_voxels(masks, mean.dtype)
        ctx.save_for_backward(features, norm_weight, norm_bias, conv_weight, masks, voxels, mean, inverse_deviation)
        ctx.stride = stride
        scale_and_shift = _scale_and_shift(norm_weight, norm_bias, mean, inverse_deviation)
        activated = None if conv_weight is None else torch.empty_like(features)
        sums = _activate(features, scale_and_shift, out=activated, masks=masks)
        means = None if sums is None or voxels is None else sums / voxels
        if activated is None or conv_weight is None:
            return means, None
        return means, _convolve(activated, conv_weight, conv_bias, stride)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, of_means: Tensor | None, of_next: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        features, norm_weight, norm_bias, conv_weight, masks, voxels, mean, inverse_deviation = ctx.saved_tensors
        scale_and_shift = _scale_and_shift(norm_weight, norm_bias, mean, inverse_deviation)
        if of_next is None:
            gradient, of_weight, of_bias = torch.zeros_like(features), None, None
        else:
            activated = torch.empty_like(features)
            _activate(features, scale_and_shift, out=activated, masks=None)
            weight = conv_weight.to(features.dtype)
            of_weight, of_bias = _weight_gradient(of_next, activated, weight, ctx.stride)
            del activated
            gradient = _input_gradient(of_next, features, weight, ctx.stride)
            of_weight, of_bias = of_weight.to(conv_weight.dtype), of_bias.to(conv_weight.dtype)
        of_sums = None if voxels is None or of_means is None else of_means / voxels
        of_scale, of_shift = _norm_gradient(
            gradient, features, scale_and_shift, (mean, inverse_deviation), masks=masks, of_sums=of_sums
        )
        dtype = norm_weight.dtype
        return gradient, of_scale.to(dtype), of_shift.to(dtype), of_weight, of_bias, None, None, None


def _moments(rows: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Returns mean and inverse standard deviation of each channel."""
    dtype = exact_dtype(rows.dtype)
    mean, variance = (rows.new_zeros(rows.shape[1], dtype=dtype) for _ in range(2))
    for piece in pieces(rows):
        mean += rows[piece].sum(dim=0, dtype=dtype)
    mean /= len(rows)
    for piece in pieces(rows):
        variance += (rows[piece] - mean).square_().sum(dim=0)
    return mean, (variance / len(rows) + eps).rsqrt()


def _scale_and_shift(weight: Tensor, bias: Tensor, mean: Tensor, inverse_deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Returns instance norm as a factor and a summand of each channel."""
    scale = weight * inverse_deviation
    return scale, bias - mean * scale


def _activate(
    features: Tensor, scale_and_shift: tuple[Tensor, Tensor], *, out: Tensor | None, masks: Tensor | None
) -> Tensor | None:
    """Writes the normalised, activated map to `out` and returns its sums over masks."""
    rows = as_rows(features[0])
    scale, shift = scale_and_shift
    written = None if out is None else as_rows(out[0])
    sums = []
    for piece in pieces(rows):
        activated = F.leaky_relu_(torch.addcmul(shift, rows[piece], scale), NEGATIVE_SLOPE)
        if masks is not None:
            sums.append(sums_of(activated, masks[:, piece], scale.dtype))
        if written is not None:
            written[piece] = activated
    return None if masks is None else torch.stack(sums).sum(dim=0)


def _norm_gradient(
    gradient: Tensor,
    features: Tensor,
    scale_and_shift: tuple[Tensor, Tensor],
    moments: tuple[Tensor, Tensor],
    *,
    masks: Tensor | None,
    of_sums: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Turns the gradient of an activated map, in place, into that of its input; returns those of the norm's scale and shift."""
    (scale, shift), (mean, inverse_deviation) = scale_and_shift, moments
    rows, given = as_rows(features[0]), as_rows(gradient[0])
    of_scale, of_shift = torch.zeros_like(scale), torch.zeros_like(scale)
    for piece in pieces(rows):
        here = given[piece].to(scale.dtype)
        if masks is not None and of_sums is not None:
            add_gradient(here, of_sums, masks[:, piece])
        normalised = torch.addcmul(shift, rows[piece], scale)
        here = torch.ops.aten.leaky_relu_backward(here, normalised, NEGATIVE_SLOPE, False)
        of_shift += here.sum(dim=0)
        of_scale += torch.sub(rows[piece], mean, out=normalised).mul_(here).sum(dim=0)
        given[piece] = here
    of_scale *= inverse_deviation
    slope = -scale * inverse_deviation * of_scale / len(rows)
    level = -scale * of_shift / len(rows) - slope * mean
    for piece in pieces(rows):
        given[piece] = torch.addcmul(level, rows[piece], slope).addcmul_(given[piece], scale)
    return of_scale, of_shift


def _convolve(features: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...]) -> Tensor:
    dtype = features.dtype
    bias = None if bias is None else bias.to(dtype)
    return F.conv3d(features, weight.to(dtype), bias, stride=stride, padding=1).contiguous(memory_format=_LAYOUT)


def _input_gradient(of_output: Tensor, features: Tensor, weight: Tensor, stride: tuple[int, ...]) -> Tensor:
    """Returns the gradient of a convolution's input; of `features` only the shape matters."""
    found, _, _ = torch.ops.aten.convolution_backward(
        of_output, features, weight, None, list(stride), [1, 1, 1], [1, 1, 1], False, [0, 0, 0], 1, [True, False, False]
    )
    return found.contiguous(memory_format=_LAYOUT)


def _weight_gradient(
    of_output: Tensor, features: Tensor, weight: Tensor, stride: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Returns the gradients of a convolution's weight and bias; of `weight` only the shape matters.

    A large map is taken in slabs along its first axis: beyond some size the processor's library falls back to loops that take minutes.
    """
    num, depth, step = of_output.shape[2], features.shape[2], stride[0]
    planes = max(1, _SLAB * num // max(features.numel(), of_output.numel()))
    of_weight, of_bias = (
        weight.new_zeros(shape, dtype=exact_dtype(weight.dtype)) for shape in (weight.shape, weight.shape[:1])
    )
    for start in range(0, num, planes):
        stop = min(num, start + planes)
        # The planes that are read; the first may lie before the map, the last behind it.
        first, last = start * step - 1, (stop - 1) * step + 2
        slab = features[:, :, max(0, first) : min(depth, last)]
        if num > planes and (first < 0 or last > depth):
            slab = F.pad(slab, (0, 0, 0, 0, max(0, -first), max(0, last - depth))).contiguous(memory_format=_LAYOUT)
        _, more_weight, more_bias = torch.ops.aten.convolution_backward(
            of_output[:, :, start:stop], slab, weight, [len(weight)], list(stride), [int(num <= planes), 1, 1], [1, 1, 1],
            False, [0, 0, 0], 1, [False, True, True],
        )  # fmt: skip
        of_weight += more_weight
        of_bias += more_bias
    return of_weight, of_bias
