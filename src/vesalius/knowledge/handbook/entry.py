"""An entry as it is written in the handbook's files (`SCHEMA.md`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from vesalius.ids import ConceptId, Laterality
from vesalius.knowledge.concept import Scope

REGIONS = ("brain", "head and neck", "upper limb", "thorax", "spine", "abdomen", "lower limb", "pelvis", "body")
SYSTEMS = (
    "skeletal", "articular", "muscular", "cardiovascular", "respiratory", "digestive", "urinary", "reproductive",
    "endocrine", "nervous", "sensory", "lymphatic", "integumentary", "general",
)  # fmt: skip
AXES = ("inferior", "superior", "anterior", "posterior")
SIZES = ("volume_ml", "length_mm", "diameter_mm", "width_mm", "height_mm", "thickness_mm")
PREFIX = "VES"
"""CURIE prefix of the handbook's own concepts."""

OPPOSITES = {"right_of": "left_of", "inferior_to": "superior_to", "posterior_to": "anterior_to"}
"""Predicate that is derived → the one that is kept, which says the same with subject and object exchanged."""
SPATIAL = tuple(OPPOSITES.values())
SYMMETRIC = ("adjacent_to", "continuous_with", "mirror_of")
PREDICATES = (
    "is_a", "part_of", "adjacent_to", *SPATIAL, "supplies", "drains", "innervates", "continuous_with", "contains",
    "mirror_of", "next_in_series",
)  # fmt: skip
BY_RULE = ("mirror_of", "next_in_series")
"""Predicates that no entry writes."""

Interval = tuple[float, float]
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]*)\}")


@dataclass(frozen=True, kw_only=True, slots=True)
class HandbookSynonym:
    """Another name, and how its meaning compares with the concept (OBO's sense of scope)."""

    text: str
    scope: Scope


@dataclass(frozen=True, kw_only=True, slots=True)
class Spelling:
    """How datasets write a label.

    Attributes:
        text: the label, with or without its side.
        datasets: names of `labels.tsv`, or families such as ``TotalSegmentator``.
        scope: how the concept compares with the label: broad where the concept is broader (SKOS's broadMatch).
    """

    text: str
    datasets: tuple[str, ...]
    scope: Scope = Scope.EXACT


@dataclass(frozen=True, kw_only=True, slots=True)
class Appearance:
    """How it looks in one modality.

    Attributes:
        text: a sentence or two; empty where only the ranges are known.
        density_hu: mean density, unenhanced.
        enhanced_hu: mean density in any usual phase after contrast medium.
    """

    text: str
    density_hu: Interval | None = None
    enhanced_hu: Interval | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reviewed:
    """What an entry was checked against, and how often it was read."""

    references: tuple[str, ...]
    read: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """What an entry, a side, a template and a member of a series share. Texts may hold placeholders."""

    concept_id: str | None = None
    name: str | None = None
    latin: tuple[str, ...] = ()
    abbreviations: tuple[str, ...] = ()
    synonyms: tuple[HandbookSynonym, ...] = ()
    spellings: tuple[Spelling, ...] = ()
    definition: str | None = None
    appearance: Mapping[str, Appearance] = field(default_factory=dict)
    size: Mapping[str, Interval] = field(default_factory=dict)
    relations: tuple[tuple[str, str], ...] = ()
    xrefs: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)

    def over(self, base: Body) -> Body:
        """Returns `base` with this laid over it: texts and ranges replace, lists are added, ids are not inherited."""
        merged: dict[str, Any] = {"concept_id": self.concept_id, "xrefs": self.xrefs}
        for name in ("name", "definition"):
            merged[name] = getattr(self, name) or getattr(base, name)
        for name in ("latin", "abbreviations", "synonyms", "spellings", "relations"):
            merged[name] = tuple(dict.fromkeys((*getattr(base, name), *getattr(self, name))))
        for name in ("appearance", "size", "words"):
            merged[name] = {**getattr(base, name), **getattr(self, name)}
        return Body(**merged)

    def filled(self, words: Mapping[str, str]) -> Body:
        """Returns the body with every placeholder replaced.

        Raises:
            KeyError: a placeholder has no word.
        """
        return replace(
            self,
            concept_id=fill(self.concept_id, words) if self.concept_id else None,
            name=fill(self.name, words) if self.name else None,
            latin=tuple(fill(text, words) for text in self.latin),
            abbreviations=tuple(fill(text, words) for text in self.abbreviations),
            synonyms=tuple(replace(synonym, text=fill(synonym.text, words)) for synonym in self.synonyms),
            spellings=tuple(replace(spelling, text=fill(spelling.text, words)) for spelling in self.spellings),
            definition=fill(self.definition, words) if self.definition else None,
            appearance={key: replace(seen, text=fill(seen.text, words)) for key, seen in self.appearance.items()},
            relations=tuple((fill(predicate, words), fill(target, words)) for predicate, target in self.relations),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """What is special to both sides, to the left, to the right."""

    both: Body
    left: Body
    right: Body

    def of(self, side: Laterality) -> Body:
        """Returns what is written for `side`: its own over what both share."""
        return (self.left if side == "left" else self.right).over(self.both)


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One of a series."""

    number: int
    body: Body


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A numbered series: a template and its members.

    Attributes:
        kind: what is numbered, e.g. ``vertebra``.
        axis: where the next member lies, if that holds in every body.
        before: target that comes before the first member.
        after: target that comes after the last member.
        template: what all members share, with placeholders.
        sides: where the members are paired.
        members: in order.
    """

    kind: str
    axis: str | None
    before: str | None
    after: str | None
    template: Body
    sides: Sides | None
    members: tuple[Member, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of the handbook.

    Attributes:
        body: names, texts, ranges and relations.
        parent: what a concept of our own hangs on.
        region: one of `REGIONS`.
        system: one of `SYSTEMS`.
        laterality: of what exists on one side alone.
        number: of one of a series that is written singly.
        sides: of what is paired.
        series: of what is numbered.
        reviewed: what it was checked against.
        since: the version of the handbook it came with.
        where: file and line.
    """

    body: Body
    parent: str | None
    region: str
    system: str
    laterality: Laterality | None
    number: int | None
    sides: Sides | None
    series: Series | None
    reviewed: Reviewed
    since: str
    where: str

    @property
    def concept_id(self) -> ConceptId:
        """The entry's own concept."""
        assert self.body.concept_id is not None
        return ConceptId(self.body.concept_id)

    @property
    def name(self) -> str:
        """The preferred name."""
        assert self.body.name is not None
        return self.body.name


BODY_KEYS = tuple(item.name for item in fields(Body))


def fill(text: str, words: Mapping[str, str]) -> str:
    """Returns `text` with each ``{word}`` replaced.

    Raises:
        KeyError: a placeholder has no word.
    """
    return _PLACEHOLDER.sub(lambda match: words[match[1]], text)
