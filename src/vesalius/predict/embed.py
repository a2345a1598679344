"""Texts to features and regions to embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from vesalius.corpus.tokens import group_by_length
from vesalius.model.aligner import Aligner
from vesalius.model.region_encoder import RegionEncoder
from vesalius.model.text_encoder import TextEncoder

MAX_TOKENS = 4096
"""Token slots of one forward pass without gradients."""


def encode_texts(
    encoder: TextEncoder,
    texts: Sequence[str],
    *,
    max_length: int,
    max_tokens: int = MAX_TOKENS,
    advance: Callable[[int], None] | None = None,
) -> Float[Tensor, "n d"]:
    """Returns the features of `texts` in their order, not normalised, with gradients where they are enabled.

    Texts are grouped by length, so that hardly any padding is computed; the result is that of one padded batch up to
    rounding.

    Args:
        encoder: the text encoder.
        texts: `n` texts; none gives an empty array.
        max_length: longer texts are cut to this many tokens.
        max_tokens: token slots of one pass.
        advance: told the number of texts done after each pass, for a progress bar.
    """
    device = next(encoder.parameters()).device
    groups = group_by_length(
        encoder.tokenise(texts, max_length=max_length), pad_id=encoder.pad_id, max_tokens=max_tokens
    )
    if not groups:
        return torch.zeros(0, encoder.width, device=device)
    features = []
    for group in groups:
        features.append(encoder(group.input_ids.to(device), group.attention_mask.to(device)))
        if advance is not None:
            advance(len(group.rows))
    rows = torch.cat([group.rows for group in groups]).to(device)
    return torch.cat(features)[torch.argsort(rows)]


@torch.no_grad()
def embed_texts(
    encoder: TextEncoder, texts: Sequence[str], *, max_length: int, advance: Callable[[int], None] | None = None
) -> Float32[np.ndarray, "n d"]:
    """Returns the unit-norm features of `texts`: what the exported folder gives for them."""
    features = encode_texts(encoder, texts, max_length=max_length, advance=advance)
    return F.normalize(features.float(), dim=-1).cpu().numpy()


@torch.no_grad()
def embed_regions(
    encoder: RegionEncoder, aligner: Aligner, image: Float32[np.ndarray, "i j k"], masks: Bool[np.ndarray, "n i j k"]
) -> Float32[np.ndarray, "n d"]:
    """Returns the unit-norm embeddings of the regions of one image, taken in one pass."""
    device = next(encoder.parameters()).device
    features = encoder(torch.from_numpy(image).to(device), torch.from_numpy(masks).to(device))
    return aligner.project_regions(features).cpu().numpy()
