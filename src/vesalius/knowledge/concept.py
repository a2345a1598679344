"""A concept and what is written about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from vesalius.ids import ConceptId
from vesalius.knowledge.predicates import Predicate


class Scope(StrEnum):
    """How the meaning of a synonym compares with its concept (OBO 1.4, section on synonyms)."""

    EXACT = "exact"
    NARROW = "narrow"
    BROAD = "broad"
    RELATED = "related"


@dataclass(frozen=True, kw_only=True, slots=True)
class Synonym:
    """Another name of a concept."""

    text: str
    scope: Scope
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """A sentence that says what a concept is; `references` name where its source has it from."""

    text: str
    source: str
    references: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Xref:
    """The id of the same concept elsewhere."""

    target: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Relation:
    """Subject, predicate, object."""

    subject: ConceptId
    predicate: Predicate
    object: ConceptId
    source: str


WrittenKind = Literal["definition", "synonym", "relation"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenRow:
    """A row as its source wrote it, before names were joined, words changed, repeats and relations to itself dropped.

    Attributes:
        kind: what the row says.
        source: its source.
        concept_id: the concept that `name` became; of a relation, its subject.
        name: what the row calls it.
        text: definition, synonym, or the words between the names of a relation.
        predicate: of a relation, what `text` became.
        target: of a relation, what the row calls its object.
        target_id: of a relation, the concept that `target` became.
    """

    kind: WrittenKind
    source: str
    concept_id: ConceptId
    name: str
    text: str
    predicate: Predicate | None = None
    target: str | None = None
    target_id: ConceptId | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Concept:
    """A node of the graph with all its texts.

    Attributes:
        concept_id: its CURIE.
        name: the preferred name, as the source writes it.
        source: the source the preferred name comes from.
    """

    concept_id: ConceptId
    name: str
    source: str
    synonyms: tuple[Synonym, ...] = ()
    definitions: tuple[Definition, ...] = ()
    xrefs: tuple[Xref, ...] = ()

    def exact_names(self) -> Iterator[str]:
        """Yields the preferred name, then every exact synonym."""
        yield self.name
        for synonym in self.synonyms:
            if synonym.scope is Scope.EXACT:
                yield synonym.text
