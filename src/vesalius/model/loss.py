"""Contrast by concept: several positives a row, relatives left out."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_LOGITS = 2**22
"""Logits held at a time: 16 MB. Blocks of 512 rows for a batch of 8,192."""


def contrastive_loss(
    left: Float[Tensor, "n d"],
    right: Float[Tensor, "m d"],
    *,
    logit_scale: Float[Tensor, ""],
    positives: Bool[Tensor, "n m"],
    ignored: Bool[Tensor, "n m"] | None = None,
    share: tuple[int, int] = (0, 1),
    num_asking: int | None = None,
) -> Float[Tensor, ""]:
    """Returns the symmetric contrastive loss in its log-sum-exp form, averaged over rows and columns.

    For a row with positives P and all counted columns A (positives and negatives), the loss is
    ``log Σ_A exp s − log Σ_P exp s``: the negative log of the probability mass that lies on the positives. With
    one positive a row it is InfoNCE (van den Oord et al., arXiv 1807.03748, eq. 4) over cosine similarities, as in CLIP
    (arXiv 2103.00020, figure 3). n = m embeddings that cannot be told apart, one positive each, give log n.

    Departure from SAT-Pretrain: positives are given, not found by equal strings; their mass is pooled inside the logarithm, not
    averaged outside it, so that one strong positive suffices; `ignored` entries take no part. Logits are computed
    in fp32 whatever the embeddings' type, inside autocast too, and never exponentiated outside log-sum-exp: safe at any
    logit_scale.

    Cost: memory grows with the embeddings and the two masks, not with the logits (see `_SumOverRows`).

    Args:
        left: unit-norm embeddings.
        right: unit-norm embeddings.
        logit_scale: the multiplier of cosine similarity, positive.
        positives: pairs of one concept. Rows and columns without a positive do not count.
        ignored: pairs that are neither; must not overlap `positives`.
        num_asking: rows behind these are no rows of the loss, but only answer its columns; None lets all ask.
        share: (k, p) computes the k-th of p shares of the rows and columns, every p-th one; the p shares add up to the loss.

    Raises:
        ValueError: there is no positive at all.
    """
    if not positives.any():
        raise ValueError("a batch without any positive pair has no contrastive loss")
    if ignored is not None:
        assert not (positives & ignored).any(), "a pair cannot be both positive and ignored"
    with torch.autocast(left.device.type, enabled=False):
        scaled, right = logit_scale.float() * left.float(), right.float()
        asking = slice(num_asking)
        rows = _one_way(scaled[asking], right, positives[asking], None if ignored is None else ignored[asking], share)
        columns = _one_way(right, scaled, positives.T, None if ignored is None else ignored.T, share)
    return (rows + columns) / 2


def _one_way(
    asking: Float[Tensor, "n d"],
    answering: Float[Tensor, "m d"],
    positives: Bool[Tensor, "n m"],
    ignored: Bool[Tensor, "n m"] | None,
    share: tuple[int, int],
) -> Float[Tensor, ""]:
    """Returns the share's part of the mean over the rows that have a positive."""
    first, num_shares = share
    counted = positives.any(dim=1).nonzero()[:, 0]
    own = counted[first::num_shares]
    total = _SumOverRows.apply(asking, answering, positives, ignored, own)
    return total / len(counted)  # pyright: ignore[reportOptionalOperand]


class _SumOverRows(torch.autograd.Function):
    """The sum of the loss of some rows, a block of rows at a time: never are all logits held.

    The gradients are worked out beside the loss, while a block's logits are there; they are that of the embeddings times the
    incoming gradient, a scalar.
    """

    @staticmethod
    def forward(
        ctx: Any, asking: Tensor, answering: Tensor, positives: Tensor, ignored: Tensor | None, rows: Tensor
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        to_asking, to_answering = (torch.zeros_like(side) if wanted else None for side in (asking, answering))
        total = asking.new_zeros(())
        for block in rows.split(max(1, MAX_LOGITS // len(answering))):
            asked, right = asking[block], positives[block]
            logits = asked @ answering.T
            if ignored is not None:
                logits.masked_fill_(ignored[block], -torch.inf)
            on_positives = logits.masked_fill(~right, -torch.inf).logsumexp(dim=1, keepdim=True)
            on_all = logits.logsumexp(dim=1, keepdim=True)
            total += (on_all - on_positives).sum()
            if to_asking is not None and to_answering is not None:
                shares = (logits - on_positives).exp_().masked_fill_(~right, 0)
                slopes = logits.sub_(on_all).exp_().sub_(shares)
                to_asking[block] = slopes @ answering
                to_answering.addmm_(slopes.T, asked)
        ctx.gradients = (to_asking, to_answering)
        return total

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        return (*(gradient * own for own in ctx.gradients), None, None, None)
