"""Which text pairs make a step, in an order that a seed decides and a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from vesalius.corpus.pairs import PairKind, RelationPairs, TextPair, by_concept
from vesalius.errors import SettingError
from vesalius.ids import ConceptId


class SamplerState(TypedDict):
    """Where a sampler stands: enough to draw the same steps again."""

    epoch: int
    position: int
    step: int


class PairSampler:
    """Draws `batch_size` pairs a step, one a concept, in neighbourhoods of concepts that are easily confused.

    Concepts come in a random order, each once an epoch. With `neighbours`, a drawn concept brings up to
    `neighbourhood_size - 1` of its neighbours into the same step, so that every text has hard negatives beside it (compare
    SapBERT's online mining and ANCHORS §3.3: what cannot be a true positive, a relative, is masked by the batch). A
    concept's pair is a relation with probability `relation_share` where it has one, and otherwise a definition with
    probability `definition_share` where it has both kinds; a concept that has relations alone always gives one.

    Each step draws from a generator of its own, seeded by (seed, step): after `load_state_dict` it goes on exactly as it
    would have.

    Args:
        pairs: what to draw from, by kind.
        batch_size: pairs a step.
        definition_share: probability of a definition where a concept has definition and synonym, 0 to 1.
        relations: what relations are drawn from; None draws none.
        relation_share: probability of a relation where a concept has one, above 0 with `relations`, 0 without.
        neighbours: concept → concepts near it; may hold concepts without pairs.
        neighbourhood_size: most concepts that come together; 1 draws them independently.
        seed: decides every draw.

    Raises:
        SettingError: there are fewer concepts with pairs than `batch_size`, or a value is out of range.
    """

    def __init__(
        self,
        pairs: Mapping[PairKind, list[TextPair]],
        *,
        batch_size: int,
        definition_share: float = 0.5,
        relations: RelationPairs | None = None,
        relation_share: float = 0.0,
        neighbours: Mapping[ConceptId, Sequence[ConceptId]] | None = None,
        neighbourhood_size: int = 1,
        seed: int = 0,
    ) -> None:
        if not 0 <= definition_share <= 1:
            raise SettingError(f"definition_share is {definition_share}", remedy="give a value from 0 to 1")
        if not 0 <= relation_share <= 1:
            raise SettingError(f"relation_share is {relation_share}", remedy="give a value from 0 to 1")
        assert (relations is not None) == (relation_share > 0), "relations and their share come together"
        if neighbourhood_size < 1:
            raise SettingError(f"neighbourhood_size is {neighbourhood_size}", remedy="give 1 or more")
        if neighbourhood_size > 1 and neighbours is None:
            raise SettingError("neighbourhood_size has no effect without neighbours", remedy="set it to 1")
        self._pairs = by_concept(pairs)
        self._relations = relations
        self._relation_share = relation_share
        self._concepts = sorted({*self._pairs, *(relations.concepts() if relations else ())})
        if len(self._concepts) < batch_size:
            raise SettingError(
                f"batch_size is {batch_size}, but only {len(self._concepts)} concepts have pairs",
                remedy="make the batch smaller, or give more knowledge",
            )
        self._batch_size = batch_size
        self._definition_share = definition_share
        self._neighbours = neighbours or {}
        self._neighbourhood_size = neighbourhood_size
        self._seed = seed
        self._state = SamplerState(epoch=0, position=0, step=0)
        self._order = self._shuffled(0)

    @property
    def num_pairs(self) -> int:
        """Number of different pairs to draw from; a relation counts once, however it is said."""
        num_texts = sum(len(listed) for kinds in self._pairs.values() for listed in kinds.values())
        return num_texts + (self._relations.num_relations if self._relations else 0)

    def state_dict(self) -> SamplerState:
        """Returns where the sampler stands."""
        return SamplerState(**self._state)

    def load_state_dict(self, state: SamplerState) -> None:
        """Goes to where `state` was taken."""
        self._state = SamplerState(**state)
        self._order = self._shuffled(state["epoch"])

    def draw(self) -> list[TextPair]:
        """Returns the pairs of the next step, all of different concepts."""
        rng = np.random.default_rng([self._seed, 1, self._state["step"]])
        self._state["step"] += 1
        chosen: dict[ConceptId, TextPair] = {}
        while len(chosen) < self._batch_size:
            seed = self._next_concept()
            num_room = min(self._neighbourhood_size, self._batch_size - len(chosen))
            for concept in [seed, *self._near(seed, rng)]:
                if num_room == 0:
                    break
                if concept not in chosen and self._has_pairs(concept):
                    chosen[concept] = self._one_of(concept, rng)
                    num_room -= 1
        return list(chosen.values())

    def _next_concept(self) -> ConceptId:
        if self._state["position"] == len(self._order):
            self._state["epoch"] += 1
            self._state["position"] = 0
            self._order = self._shuffled(self._state["epoch"])
        concept = self._concepts[self._order[self._state["position"]]]
        self._state["position"] += 1
        return concept

    def _near(self, concept: ConceptId, rng: np.random.Generator) -> list[ConceptId]:
        near = self._neighbours.get(concept, ())
        return [near[index] for index in rng.permutation(len(near))]

    def _has_pairs(self, concept: ConceptId) -> bool:
        return concept in self._pairs or (self._relations is not None and concept in self._relations)

    def _one_of(self, concept: ConceptId, rng: np.random.Generator) -> TextPair:
        kinds = self._pairs.get(concept)
        if self._relations is not None and concept in self._relations:
            wanted = rng.random() < self._relation_share
            if wanted or not kinds:
                return self._relations.draw(concept, rng)
        assert kinds, f"{concept} has no pair"
        definition_first = rng.random() < self._definition_share
        order: tuple[PairKind, PairKind] = ("definition", "synonym") if definition_first else ("synonym", "definition")
        listed = next(kinds[kind] for kind in order if kind in kinds)
        return listed[rng.integers(len(listed))]

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, 0, epoch]).permutation(len(self._concepts))
