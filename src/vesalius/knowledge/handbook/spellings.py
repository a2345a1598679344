"""From a label, as a dataset writes it, to a concept of the handbook."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from vesalius.errors import InputError
from vesalius.folder import unreadable
from vesalius.ids import ConceptId, Laterality
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.handbook.expand import Handbook
from vesalius.knowledge.handbook.files import read_entries
from vesalius.knowledge.names import normalise, split_laterality

UNRESOLVED = "unresolved.tsv"
"""The labels that are nothing a handbook describes: label, dataset, reason."""

_ANY = ""


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
            return self._named(text, side)
        spelled = self._spellings.get(family, {}).get(text, ())
        found = {(self._of_side(concept, side), scope) for concept, scope in spelled}
        concepts = {concept for concept, _ in found} - {None}
        if len(concepts) != 1:
            return None
        (concept,) = concepts
        assert concept is not None
        scope = min((scope for known, scope in found if known is not None), key=list(Scope).index)
        return Match(concept_id=concept, scope=scope, tied_by="spelling")

    def _named(self, text: str, side: Laterality | None) -> Match | None:
        for bearers in (self._names, self._synonyms):
            concepts = {self._of_side(concept, side) for concept in bearers.get(text, ())} - {None}
            if len(concepts) == 1:
                (concept,) = concepts
                assert concept is not None
                tied: Literal["name", "synonym"] = "name" if bearers is self._names else "synonym"
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
