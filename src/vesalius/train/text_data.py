"""What stage 1 trains on: which text pairs are drawn, and by which concepts training is validated."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import numpy as np

from vesalius.corpus.batch import Ancestors, TextBatch, text_batch
from vesalius.corpus.mixture import MixturePart, MixtureSampler
from vesalius.corpus.pair_table import GraphPairs, PairIndex, PairTable, held_out_concepts
from vesalius.corpus.pairs import Fillers, RelationPairs, graph_fillers, text_pairs
from vesalius.corpus.sampling import PairSampler
from vesalius.errors import InputError, SettingError
from vesalius.eval.retrieval import definition_queries, synonym_queries
from vesalius.ids import ConceptId, Split
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.sentences import RelationForm
from vesalius.knowledge.stored import StoredGraph
from vesalius.model.packed import longest
from vesalius.model.text_encoder import TextEncoder
from vesalius.train.windows import random_windows

ANATOMY = ("uberon",)
NUM_VALIDATION_CONCEPTS = 2000
"""Of a graph that is not held in memory."""

BOTH_FORMS: tuple[RelationForm, ...] = ("published", "sentence")


@dataclass(frozen=True, kw_only=True)
class TextData:
    """Which text pairs are drawn, and how many.

    Either concepts come in neighbourhoods, each once an epoch (`PairSampler`), or, with a `mixture`, rows come independently
    (`MixtureSampler`); what belongs to the one has no effect on the other and is refused.

    Attributes:
        sources: sources whose texts are trained on; with a mixture its parts name them, and this is empty.
        batch_size: pairs a step.
        max_length: longer texts are cut to this many tokens.
        window_share: probability that a longer text gives a random window of itself and not its beginning.
        definition_share: probability of a definition where a concept has both kinds.
        relation_share: probability of a relation where a concept has one.
        relation_forms: the forms a relation may have, each drawn equally often.
        neighbourhood_size: most easily confused concepts that come into a step together; 1 draws independently.
        mixture: what is drawn from, by share; empty draws neighbourhoods.
    """

    sources: tuple[str, ...] = ANATOMY
    batch_size: int = 128
    max_length: int = 64
    window_share: float = 0.0
    definition_share: float = 0.5
    relation_share: float = 0.0
    relation_forms: tuple[RelationForm, ...] = BOTH_FORMS
    neighbourhood_size: int = 8
    mixture: tuple[MixturePart, ...] = ()

    def __post_init__(self) -> None:
        """Refuses values that cannot work, and settings that would have no effect."""
        for name, least in (("batch_size", 1), ("max_length", 3)):  # a token between two special ones
            if getattr(self, name) < least:
                raise SettingError(f"{name} is {getattr(self, name)}", remedy=f"give {least} or more")
        if not 0 <= self.window_share <= 1:
            raise SettingError(f"window_share is {self.window_share}", remedy="give a value from 0 to 1")
        if not self.relation_forms:
            raise SettingError("relation_forms is empty", remedy="give published, sentence, or both")
        if self.relation_forms != BOTH_FORMS and not self.relation_share:
            raise SettingError("relation_forms has no effect without relations", remedy="give a relation_share above 0")
        if self.mixture:
            others = {"sources": (), "neighbourhood_size": 1, "relation_share": 0.0, "definition_share": 0.5}
            for name, without_effect in others.items():
                if getattr(self, name) != without_effect:
                    raise SettingError(f"{name} has no effect beside a mixture", remedy=f"set it to {without_effect!r}")

    @property
    def trained_sources(self) -> tuple[str, ...]:
        """The sources whose texts are trained on, however they are drawn."""
        return self.sources or tuple(dict.fromkeys(source for part in self.mixture for source in part.sources))


class TextStream:
    """Draws text batches of the training concepts of a graph; also the text side of stage 2.

    Args:
        graph: knowledge.
        sides: concept → side of the split; only train is drawn.
        data: what is drawn.
        seed: decides every draw.
        pairs: where a mixture draws from, for a graph that is not held in memory; None draws from `graph`.
        encoder: what tokenises, for random windows; only needed where `data` asks for them.

    Raises:
        SettingError: `encoder` has no positions for texts of ``max_length``.
    """

    def __init__(
        self,
        graph: Graph,
        sides: Mapping[ConceptId, Split],
        data: TextData,
        *,
        seed: int,
        pairs: PairTable | None = None,
        encoder: TextEncoder | None = None,
    ) -> None:
        if (
            encoder is not None
            and (room := longest(cast("Any", encoder.network).config, data.max_length)) < data.max_length
        ):
            raise SettingError(
                f"max_length is {data.max_length}, but the encoder has {room} positions", remedy=f"give at most {room}"
            )
        self._data = data
        self._seed = seed
        self._encoder = encoder
        self._sampler: PairSampler | MixtureSampler
        if data.mixture:
            table = pairs or GraphPairs(graph, sides)
            self._ancestors: Ancestors = table.ancestors
            self._fillers: Fillers = table.fillers
            self._sampler = MixtureSampler(table, parts=data.mixture, batch_size=data.batch_size, seed=seed)
        else:
            trained = {concept for concept, side in sides.items() if side == "train"}
            self._ancestors = cache(graph.ancestors)
            self._fillers = graph_fillers(graph)
            self._sampler = neighbourhood_sampler(graph, trained, data, seed=seed)

    def draw(self) -> TextBatch:
        """Returns the next batch."""
        rng = np.random.default_rng([self._seed, 3, self._sampler.state_dict()["step"]])
        batch = text_batch(self._sampler.draw(), ancestors=self._ancestors, fillers=self._fillers)
        if not self._data.window_share:
            return batch
        assert self._encoder is not None, "windows are asked for, but nothing that tokenises"
        texts = random_windows(
            [*batch.left, *batch.right], self._encoder,
            max_length=self._data.max_length, share=self._data.window_share, rng=rng,
        )  # fmt: skip
        return replace(batch, left=texts[: len(batch.left)], right=texts[len(batch.left) :])

    def state_dict(self) -> dict[str, Any]:
        """Returns where the stream stands."""
        return dict(self._sampler.state_dict())

    def load_state_dict(self, state: Any) -> None:
        """Goes to where `state` was taken."""
        self._sampler.load_state_dict(state)


def neighbourhood_sampler(graph: Graph, concepts: Collection[ConceptId], data: TextData, *, seed: int) -> PairSampler:
    """Returns the sampler of `concepts` that `data` without a mixture asks for."""
    relations = None
    if data.relation_share:
        relations = RelationPairs(graph, concepts=concepts, sources=data.sources, forms=data.relation_forms)
    return PairSampler(
        text_pairs(graph, concepts=concepts, sources=data.sources),
        batch_size=data.batch_size,
        definition_share=data.definition_share,
        relations=relations,
        relation_share=data.relation_share,
        neighbours=siblings(graph, concepts) if data.neighbourhood_size > 1 else None,
        neighbourhood_size=data.neighbourhood_size,
        seed=seed,
    )


def siblings(graph: Graph, concepts: Collection[ConceptId]) -> dict[ConceptId, list[ConceptId]]:
    """Returns for each of `concepts` the others that share a direct parent: the concepts it is most easily confused with."""
    children: dict[ConceptId, list[ConceptId]] = {}
    for concept in graph:
        if concept.concept_id in concepts:
            for parent in graph.parents(concept.concept_id):
                children.setdefault(parent, []).append(concept.concept_id)
    return {
        concept: sorted({child for parent in graph.parents(concept) for child in children[parent]} - {concept})
        for concept in concepts
    }


def validation_graph(
    stored: StoredGraph, pairs: PairIndex, data: TextData, *, further: Collection[ConceptId] = ()
) -> tuple[Graph, dict[ConceptId, Split]]:
    """Returns some validation concepts of the trained sources with their texts, and their side: enough to validate by.

    Args:
        stored: the graph, which may be larger than memory.
        pairs: its pairs.
        data: what is trained on.
        further: concepts that are wanted too; those that the graph lacks are left out.

    Raises:
        InputError: there is none to validate by.
    """
    found = held_out_concepts(pairs, "validation", sources=data.trained_sources, num=NUM_VALIDATION_CONCEPTS)
    if not found:
        raise InputError(
            f"no held-out concept of {', '.join(data.trained_sources)} has a definition or synonym",
            where=stored.folder,
            remedy="build a larger graph, or train on more of its sources",
        )
    sides: dict[ConceptId, Split] = dict.fromkeys(found, "validation")
    sides |= {concept: side for concept in further if (side := pairs.side(concept)) is not None}
    return Graph(stored.concepts(list(sides)), [], stored.origins), sides


def validation_sources(data: TextData) -> tuple[str, ...]:
    """Returns the sources whose concepts validate: anatomy where it is trained on, else and with a mixture those trained on."""
    is_anatomy = not data.mixture and set(ANATOMY) <= set(data.trained_sources)
    return ANATOMY if is_anatomy else data.trained_sources


def check_validation(graph: Graph, sides: Mapping[ConceptId, Split], data: TextData) -> None:
    """Looks, before anything is trained, that there is something to validate by.

    Raises:
        InputError: no validation concept of `validation_sources` has a definition or synonym.
    """
    sources = validation_sources(data)
    held_out = {concept for concept, side in sides.items() if side == "validation"}
    if not any(find(graph, held_out, sources=sources).texts for find in (definition_queries, synonym_queries)):
        raise InputError(
            f"none of the {len(held_out)} concepts held out for validation has a definition or an exact synonym of "
            f"{', '.join(sources)}",
            remedy="build a larger graph, or train on more of its sources",
        )
