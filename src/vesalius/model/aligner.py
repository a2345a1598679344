"""Where texts and regions meet: projections into one space, the modality embedding, the scale of logits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vesalius.ids import MODALITIES, Modality

MIN_LOGIT_SCALE = 1.0
MAX_LOGIT_SCALE = 100.0
INITIAL_LOGIT_SCALE = 1 / 0.07


class LogitScale(nn.Module):
    """The learnt multiplier of cosine similarities, kept as its logarithm and clamped to [1, 100]."""

    def __init__(self, initial: float = INITIAL_LOGIT_SCALE) -> None:
        super().__init__()
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(initial)))

    def forward(self) -> Float[Tensor, ""]:
        """Returns the multiplier."""
        return self.log_logit_scale.clamp(math.log(MIN_LOGIT_SCALE), math.log(MAX_LOGIT_SCALE)).exp()


class Aligner(nn.Module):
    """Projects text features and region features onto the unit sphere they share.

    Text: Linear, GELU, Linear, plus the embedding of the image's modality. Region: Linear, GELU, Linear. Departure from
    SAT-Pretrain: no GELU behind the last Linear of the region side, which confined its embeddings to one orthant.

    Args:
        text_width: dimension of text features.
        region_width: dimension of region features.
        width: dimension `d` of the shared space.
    """

    def __init__(self, *, text_width: int, region_width: int, width: int) -> None:
        super().__init__()
        self.text_projection = _projection(text_width, text_width, width)
        self.region_projection = _projection(region_width, width, width)
        self.modality_embedding = nn.Embedding(len(MODALITIES), width)
        nn.init.normal_(self.modality_embedding.weight, std=0.02)
        self.logit_scale = LogitScale()

    def project_texts(self, features: Float[Tensor, "n e"], modalities: Sequence[Modality]) -> Float[Tensor, "n d"]:
        """Returns the unit-norm embeddings of text features, each asked of an image of the given modality."""
        rows = torch.tensor([MODALITIES.index(modality) for modality in modalities], device=features.device)
        return F.normalize(self.text_projection(features) + self.modality_embedding(rows), dim=-1)

    def project_regions(self, features: Float[Tensor, "n e"]) -> Float[Tensor, "n d"]:
        """Returns the unit-norm embeddings of region features."""
        return F.normalize(self.region_projection(features), dim=-1)


def _projection(in_width: int, hidden_width: int, out_width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_width, hidden_width), nn.GELU(), nn.Linear(hidden_width, out_width))
