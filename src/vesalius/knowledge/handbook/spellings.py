"""From a label, as a dataset writes it, to a concept of the handbook."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from vesalius.errors import InputError
from vesalius.folder import unreadable
from vesalius.ids import ConceptId, Laterality
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.handbook.expand import Handbook
from vesalius.knowledge.handbook.files import read_entries
from vesalius.knowledge.names import folded_words, normalise, split_laterality

UNRESOLVED = "unresolved.tsv"
"""The labels that are nothing a handbook describes: label, dataset, reason."""

_ANY = ""

_Names = tuple[Mapping[str, Collection[ConceptId]], Mapping[str, Collection[ConceptId]]]
"""Text → the concepts that are called so, and those it is another name of."""

_MARKS = re.compile(r"[()\[\]*\"]")
"""What may stand around a part of a label."""

_DIRECTIONS = frozenset({
    "anterior", "posterior", "superior", "inferior", "medial", "lateral", "dorsal", "ventral", "rostral", "caudal", "proximal",
    "distal", "internal", "external", "inner", "outer", "upper", "lower", "middle", "mid", "central", "superficial", "deep",
    "frontal", "temporal", "parietal", "occipital",
})  # fmt: skip

_LETTER = re.compile(r"[lr]\d*")
"""A word that may name a side: "rib L 1"."""

_Meaning = TypeVar("_Meaning")


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """What a label means.

    Attributes:
        concept_id: the concept.
        scope: how the concept compares with the label: broad where it is broader.
        tied_by: through its preferred name, a synonym, or a dataset's spelling.
    """

    concept_id: ConceptId
    scope: Scope
    tied_by: Literal["name", "synonym", "spelling"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetLabel:
    """A label of a dataset."""

    label: str
    dataset: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """How the labels of a list resolve.

    Attributes:
        matches: label → what it means.
        excused: label → why it means nothing.
        missing: labels that resolve to nothing, without an excuse.
    """

    matches: Mapping[DatasetLabel, Match]
    excused: Mapping[DatasetLabel, str]
    missing: tuple[DatasetLabel, ...]


class LabelIndex:
    """Looks labels up as `SCHEMA.md` says: a dataset's spellings before its family's, these before names; whole before rest and side.

    What no text is written like is looked up loosely: the same words in another order, number or spelling.

    Attributes:
        handbook: all concepts.

    Args:
        handbook: all concepts.
    """

    def __init__(self, handbook: Handbook) -> None:
        self.handbook = handbook
        self._spellings: dict[str, dict[str, set[tuple[ConceptId, Scope]]]] = {}
        self._names: dict[str, set[ConceptId]] = defaultdict(set)
        self._synonyms: dict[str, set[ConceptId]] = defaultdict(set)
        for concept in handbook:
            body = concept.body
            for spelling in body.spellings:
                for key in _keys(spelling.text):
                    for dataset in (*spelling.datasets, _ANY):
                        spelled = self._spellings.setdefault(dataset, {})
                        spelled.setdefault(key, set()).add((concept.concept_id, spelling.scope))
            self._names[normalise(concept.name)].add(concept.concept_id)
            exact = (synonym.text for synonym in body.synonyms if synonym.scope is Scope.EXACT)
            for text in (*exact, *body.latin, *body.abbreviations):
                self._synonyms[normalise(text)].add(concept.concept_id)
        self._loose_names: _Names = (_loosely(self._names), _loosely(self._synonyms))
        self._loose_spellings = _loosely(self._spellings.get(_ANY, {}))

    def find(self, label: str, dataset: str | None = None) -> Match | None:
        """Returns what `label` means, in `dataset` where that is given; None where it means nothing, or too much."""
        texts = _keys(label)
        rest, side = split_laterality(label)
        families = [] if dataset is None else [dataset, dataset.partition("/")[0]]
        for family in (*families, None, _ANY):
            for text in texts:
                if (match := self._look_up(family, text, None)) is not None:
                    return match
            if side is not None and (match := self._look_up(family, rest, side)) is not None:
                return match
        return self._find_loosely(label)

    def _find_loosely(self, label: str) -> Match | None:
        """Returns what the words of `label` mean in any order, with the side among them or taken out."""
        for words, side in _word_readings(label):
            for key in _loose_keys(words):
                match = self._named(self._loose_names, key, side) or self._spelled(self._loose_spellings, key, side)
                if match is not None:
                    return match
                if any(key in index for index in (*self._loose_names, self._loose_spellings)):
                    break  # it means several things, which written as one word are no fewer
        return None

    @property
    def datasets(self) -> list[str]:
        """The datasets and families whose spellings are known."""
        return sorted(dataset for dataset in self._spellings if dataset != _ANY)

    def ambiguous(self) -> Iterator[tuple[str, str, list[ConceptId]]]:
        """Yields (dataset, spelling, concepts) for what means several concepts in one dataset."""
        for dataset, spelled in self._spellings.items():
            for text, found in spelled.items():
                concepts = sorted({concept for concept, _ in found})
                if dataset != _ANY and len(concepts) > 1:
                    yield dataset, text, concepts

    def _look_up(self, family: str | None, text: str, side: Laterality | None) -> Match | None:
        """Returns what `text` means among the spellings of `family`, or among names for None."""
        if family is None:
            return self._named((self._names, self._synonyms), text, side)
        return self._spelled(self._spellings.get(family, {}), text, side)

    def _spelled(
        self, spellings: Mapping[str, Collection[tuple[ConceptId, Scope]]], text: str, side: Laterality | None
    ) -> Match | None:
        found = {(self._of_side(concept, side), scope) for concept, scope in spellings.get(text, ())}
        concepts = {concept for concept, _ in found} - {None}
        if len(concepts) != 1:
            return None
        (concept,) = concepts
        assert concept is not None
        scope = min((scope for known, scope in found if known is not None), key=list(Scope).index)
        return Match(concept_id=concept, scope=scope, tied_by="spelling")

    def _named(self, names: _Names, text: str, side: Laterality | None) -> Match | None:
        for bearers in names:
            concepts = {self._of_side(concept, side) for concept in bearers.get(text, ())} - {None}
            if len(concepts) == 1:
                (concept,) = concepts
                assert concept is not None
                tied: Literal["name", "synonym"] = "name" if bearers is names[0] else "synonym"
                return Match(concept_id=concept, scope=Scope.EXACT, tied_by=tied)
        return None

    def _of_side(self, concept: ConceptId, side: Laterality | None) -> ConceptId | None:
        if side is None or self.handbook[concept].laterality == side:
            return concept
        return self.handbook.sides_of(concept).get(side)


@cache
def shipped_index() -> LabelIndex:
    """Returns the index of the handbook that ships with the package."""
    return LabelIndex(Handbook(read_entries()))


def _keys(text: str) -> tuple[str, ...]:
    """Returns the forms a text is looked up by: as written, and with its camel case taken apart."""
    rest, side = split_laterality(text)
    return tuple(dict.fromkeys((normalise(text), *(() if side else (rest,)))))


def _loosely(index: Mapping[str, Collection[_Meaning]]) -> dict[str, set[_Meaning]]:
    """Returns an index of texts by their loose keys."""
    made: dict[str, set[_Meaning]] = defaultdict(set)
    for text, meanings in index.items():
        for key in _loose_keys(folded_words(text)):
            made[key].update(meanings)
    return dict(made)


def _loose_keys(words: Sequence[str]) -> tuple[str, ...]:
    """Returns what `words` are compared by: in order of the alphabet, and written as one.

    Words of direction keep their own order: the anterior ventral and the ventral anterior nucleus are two.
    """
    if not words:
        return ()
    directions = [word for word in words if word in _DIRECTIONS]
    return " ".join([*sorted(word for word in words if word not in _DIRECTIONS), *directions]), "".join(words)


def _word_readings(label: str) -> Iterator[tuple[Sequence[str], Laterality | None]]:
    """Yields the words of `label`, its side among them, then without it; a side may be a letter anywhere, or stand before a number."""
    rest, side = split_laterality(_MARKS.sub(" ", label))
    words = folded_words(rest)
    if side is not None:
        yield (side, *words), None
        yield words, side
        return
    yield words, None
    letters = [index for index, word in enumerate(words) if _LETTER.fullmatch(word)]
    if len(letters) == 1 and len(words) > 1:
        (index,) = letters
        letter, number = words[index][0], words[index][1:]
        yield (*words[:index], *filter(None, [number]), *words[index + 1 :]), "left" if letter == "l" else "right"


def read_labels(path: Path) -> list[DatasetLabel]:
    """Returns every (label, dataset) of a table with the columns `label` and `datasets` (or `dataset`), ``|`` between several.

    Raises:
        InputError: it cannot be read, or lacks a column.
    """
    rows = _rows(path)
    made = []
    for number, row in enumerate(rows, start=2):
        label, datasets = row.get("label"), row.get("datasets") or row.get("dataset")
        if not label or not datasets:
            raise InputError(
                "a row lacks its label or its dataset", where=f"{path}:{number}", remedy="columns: label, datasets"
            )
        made += [DatasetLabel(label=label, dataset=dataset) for dataset in datasets.split("|")]
    return made


def read_unresolved(folder: Path) -> dict[DatasetLabel, str]:
    """Returns label → why it means nothing, as the handbook in `folder` lists it; a dataset ``*`` stands for all.

    Raises:
        InputError: the list cannot be read, or a row lacks its reason.
    """
    path = folder / UNRESOLVED
    if not path.exists():
        return {}
    rows = _rows(path)
    for number, row in enumerate(rows, start=2):
        if not (row.get("label") and row.get("dataset") and row.get("reason")):
            raise InputError("a row lacks a value", where=f"{path}:{number}", remedy="columns: label, dataset, reason")
    return {DatasetLabel(label=row["label"], dataset=row["dataset"]): row["reason"] for row in rows}


def coverage(handbook: Handbook, labels: Iterable[DatasetLabel], unresolved: Mapping[DatasetLabel, str]) -> Coverage:
    """Returns how `labels` resolve; one that is listed as unresolved is not looked up."""
    index = LabelIndex(handbook)
    matches: dict[DatasetLabel, Match] = {}
    excused: dict[DatasetLabel, str] = {}
    missing = []
    for label in labels:
        everywhere = DatasetLabel(label=label.label, dataset="*")
        if label in unresolved or everywhere in unresolved:
            excused[label] = unresolved.get(label) or unresolved[everywhere]
        elif (match := index.find(label.label, label.dataset)) is not None:
            matches[label] = match
        else:
            missing.append(label)
    return Coverage(matches=matches, excused=excused, missing=tuple(missing))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError("not UTF-8", where=path, remedy="save it as UTF-8") from error
