"""Texts as tokens, one text behind the other, so that nothing of a batch is padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Int64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TokenGroup:
    """Texts that are encoded together, the shortest first.

    Attributes:
        input_ids: `t` token ids of all texts, one text behind the other.
        lengths: `n` tokens of each text.
        rows: `n` places of the texts in the batch.
    """

    input_ids: Int64[Tensor, " t"]
    lengths: tuple[int, ...]
    rows: Int64[Tensor, " n"]


def group_by_length(token_ids: Sequence[Sequence[int]], *, max_tokens: int) -> list[TokenGroup]:
    """Sorts texts by length and cuts them into groups of at most `max_tokens` tokens (one text at least), about equally large.

    A batch of names and definitions padded to its longest text is four fifths padding and more (ANCHORS §4); here there is
    none. What a text becomes does not depend on its group. No texts give no groups.

    Args:
        token_ids: the token ids of each text, none empty.
        max_tokens: tokens a group may have.
    """
    order = sorted(range(len(token_ids)), key=lambda row: len(token_ids[row]))
    ends = list(accumulate(len(token_ids[row]) for row in order))
    if not ends:
        return []
    even = ends[-1] / math.ceil(ends[-1] / max_tokens)
    groups: list[TokenGroup] = []
    start = done = 0
    for place in range(1, len(order) + 1):
        if place == len(order) or ends[place] - done > max_tokens or ends[place - 1] - done >= even:
            groups.append(_joined(token_ids, order[start:place]))
            start, done = place, ends[place - 1]
    return groups


def _joined(token_ids: Sequence[Sequence[int]], rows: list[int]) -> TokenGroup:
    return TokenGroup(
        input_ids=torch.tensor([token for row in rows for token in token_ids[row]], dtype=torch.int64),
        lengths=tuple(len(token_ids[row]) for row in rows),
        rows=torch.tensor(rows),
    )
