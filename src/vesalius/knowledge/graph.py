"""The knowledge graph in memory."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from vesalius.folder import Origin
from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Concept, Relation, WrittenRow
from vesalius.knowledge.names import normalise
from vesalius.knowledge.predicates import HIERARCHICAL


class Graph:
    """Concepts by id, relations between them, where they come from, and rows as their source wrote them.

    Relations whose subject or object is no concept of the graph are refused by `knowledge.build`; here they are
    a defect.
    """

    def __init__(
        self,
        concepts: Iterable[Concept],
        relations: Iterable[Relation],
        origins: Sequence[Origin] = (),
        written: Iterable[WrittenRow] = (),
    ) -> None:
        self._concepts = {concept.concept_id: concept for concept in concepts}
        self.relations = tuple(relations)
        self.origins = tuple(origins)
        self.written = tuple(written)
        for relation in self.relations:
            assert relation.subject in self._concepts, relation
            assert relation.object in self._concepts, relation

    def __len__(self) -> int:
        return len(self._concepts)

    def __iter__(self) -> Iterator[Concept]:
        return iter(self._concepts.values())

    def __contains__(self, concept_id: object) -> bool:
        return concept_id in self._concepts

    def __getitem__(self, concept_id: ConceptId) -> Concept:
        return self._concepts[concept_id]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        mine = (self._concepts, self.relations, self.origins, self.written)
        return mine == (other._concepts, other.relations, other.origins, other.written)

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def _by_subject(self) -> dict[ConceptId, list[Relation]]:
        found: dict[ConceptId, list[Relation]] = defaultdict(list)
        for relation in self.relations:
            found[relation.subject].append(relation)
        return dict(found)

    @cached_property
    def _by_object(self) -> dict[ConceptId, list[Relation]]:
        found: dict[ConceptId, list[Relation]] = defaultdict(list)
        for relation in self.relations:
            found[relation.object].append(relation)
        return dict(found)

    @cached_property
    def _by_name(self) -> dict[str, list[ConceptId]]:
        """Normalised exact name → the concepts that bear it, those that prefer it first."""
        preferred: dict[str, list[ConceptId]] = defaultdict(list)
        for concept in self:
            preferred[normalise(concept.name)].append(concept.concept_id)
        for concept in self:
            for text in concept.exact_names():
                bearers = preferred[normalise(text)]
                if concept.concept_id not in bearers:
                    bearers.append(concept.concept_id)
        return dict(preferred)

    def relations_of(self, concept_id: ConceptId) -> list[Relation]:
        """Returns the relations whose subject is `concept_id`."""
        return self._by_subject.get(concept_id, [])

    def relations_to(self, concept_id: ConceptId) -> list[Relation]:
        """Returns the relations whose object is `concept_id`."""
        return self._by_object.get(concept_id, [])

    def parents(self, concept_id: ConceptId) -> list[ConceptId]:
        """Returns the objects of the concept's relations whose predicate is one of `HIERARCHICAL`."""
        return [relation.object for relation in self.relations_of(concept_id) if relation.predicate in HIERARCHICAL]

    def ancestors(self, concept_id: ConceptId) -> frozenset[ConceptId]:
        """Returns everything above `concept_id` along `parents`, itself left out; a cycle is walked once."""
        found: set[ConceptId] = set()
        waiting = [concept_id]
        while waiting:
            for parent in self.parents(waiting.pop()):
                if parent not in found:
                    found.add(parent)
                    waiting.append(parent)
        return frozenset(found - {concept_id})

    def named(self, text: str) -> list[Concept]:
        """Returns the concepts that bear `text` as exact name (normalised), those that prefer it first."""
        return [self[concept_id] for concept_id in self._by_name.get(normalise(text), [])]

    def suggestions(self, text: str, *, num: int = 5) -> list[str]:
        """Returns up to `num` names of the graph that are spelled like `text`, the nearest first."""
        return difflib.get_close_matches(normalise(text), self._by_name, n=num, cutoff=0.6)

    def counts(self) -> dict[str, dict[str, int]]:
        """Returns per source the number of concepts, synonyms, definitions, relations and xrefs."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for concept in self:
            counts[concept.source]["concepts"] += 1
            for synonym in concept.synonyms:
                counts[synonym.source]["synonyms"] += 1
            for definition in concept.definitions:
                counts[definition.source]["definitions"] += 1
            for xref in concept.xrefs:
                counts[xref.source]["xrefs"] += 1
        for relation in self.relations:
            counts[relation.source]["relations"] += 1
        kinds = ("concepts", "synonyms", "definitions", "relations", "xrefs")
        return {source: {kind: counted[kind] for kind in kinds} for source, counted in sorted(counts.items())}
