"""What a training step is given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from vesalius.corpus.pairs import Fillers, TextPair
from vesalius.ids import ConceptId, Modality

Item = TypeVar("Item", bound=str)

Ancestors = Callable[[ConceptId], Collection[ConceptId]]
"""Gives everything above a concept."""


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """Pairs of texts, and which of them belong together.

    Attributes:
        left: `n` texts (definitions, synonyms, open relations).
        right: `n` texts (names).
        positives: `n n`, true where the right concept is the one that the left text was drawn for.
        ignored: `n n`, neither positive nor negative: the two concepts are ancestor and descendant, or the left text is an open
            relation that the right concept answers too, or that names it or a relative of it.
        concept_ids: `n` concepts, for messages.
    """

    left: list[str]
    right: list[str]
    positives: Bool[Tensor, "n n"]
    ignored: Bool[Tensor, "n n"]
    concept_ids: list[str]


@dataclass(frozen=True, kw_only=True)
class RegionCrop:
    """A crop of one case with the regions that lie in it.

    Attributes:
        image: `i j k` prepared intensities; outside the case it is the case's minimum.
        masks: `n i j k` one mask a region, none empty.
        keys: `n` what makes two regions the same structure: concept and side.
        prompts: `n` one text a region.
        concept_ids: `n` concept of each region.
        modality: modality of the case.
        name: case and place, for messages.
    """

    image: Float32[Tensor, "i j k"]
    masks: Bool[Tensor, "n i j k"]
    keys: list[str]
    prompts: list[str]
    concept_ids: list[ConceptId]
    modality: Modality
    name: str


def text_batch(pairs: Sequence[TextPair], *, ancestors: Ancestors, fillers: Fillers | None = None) -> TextBatch:
    """Returns the batch of `pairs`; pairs of one concept, or with an equal text on the same side, are positives.

    Args:
        pairs: what was drawn.
        ancestors: gives everything above a concept.
        fillers: gives what answers an open relation; without it, `pairs` may hold no relations.
    """
    concepts = [pair.concept_id for pair in pairs]
    left, right = [pair.text for pair in pairs], [pair.name for pair in pairs]
    positives = same(concepts) | same(left) | same(right)
    ignored = relatives(concepts, ancestors=ancestors)
    if any(pair.relation is not None for pair in pairs):
        assert fillers is not None, "relations are among the pairs, but nothing that says what else answers them"
        ignored |= also_answering(pairs, ancestors=ancestors, fillers=fillers)
    return TextBatch(
        left=left,
        right=right,
        positives=positives,
        ignored=ignored & ~positives,
        concept_ids=[str(concept) for concept in concepts],
    )


def also_answering(pairs: Sequence[TextPair], *, ancestors: Ancestors, fillers: Fillers) -> Bool[Tensor, "n n"]:
    """Returns which of `n` names must not be pushed away from an open relation they were not drawn for.

    Those are the names of other fillers of the same relation, of the concept the text names, and of that one's ancestors and
    descendants: "part of kidney" is true of what is part of a part of the kidney.
    """
    places = _places([pair.concept_id for pair in pairs])
    drawn = frozenset(places)
    below: dict[ConceptId, list[int]] = {}
    for concept, own in places.items():
        for over in ancestors(concept):
            below.setdefault(over, []).extend(own)
    rows, columns = [], []
    for row, pair in enumerate(pairs):
        if pair.relation is None:
            continue
        named = pair.relation.named
        true = drawn.intersection((named, *ancestors(named), *fillers(pair.relation, among=drawn)))
        answering = [place for concept in true for place in places[concept]] + below.get(named, [])
        rows += [row] * len(answering)
        columns += answering
    return _true_at(rows, columns, num=len(pairs))


def same(items: Sequence[str]) -> Bool[Tensor, "n n"]:
    """Returns which two of `n` items are equal."""
    codes = {item: code for code, item in enumerate(dict.fromkeys(items))}
    found = torch.tensor([codes[item] for item in items], dtype=torch.int32)
    return found[:, None] == found[None, :]


def relatives(concepts: Sequence[ConceptId], *, ancestors: Ancestors) -> Bool[Tensor, "n n"]:
    """Returns which two of `n` concepts are ancestor and descendant, either way round."""
    places = _places(concepts)
    drawn = frozenset(places)
    rows, columns = [], []
    for concept, own in places.items():
        above = [place for other in drawn.intersection(ancestors(concept)) for place in places[other]]
        for row in own:
            rows += [row] * len(above)
            columns += above
    return _true_at(rows + columns, columns + rows, num=len(concepts))


def _places(items: Sequence[Item]) -> dict[Item, list[int]]:
    """Returns where each different item stands."""
    places: dict[Item, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(item, []).append(place)
    return places


def _true_at(rows: Sequence[int], columns: Sequence[int], *, num: int) -> Bool[Tensor, "n n"]:
    found = np.zeros((num, num), dtype=np.bool_)
    found[rows, columns] = True
    return torch.from_numpy(found)


def wholes(concepts: Sequence[ConceptId], keys: Sequence[str]) -> Bool[Tensor, "n n"]:
    """Returns which two of `n` regions are a structure without a side and one side of it, either way round.

    Args:
        concepts: `n` concept of each region.
        keys: `n` what makes two regions the same structure: the concept, and the side where there is one.
    """
    sided = torch.tensor([key != concept for concept, key in zip(concepts, keys, strict=True)], dtype=torch.bool)
    return same(concepts) & (sided[:, None] ^ sided[None, :])
