"""Text pairs: two texts of one concept."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.names import normalise

PairKind = Literal["definition", "synonym"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPair:
    """A text of a concept and the preferred name it belongs to.

    Attributes:
        text: a definition or an exact synonym.
        name: the preferred name.
    """

    concept_id: ConceptId
    kind: PairKind
    text: str
    name: str


def text_pairs(
    graph: Graph, *, concepts: Collection[ConceptId], sources: Collection[str] | None = None
) -> dict[PairKind, list[TextPair]]:
    """Returns the pairs of `concepts` by kind, in the order of the graph: definition ↔ name, exact synonym ↔ name.

    Names and synonyms are lower-cased, as published (SAT-Pretrain); definitions are left as they are. A synonym that
    equals the name once both are normalised gives no pair.

    Args:
        graph: where the texts come from.
        concepts: the concepts to take, for instance one side of a split.
        sources: take only texts of these sources; None takes all.
    """
    pairs: dict[PairKind, list[TextPair]] = {"definition": [], "synonym": []}
    for concept in graph:
        if concept.concept_id not in concepts or (sources is not None and concept.source not in sources):
            continue
        name = concept.name.lower()
        pairs["definition"] += [
            TextPair(concept_id=concept.concept_id, kind="definition", text=definition.text, name=name)
            for definition in concept.definitions
            if sources is None or definition.source in sources
        ]
        pairs["synonym"] += [
            TextPair(concept_id=concept.concept_id, kind="synonym", text=synonym.text.lower(), name=name)
            for synonym in concept.synonyms
            if synonym.scope is Scope.EXACT
            and (sources is None or synonym.source in sources)
            and normalise(synonym.text) != normalise(concept.name)
        ]
    return pairs


def by_concept(pairs: Mapping[PairKind, list[TextPair]]) -> dict[ConceptId, dict[PairKind, list[TextPair]]]:
    """Returns the same pairs grouped by concept, then kind; kinds a concept lacks are absent."""
    grouped: dict[ConceptId, dict[PairKind, list[TextPair]]] = {}
    for kind, listed in pairs.items():
        for pair in listed:
            grouped.setdefault(pair.concept_id, {}).setdefault(kind, []).append(pair)
    return grouped
