"""Texts as tokens, grouped so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TokenGroup:
    """Texts of similar length, padded to the longest of them.

    Attributes:
        input_ids: `n t` token ids.
        attention_mask: `n t`, 1 where a token is, 0 where padding is.
        rows: `n` places of the texts in the batch.
    """

    input_ids: Int64[Tensor, "n t"]
    attention_mask: Int64[Tensor, "n t"]
    rows: Int64[Tensor, " n"]


def group_by_length(token_ids: Sequence[Sequence[int]], *, pad_id: int, max_tokens: int) -> list[TokenGroup]:
    """Sorts texts by length and cuts them into groups of at most `max_tokens` token slots (one text at least).

    A batch of names and definitions padded to its longest text is four fifths padding (ANCHORS §4); grouped, it is a few
    per cent. What a text becomes does not depend on its group. No texts give no groups.

    Args:
        token_ids: the token ids of each text, none empty.
        pad_id: the id that fills the rest of a row.
        max_tokens: token slots a group may have, padding included.
    """
    order = sorted(range(len(token_ids)), key=lambda row: len(token_ids[row]))
    groups: list[TokenGroup] = []
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end - start + 1) * len(token_ids[order[end]]) > max_tokens:
            groups.append(_padded(token_ids, order[start:end], pad_id))
            start = end
    return groups


def _padded(token_ids: Sequence[Sequence[int]], rows: list[int], pad_id: int) -> TokenGroup:
    longest = len(token_ids[rows[-1]])
    lengths = torch.tensor([len(token_ids[row]) for row in rows])
    mask = torch.arange(longest)[None, :] < lengths[:, None]
    input_ids = torch.full((len(rows), longest), pad_id, dtype=torch.int64)
    input_ids[mask] = torch.tensor([token for row in rows for token in token_ids[row]], dtype=torch.int64)
    return TokenGroup(input_ids=input_ids, attention_mask=mask.long(), rows=torch.tensor(rows))
