"""Text pairs: a text and the name that answers it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Scope, WrittenRow
from vesalius.knowledge.definitions import statement
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.names import normalise
from vesalius.knowledge.sentences import End, RelationForm, published_text, sentence, sentences

PairKind = Literal["definition", "synonym", "relation"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenRelation:
    """A relation with one end left open, as a text says it: "part of the urinary system".

    Attributes:
        predicate: what the relation says.
        named: the concept at the end that the text names.
        asked: the open end.
    """

    predicate: str
    named: ConceptId
    asked: End


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPair:
    """A text and the preferred name that answers it.

    Attributes:
        concept_id: the concept of `name`.
        kind: what `text` is.
        text: a definition, an exact synonym, or a relation with one end open.
        name: the preferred name.
        relation: what `text` says, where it is a relation: other concepts may answer it as well.
    """

    concept_id: ConceptId
    kind: PairKind
    text: str
    name: str
    relation: OpenRelation | None = None


@runtime_checkable
class Fillers(Protocol):
    """Gives what answers an open relation."""

    def __call__(self, relation: OpenRelation, *, among: Collection[ConceptId]) -> Collection[ConceptId]:
        """Returns those of `among` that stand at the open end of such a relation."""
        ...


def text_pairs(
    graph: Graph, *, concepts: Collection[ConceptId], sources: Collection[str] | None = None
) -> dict[PairKind, list[TextPair]]:
    """Returns the pairs of `concepts` by kind, in the order of the graph: definition ↔ name, exact synonym ↔ name.

    Names and synonyms are lower-cased, as published (SAT-Pretrain); definitions lose the notes at their end alone. A synonym that
    equals the name once both are normalised gives no pair; broad, narrow and related synonyms give none: they are
    names of something else.

    Args:
        graph: where the texts come from.
        concepts: the concepts to take, for instance one side of a split.
        sources: take only definitions and synonyms of these sources, whoever gives the name; None takes all.
    """
    pairs: dict[PairKind, list[TextPair]] = {"definition": [], "synonym": []}
    for concept in graph:
        if concept.concept_id not in concepts:
            continue
        name = concept.name.lower()
        pairs["definition"] += [
            TextPair(concept_id=concept.concept_id, kind="definition", text=statement(definition.text), name=name)
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


class RelationPairs:
    """Relations of a graph as pairs, made as they are drawn: which template says a relation is left to chance.

    A relation counts only where both its ends are in `concepts`: of a concept that is held out not even the name is
    trained on.

    Args:
        graph: where the relations come from.
        concepts: the concepts to take, for instance one side of a split.
        sources: take only relations of these sources; None takes all.
        forms: the forms a text may have, each drawn equally often.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        concepts: Collection[ConceptId],
        sources: Collection[str] | None = None,
        forms: Sequence[RelationForm] = ("published", "sentence"),
    ) -> None:
        self._graph = graph
        self._forms = forms
        self._open: dict[ConceptId, dict[End, list[OpenRelation]]] = {}
        self.num_relations = 0
        for relation in graph.relations:
            if not (relation.subject in concepts and relation.object in concepts):
                continue
            if sources is None or relation.source in sources:
                self.num_relations += 1
                self._add(relation.subject, relation.predicate, relation.object, asked="subject")
                self._add(relation.object, relation.predicate, relation.subject, asked="object")

    def _add(self, concept: ConceptId, predicate: str, named: ConceptId, *, asked: End) -> None:
        found = OpenRelation(predicate=predicate, named=named, asked=asked)
        self._open.setdefault(concept, {}).setdefault(asked, []).append(found)

    def __contains__(self, concept_id: object) -> bool:
        return concept_id in self._open

    def concepts(self) -> Collection[ConceptId]:
        """Returns the concepts that stand at an end of a relation."""
        return self._open.keys()

    def draw(self, concept_id: ConceptId, rng: np.random.Generator) -> TextPair:
        """Returns a pair that `concept_id` answers; the end it stands at is drawn with equal chance where it stands at both."""
        ends = self._open[concept_id]
        asked = tuple(ends)[int(rng.integers(len(ends)))]
        chosen = ends[asked][rng.integers(len(ends[asked]))]
        form = self._forms[int(rng.integers(len(self._forms)))]
        name = self._graph[concept_id].name
        return relation_pair(
            concept_id, name, chosen, named=self._graph[chosen.named].name, form=form, choice=float(rng.random())
        )


def relation_pair(
    concept_id: ConceptId, name: str, relation: OpenRelation, *, named: str, form: RelationForm, choice: float
) -> TextPair:
    """Returns the pair in which `name` answers `relation`.

    Args:
        concept_id: the concept at the open end.
        name: its preferred name.
        relation: what the text says.
        named: name of the other end.
        form: published template, or sentence.
        choice: which sentence where there are several, 0 up to 1.
    """
    name, named = name.lower(), named.lower()
    if form == "published":
        text = published_text(relation.predicate, named, asked=relation.asked)
    else:
        templates = sentences(relation.predicate, asked=relation.asked)
        subject, object_ = (name, named) if relation.asked == "subject" else (named, name)
        text = sentence(templates[int(choice * len(templates))], subject=subject, object=object_)
    return TextPair(concept_id=concept_id, kind="relation", text=text, name=name, relation=relation)


def written_pair(row: WrittenRow, *, asked: End | None) -> TextPair:
    """Returns the pair of a row as its source wrote it: names in lower case, everything else as it stands.

    Args:
        row: the row.
        asked: of a relation, the open end; without effect on others.

    Source: SAT-Pretrain's ``data/dataset.py``, class ``Uni_Mod_Dataset`` (read for its behaviour).
    """
    name = row.name.lower()
    if row.kind != "relation":
        return TextPair(concept_id=row.concept_id, kind=row.kind, text=row.text, name=name)
    assert asked is not None
    assert row.predicate is not None
    assert row.target is not None
    assert row.target_id is not None
    target = row.target.lower()
    named = row.concept_id if asked == "object" else row.target_id
    relation = OpenRelation(predicate=row.predicate, named=named, asked=asked)
    if asked == "object":
        text = f"{name} {row.text}"
        return TextPair(concept_id=row.target_id, kind="relation", text=text, name=target, relation=relation)
    text = f"{row.text} {target}"
    return TextPair(concept_id=row.concept_id, kind="relation", text=text, name=name, relation=relation)


def graph_fillers(graph: Graph) -> Fillers:
    """Returns what looks fillers up in a graph in memory."""

    def fillers(relation: OpenRelation, *, among: Collection[ConceptId]) -> Collection[ConceptId]:
        if relation.asked == "subject":
            found = {r.subject for r in graph.relations_to(relation.named) if r.predicate == relation.predicate}
        else:
            found = {r.object for r in graph.relations_of(relation.named) if r.predicate == relation.predicate}
        return found.intersection(among)

    return fillers
