"""The region encoder: a 3D U-Net's encoder and the mean of its features over a mask, at every scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vesalius.errors import SettingError

NEGATIVE_SLOPE = 1e-2


@dataclass(frozen=True, kw_only=True)
class UNetSize:
    """Shape of a U-Net encoder.

    Attributes:
        channels: feature channels of each stage, the finest first. Every stage but the first halves the grid.
        convs_per_stage: 3×3×3 convolutions in each stage.
        in_channels: the image is repeated to this many channels (3 as published; 1 gives the same for less).
    """

    channels: tuple[int, ...]
    convs_per_stage: int = 2
    in_channels: int = 1

    @property
    def stride(self) -> int:
        """Voxels of the image along an axis for one voxel of the coarsest stage."""
        return 2 ** (len(self.channels) - 1)


UNET_SIZES: dict[str, UNetSize] = {
    "unet-tiny": UNetSize(channels=(16, 32, 48, 64, 96)),
    "unet": UNetSize(channels=(64, 64, 128, 256, 512, 768), in_channels=3),
    "unet-l": UNetSize(channels=(128, 128, 256, 512, 1024, 1536), in_channels=3),
    "unet-h": UNetSize(channels=(128, 128, 256, 512, 1024, 1536), convs_per_stage=3, in_channels=3),
}
"""`unet-tiny` is the demo's; the others are SAT-Pretrain's UNET, UNET-L and UNET-H."""


def unet_size(name: str) -> UNetSize:
    """Returns the U-Net of that name in `UNET_SIZES`.

    Raises:
        SettingError: there is none.
    """
    if name not in UNET_SIZES:
        raise SettingError(f"unknown U-Net {name!r}", remedy=f"known are: {', '.join(UNET_SIZES)}")
    return UNET_SIZES[name]


class RegionEncoder(nn.Module):
    """Gives each region of an image one feature.

    Convolution, instance norm, leaky ReLU; He initialisation; no skip connections and no decoder: only the encoder of a U-Net is
    needed (SAT-Pretrain, stage 2). Parameter names are those of the published ``atlas_tower.encoder``.

    Args:
        size: the shape of the network.
    """

    def __init__(self, size: UNetSize) -> None:
        super().__init__()
        if not size.channels:
            raise SettingError("a U-Net without stages", remedy="give at least one number of channels")
        self.size = size
        widths = (size.in_channels, *size.channels)
        self.stages = nn.ModuleList(
            nn.Sequential(_Stage(widths[index], width, num_convs=size.convs_per_stage, stride=1 if index == 0 else 2))
            for index, width in enumerate(size.channels)
        )
        self.apply(_initialise)

    @property
    def width(self) -> int:
        """Dimension of a region's feature: the channels of all stages together."""
        return sum(self.size.channels)

    def forward(self, image: Float[Tensor, "*c i j k"], masks: Bool[Tensor, "n i j k"]) -> Float[Tensor, "n d"]:
        """Returns the features of `n` regions of one image.

        Args:
            image: prepared intensities; any size of at least two voxels of the coarsest stage along one axis. `i j k` is repeated
                to the network's channels; `c i j k` has one for each.
            masks: one mask a region. A mask that is empty gives zeros.
        """
        features = image.expand(1, self.size.in_channels, *image.shape[-3:])
        weights = masks.to(image.dtype)
        pooled = []
        for index, stage in enumerate(self.stages):
            features = stage(features)
            if index > 0:
                weights = F.max_pool3d(weights[None], kernel_size=2, ceil_mode=True)[0]
            pooled.append(mean_over_masks(features[0], weights))
        return torch.cat(pooled, dim=1)


def mean_over_masks(features: Float[Tensor, "c i j k"], weights: Float[Tensor, "n i j k"]) -> Float[Tensor, "n c"]:
    """Returns the mean of a feature map over each mask; zeros for an empty one.

    As one matrix product over flattened voxels: the published repeat–multiply–sum makes `n c i j k` first.
    """
    flat = weights.flatten(start_dim=1)
    return (flat @ features.flatten(start_dim=1).T) / flat.sum(dim=1, keepdim=True).clamp(min=1)


class _Stage(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, num_convs: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *(
                _ConvBlock(in_channels if index == 0 else out_channels, out_channels, stride if index == 0 else 1)
                for index in range(num_convs)
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.convs(features)


class _ConvBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1)
        self.norm = nn.InstanceNorm3d(out_channels, affine=True)

    def forward(self, features: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(features)), NEGATIVE_SLOPE)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
        nn.init.zeros_(cast("Tensor", module.bias))
