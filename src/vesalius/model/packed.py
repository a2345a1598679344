"""Networks of the BERT family on texts that lie one behind the other, without padding.

All but attention treats tokens alone: one product over all tokens of all texts, none of them padding. Attention is taken over runs
of texts of equal length, so that it needs no mask. The result is that of a padded batch up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What a layer is made of, by whatever names its architecture has them.

    Attributes:
        query: Linear of what asks; likewise `key`, `value`, and `mixed` behind attention.
        attention_norm: LayerNorm behind attention and its residual.
        inner: Linear that widens.
        activation: between the two.
        outer: Linear that narrows.
        norm: LayerNorm behind that and its residual.
    """

    query: Function
    key: Function
    value: Function
    mixed: Function
    attention_norm: Function
    inner: Function
    activation: Function
    outer: Function
    norm: Function


def bert_layer(layer: Any) -> Layer:
    """Returns the parts of a layer of BERT, RoBERTa and their kin."""
    attention = layer.attention
    return _layer(layer, attention.self.query, attention.self.key, attention.self.value, attention.output.dense,
                  attention.output.LayerNorm)  # fmt: skip


def mpnet_layer(layer: Any) -> Layer:
    """Returns the parts of a layer of MPNet."""
    attention = layer.attention
    return _layer(layer, attention.attn.q, attention.attn.k, attention.attn.v, attention.attn.o, attention.LayerNorm)


def _layer(layer: Any, query: Any, key: Any, value: Any, mixed: Any, norm: Any) -> Layer:
    return Layer(
        query=query, key=key, value=value, mixed=mixed, attention_norm=norm,
        inner=layer.intermediate.dense, activation=layer.intermediate.intermediate_act_fn,
        outer=layer.output.dense, norm=layer.output.LayerNorm,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How the networks of an architecture are read.

    Attributes:
        layer: gives the parts of a layer.
        skips_padding: whether positions begin behind the padding id and leave out tokens with that id; else they begin at 0.
        has_position_bias: whether attention has a bias by distance, the same in all layers.
    """

    layer: Callable[[Any], Layer] = bert_layer
    skips_padding: bool = False
    has_position_bias: bool = False


ARCHITECTURES = {
    "bert": Architecture(),
    "roberta": Architecture(skips_padding=True),
    "xlm-roberta": Architecture(skips_padding=True),
    "mpnet": Architecture(layer=mpnet_layer, skips_padding=True, has_position_bias=True),
}
"""By `model_type`."""


def longest(config: Any, limit: int) -> int:
    """Returns `limit`, or what the position embeddings have room for: in some networks they begin behind the padding token's row.

    A network that has none, as one whose positions are relative, has room for all.
    """
    num_rows = getattr(config, "max_position_embeddings", -1)
    if num_rows < 0:
        return limit
    known = ARCHITECTURES.get(config.model_type)
    reserved = config.pad_token_id + 1 if known is not None and known.skips_padding else 0
    return min(limit, num_rows - reserved)


def last_hidden_states(
    network: nn.Module, input_ids: Int64[Tensor, " t"], lengths: Sequence[int]
) -> Float[Tensor, "t d"]:
    """Returns the last hidden state of every token; the network must be in evaluation mode (there is no dropout).

    Args:
        network: a model of transformers.
        input_ids: the tokens of `n` texts, one text behind the other.
        lengths: `n` tokens each text has; few, long runs of equal lengths are fast.
    """
    made = cast("Any", network)
    runs = equal_runs(lengths)
    known = ARCHITECTURES.get(made.config.model_type)
    if known is None or getattr(made.config, "is_decoder", False):
        return _run_by_run(network, input_ids, runs)
    positions = _positions(input_ids, lengths, made.embeddings.padding_idx if known.skips_padding else None)
    hidden = made.embeddings(input_ids=input_ids[None], position_ids=positions[None])[0]
    bias = None
    if known.has_position_bias:
        bias = made.encoder.compute_position_bias(hidden.new_empty(1, max(lengths), 0))
    num_heads = made.config.num_attention_heads
    for layer in made.encoder.layer:
        hidden = _through(known.layer(layer), hidden, runs, num_heads=num_heads, bias=bias)
    return hidden


def equal_runs(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Returns runs of neighbouring texts of equal length: how many they are, and how long each is."""
    return [(len(list(run)), length) for length, run in groupby(lengths)]


def _through(
    layer: Layer, hidden: Float[Tensor, "t d"], runs: Sequence[tuple[int, int]], *, num_heads: int, bias: Tensor | None
) -> Float[Tensor, "t d"]:
    sizes = [num * length for num, length in runs]
    parts = (function(hidden).split(sizes) for function in (layer.query, layer.key, layer.value))
    mixed = []
    for (num, length), *asked in zip(runs, *parts, strict=True):
        query, key, value = (part.view(num, length, num_heads, -1).transpose(1, 2) for part in asked)
        mask = None if bias is None else bias[..., :length, :length].to(query.dtype)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed.append(found.transpose(1, 2).reshape(num * length, -1))
    hidden = layer.attention_norm(layer.mixed(torch.cat(mixed)) + hidden)
    return layer.norm(layer.outer(layer.activation(layer.inner(hidden))) + hidden)


def _positions(input_ids: Int64[Tensor, " t"], lengths: Sequence[int], padding_id: int | None) -> Int64[Tensor, " t"]:
    """Returns the position of each token in its text, as the embeddings count them."""
    sizes = torch.tensor(lengths, device=input_ids.device)
    starts = sizes.cumsum(0) - sizes
    if padding_id is None:
        return torch.arange(len(input_ids), device=input_ids.device) - starts.repeat_interleave(sizes)
    counts = input_ids != padding_id
    through = counts.cumsum(0)
    before = (through - counts.long())[starts]
    return (through - before.repeat_interleave(sizes)) * counts + padding_id


def _run_by_run(
    network: nn.Module, input_ids: Int64[Tensor, " t"], runs: Sequence[tuple[int, int]]
) -> Float[Tensor, "t d"]:
    """Does the same for any other network: each run of equal lengths is a batch of its own."""
    found = []
    for (num, length), ids in zip(runs, input_ids.split([num * length for num, length in runs]), strict=True):
        batch = ids.view(num, length)
        hidden = network(input_ids=batch, attention_mask=torch.ones_like(batch)).last_hidden_state
        found.append(hidden.reshape(num * length, -1))
    return torch.cat(found)
