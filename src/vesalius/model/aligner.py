"""Where texts and regions meet: projections into one space, the modality embedding, the scale of logits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vesalius.errors import SettingError
from vesalius.ids import MODALITIES, Modality

MIN_LOGIT_SCALE = 1.0
MAX_LOGIT_SCALE = 100.0
INITIAL_LOGIT_SCALE = 1 / 0.07

_LOG_RANGE = (math.log(MIN_LOGIT_SCALE), math.log(MAX_LOGIT_SCALE))


class LogitScale(nn.Module):
    """The learnt multiplier of cosine similarities, kept as its logarithm and clamped to [1, 100].

    Training calls `keep_in_range` behind each update: outside the range the clamp has no gradient, and a multiplier that an update
    took there could never come back.
    """

    def __init__(self, initial: float = INITIAL_LOGIT_SCALE) -> None:
        super().__init__()
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(initial)))

    def forward(self) -> Float[Tensor, ""]:
        """Returns the multiplier."""
        return self.log_logit_scale.clamp(*_LOG_RANGE).exp()

    @torch.no_grad()
    def keep_in_range(self) -> None:
        """Sets the parameter back to the range where it left it."""
        self.log_logit_scale.clamp_(*_LOG_RANGE)


class PromptProjection(nn.Module):
    """Turns text features into prompts: Linear, GELU, Linear, plus the embedding of the image's modality.

    Args:
        text_width: dimension of text features.
        hidden_width: dimension between the two Linear.
        width: dimension `d` of the shared space.
        num_modalities: rows of the modality embedding, in the order of `MODALITIES`. SAT-Pretrain has 5, its segmentation code 4.

    Raises:
        SettingError: `num_modalities` is not 1 to 5.
    """

    def __init__(
        self, *, text_width: int, hidden_width: int, width: int, num_modalities: int = len(MODALITIES)
    ) -> None:
        super().__init__()
        if not 1 <= num_modalities <= len(MODALITIES):
            raise SettingError(f"num_modalities is {num_modalities}", remedy=f"give 1 to {len(MODALITIES)}")
        self.projection = _projection(text_width, hidden_width, width)
        self.modality_embedding = nn.Embedding(num_modalities, width)
        nn.init.normal_(self.modality_embedding.weight, std=0.02)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities a prompt can be asked of."""
        return MODALITIES[: self.modality_embedding.num_embeddings]

    def forward(self, features: Float[Tensor, "n e"], modalities: Sequence[Modality]) -> Float[Tensor, "n d"]:
        """Returns the prompts of text features, each asked of an image of the given modality; not normalised.

        Raises:
            SettingError: the model has no row for a modality.
        """
        for modality in set(modalities) - set(self.modalities):
            raise SettingError(
                f"no embedding of modality {modality!r}", remedy=f"there are {', '.join(self.modalities)}"
            )
        rows = torch.tensor(
            [MODALITIES.index(modality) for modality in modalities], dtype=torch.int64, device=features.device
        )
        return self.projection(features) + self.modality_embedding(rows)


class Aligner(nn.Module):
    """Projects text features and region features onto the unit sphere they share.

    Text: see `PromptProjection`. Region: Linear, GELU, Linear. Departure from SAT-Pretrain: no GELU behind the last Linear of the
    region side, which confined its embeddings to one orthant; `last_gelu` puts it back for its checkpoints.

    Args:
        text_width: dimension of text features.
        region_width: dimension of region features.
        width: dimension `d` of the shared space.
        text_hidden_width: dimension inside the text projection; None takes `text_width`.
        region_hidden_width: dimension inside the region projection; None takes `width`.
        last_gelu: whether a GELU closes the region projection.
        num_modalities: rows of the modality embedding.
    """

    def __init__(
        self,
        *,
        text_width: int,
        region_width: int,
        width: int,
        text_hidden_width: int | None = None,
        region_hidden_width: int | None = None,
        last_gelu: bool = False,
        num_modalities: int = len(MODALITIES),
    ) -> None:
        super().__init__()
        self.prompt_projection = PromptProjection(
            text_width=text_width,
            hidden_width=text_hidden_width or text_width,
            width=width,
            num_modalities=num_modalities,
        )
        self.region_projection = _projection(region_width, region_hidden_width or width, width)
        if last_gelu:
            self.region_projection.append(nn.GELU())
        self.logit_scale = LogitScale()

    def project_texts(self, features: Float[Tensor, "n e"], modalities: Sequence[Modality]) -> Float[Tensor, "n d"]:
        """Returns the unit-norm embeddings of text features, each asked of an image of the given modality."""
        return F.normalize(self.prompt_projection(features, modalities), dim=-1)

    def project_regions(self, features: Float[Tensor, "n e"]) -> Float[Tensor, "n d"]:
        """Returns the unit-norm embeddings of region features."""
        return F.normalize(self.region_projection(features), dim=-1)


def _projection(in_width: int, hidden_width: int, out_width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_width, hidden_width), nn.GELU(), nn.Linear(hidden_width, out_width))
