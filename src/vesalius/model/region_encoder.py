"""The region encoder: a 3D U-Net's encoder and the mean of its features over a mask, at every scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vesalius.errors import SettingError
from vesalius.model.blocks import NEGATIVE_SLOPE, first_convolution, pool_and_convolve
from vesalius.model.pooling import halve


@dataclass(frozen=True, kw_only=True)
class UNetSize:
    """Shape of a U-Net encoder.

    Attributes:
        channels: feature channels of each stage, the finest first. Every stage but the first halves the grid.
        convs_per_stage: 3×3×3 convolutions in each stage.
        in_channels: channels of the image; one given stands for so many equal ones (3 as published).
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
        checkpointing: whether only image and masks are kept for the gradient and the maps are made again for it. Worth it where
            one step holds several images; of a single one it saves little, whose finest maps are made again in any case.
    """

    def __init__(self, size: UNetSize, *, checkpointing: bool = False) -> None:
        super().__init__()
        if not size.channels:
            raise SettingError("a U-Net without stages", remedy="give at least one number of channels")
        self.size = size
        self.checkpointing = checkpointing
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

        Under autocast the maps have its precision; the features are never below float32. With gradients off nothing is kept.

        Args:
            image: prepared intensities; any size of at least two voxels of the coarsest stage along one axis. `i j k` stands for
                as many equal channels as the network has; `c i j k` has one for each.
            masks: one mask a region; they may overlap. A mask that is empty gives zeros.

        Raises:
            SettingError: the image leaves a single voxel at the coarsest stage.
        """
        if max(image.shape[-3:]) <= self.size.stride:
            raise SettingError(
                f"an image of {tuple(image.shape[-3:])} voxels leaves a single one at the coarsest stage",
                remedy=f"give more than {self.size.stride} voxels along at least one axis",
            )
        if self.checkpointing and torch.is_grad_enabled():
            again = checkpoint(self._features, image, masks, use_reentrant=False, preserve_rng_state=False)
            return cast("Tensor", again)
        return self._features(image, masks)

    def _features(self, image: Tensor, masks: Tensor) -> Tensor:
        device = image.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else image.dtype
        blocks = [
            [cast("_ConvBlock", block) for block in cast("_Stage", stage[0]).convs] for stage in self._sequences()
        ]
        following = [block.conv for stage in blocks for block in stage][1:]
        means = []
        with torch.autocast(device, enabled=False):
            features: Tensor | None = first_convolution(
                image.to(dtype).reshape(1, -1, *image.shape[-3:]), blocks[0][0].conv
            )
            for index, stage in enumerate(blocks):
                masks = masks if index == 0 else halve(masks)
                for block in stage:
                    assert features is not None
                    pooled, features = pool_and_convolve(
                        features,
                        norm=block.norm,
                        masks=masks.flatten(start_dim=1) if block is stage[-1] else None,
                        conv=following.pop(0) if following else None,
                    )
                    if pooled is not None:
                        means.append(pooled)
        return torch.cat(means, dim=1)

    def _sequences(self) -> list[nn.Sequential]:
        return [cast("nn.Sequential", stage) for stage in self.stages]


class _Stage(nn.Module):
    """Names the blocks of a stage as the published encoder does."""

    def __init__(self, in_channels: int, out_channels: int, *, num_convs: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *(
                _ConvBlock(in_channels if index == 0 else out_channels, out_channels, stride if index == 0 else 1)
                for index in range(num_convs)
            )
        )


class _ConvBlock(nn.Module):
    """Holds the weights of convolution and instance norm under the published names."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1)
        self.norm = nn.InstanceNorm3d(out_channels, affine=True)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
        nn.init.zeros_(cast("Tensor", module.bias))
