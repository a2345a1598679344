"""Text encoder, region encoder and what joins them: everything stage 2 trains."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vesalius.errors import SettingError
from vesalius.ids import MODALITIES
from vesalius.model.aligner import Aligner, LogitScale
from vesalius.model.region_encoder import RegionEncoder, UNetSize
from vesalius.model.text_encoder import TextEncoder


@dataclass(frozen=True, kw_only=True)
class RegionModelSize:
    """Shape of everything stage 2 adds to a text encoder.

    Attributes:
        unet: shape of the region encoder.
        width: dimension of the space texts and regions share.
        text_hidden_width: dimension inside the text projection; None takes that of the text features.
        region_hidden_width: dimension inside the region projection; None takes `width`.
        last_gelu: whether a GELU closes the region projection, as SAT-Pretrain's does.
        num_modalities: rows of the modality embedding.
    """

    unet: UNetSize
    width: int
    text_hidden_width: int | None = None
    region_hidden_width: int | None = None
    last_gelu: bool = False
    num_modalities: int = len(MODALITIES)

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        for name in ("width", "text_hidden_width", "region_hidden_width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingError(f"{name} is {value}", remedy="give 1 or more")


class RegionModel(nn.Module):
    """Text encoder, region encoder and what joins them.

    `text_logit_scale` belongs to raw text features, `aligner.logit_scale` to the shared space. SAT-Pretrain has one for both.

    Args:
        encoder: the text encoder.
        size: shape of everything else.
    """

    def __init__(self, encoder: TextEncoder, *, size: RegionModelSize) -> None:
        super().__init__()
        self.size = size
        self.encoder = encoder
        self.regions = RegionEncoder(size.unet)
        self.aligner = make_aligner(size, text_width=encoder.width, region_width=self.regions.width)
        self.text_logit_scale = LogitScale()


def make_aligner(size: RegionModelSize, *, text_width: int, region_width: int) -> Aligner:
    """Returns a new aligner of the given shape between features of the given dimensions."""
    return Aligner(
        text_width=text_width,
        region_width=region_width,
        width=size.width,
        text_hidden_width=size.text_hidden_width,
        region_hidden_width=size.region_hidden_width,
        last_gelu=size.last_gelu,
        num_modalities=size.num_modalities,
    )
