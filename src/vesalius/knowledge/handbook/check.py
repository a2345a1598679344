"""What is wrong with the handbook, as far as a machine can say it."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vesalius.errors import InputError
from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.handbook.entry import PREFIX, SPATIAL, Entry
from vesalius.knowledge.handbook.expand import Handbook, HandbookConcept
from vesalius.knowledge.handbook.files import handbook_files, lines_of
from vesalius.knowledge.handbook.parse import parse_line
from vesalius.knowledge.handbook.spellings import LabelIndex, coverage, read_labels, read_unresolved
from vesalius.knowledge.names import normalise
from vesalius.knowledge.predicates import HIERARCHICAL

ONTOLOGIES = ("uberon", "mondo")
DECISIONS = "decisions.tsv"
"""Where the handbook differs from an ontology, and why: subject, predicate, object, decision."""

RUN = 8
"""A run of this many words in common with another work is a copy."""

_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something to put right.

    Attributes:
        where: file and line.
        what: what is wrong.
    """

    where: str
    what: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What `check_all` found.

    Attributes:
        problems: everything to put right.
        summary: lines that say what there is and what was compared.
    """

    problems: tuple[Problem, ...]
    summary: tuple[str, ...]


def check_all(folder: Path, ontologies: Graph, *, labels: Path | None = None) -> Outcome:
    """Checks the handbook in `folder` against itself, against ontologies, and against a list of labels.

    Args:
        folder: with its files.
        ontologies: UBERON and MONDO (`ONTOLOGIES`), in one graph.
        labels: table of labels that should resolve, or None.

    Raises:
        InputError: there is no handbook, or a list cannot be read.
    """
    handbook, problems = read_all(folder)
    problems += [*check_names(handbook), *check_relations(handbook)]
    problems += [
        Problem(where=dataset, what=f"{text!r} means {', '.join(concepts)}")
        for dataset, text, concepts in LabelIndex(handbook).ambiguous()
    ]
    decided = read_decisions(folder / DECISIONS)
    for check in (check_against, check_ids, check_places):
        problems += check(handbook, ontologies, decided)
    others = [(str(concept.concept_id), text.text) for concept in ontologies for text in concept.definitions]
    problems += check_wording(handbook, others)
    relations = sum(len(concept.relations) for concept in handbook)
    summary = [f"{len(handbook.entries)} entries, {len(handbook)} concepts, {relations} relations (kept directions)"]
    if labels is not None:
        wanted = read_labels(labels)
        found = coverage(handbook, wanted, read_unresolved(folder))
        texts = {label.label for label in wanted}
        resolved = texts - {label.label for label in (*found.missing, *found.excused)}
        problems += [
            Problem(where=label.dataset, what=f"label {label.label!r} resolves to nothing") for label in found.missing
        ]
        summary.append(
            f"{len(resolved)} of {len(texts)} labels resolve in all their datasets ({len(resolved) / len(texts):.1%})"
        )
    return Outcome(problems=tuple(problems), summary=tuple(summary))


def read_all(folder: Path) -> tuple[Handbook, list[Problem]]:
    """Returns what can be made of the handbook in `folder`, and what stood against the rest."""
    problems: list[Problem] = []
    entries: list[Entry] = []
    for path in handbook_files(folder):
        before = ""
        for where, line in lines_of(path):
            try:
                entry = parse_line(line, where=where)
            except InputError as error:
                problems.append(Problem(where=where, what=error.what))
                continue
            if entry.concept_id <= before:
                problems.append(
                    Problem(where=where, what=f"{entry.concept_id} stands after {before}: sort with --tidy")
                )
            before = entry.concept_id
            entries.append(entry)

    def note(error: InputError) -> None:
        problems.append(Problem(where=str(error.where), what=error.what))

    return Handbook(entries, refuse=note), problems


def check_relations(handbook: Handbook) -> Iterator[Problem]:
    """Yields spatial, `is_a`, `part_of` and series relations that run in a circle, and mirror pairs that do not agree."""
    for predicate in (*SPATIAL, "is_a", "part_of", "next_in_series"):
        towards: dict[ConceptId, list[ConceptId]] = defaultdict(list)
        for concept in handbook:
            for said, target in concept.relations:
                if said == predicate:
                    towards[concept.concept_id].append(target)
        circle = find_circle(towards)
        if circle:
            names = f" {predicate} ".join(handbook[concept].name for concept in circle)
            yield Problem(where=handbook[circle[0]].entry.where, what=f"a circle: {names}")
    for concept in handbook:
        for said, target in concept.relations:
            mirrored = handbook[target]
            if said == "mirror_of" and (
                ("mirror_of", concept.concept_id) not in mirrored.relations
                or {concept.laterality, mirrored.laterality} != {"left", "right"}
                or concept.size.keys() != mirrored.size.keys()
            ):
                yield Problem(
                    where=concept.entry.where, what=f"{concept.name} and {mirrored.name} do not mirror each other"
                )


def find_circle(towards: Mapping[ConceptId, Sequence[ConceptId]]) -> list[ConceptId]:
    """Returns one circle of a directed graph, its first concept again at the end; empty where there is none."""
    state: dict[ConceptId, int] = {}
    for start in sorted(towards):
        if start in state:
            continue
        path = [start]
        waiting = [iter(towards[start])]
        state[start] = 1
        while waiting:
            following = next(waiting[-1], None)
            if following is None:
                state[path.pop()] = 2
                waiting.pop()
            elif state.get(following) == 1:
                return [*path[path.index(following) :], following]
            elif following not in state:
                state[following] = 1
                path.append(following)
                waiting.append(iter(towards.get(following, ())))
    return []


def check_names(handbook: Handbook) -> Iterator[Problem]:
    """Yields ids of no ontology that is looked into, preferred names that two concepts bear, and texts that are no sentences."""
    bearers: dict[str, list[ConceptId]] = defaultdict(list)
    known = (PREFIX, *(source.upper() for source in ONTOLOGIES))
    for concept in handbook:
        if _prefix(concept.concept_id) not in known:
            yield Problem(
                where=concept.entry.where, what=f"{concept.concept_id} is an id of none of {', '.join(known)}"
            )
        bearers[normalise(concept.name)].append(concept.concept_id)
        for text in (concept.definition, *(seen.text for seen in concept.body.appearance.values() if seen.text)):
            if not (text[0].isupper() and text.endswith(".") and text == " ".join(text.split())):
                yield Problem(where=concept.entry.where, what=f"{concept.concept_id}: no sentence: {text!r}")
    for name, concepts in bearers.items():
        if len(concepts) > 1:
            yield Problem(
                where=handbook[concepts[1]].entry.where, what=f"{', '.join(concepts)} all prefer the name {name!r}"
            )


def check_against(
    handbook: Handbook, ontology: Graph, decided: Mapping[tuple[str, str, str], str]
) -> Iterator[Problem]:
    """Yields where the handbook and an ontology (UBERON, MONDO) disagree and nobody has decided why.

    An id must be live there; its preferred name there must be one of ours; what we say it is or is part of must be among its
    ancestors there, where both are of one ontology.

    Args:
        handbook: ours.
        ontology: theirs; `is_a` and `part_of` need not be told apart.
        decided: (subject, predicate, object) → why we differ.
    """
    prefixes = {_prefix(concept.concept_id) for concept in ontology}
    for concept in handbook:
        if _prefix(concept.concept_id) not in prefixes:
            continue
        if concept.concept_id not in ontology:
            yield Problem(where=concept.entry.where, what=f"{concept.concept_id} ({concept.name}) is no live concept")
            continue
        theirs = ontology[concept.concept_id]
        body = concept.body
        ours = [concept.name, *body.latin, *body.abbreviations, *(synonym.text for synonym in body.synonyms)]
        decision = (concept.concept_id, "name", theirs.name)
        if normalise(theirs.name) not in map(normalise, ours) and decision not in decided:
            yield Problem(
                where=concept.entry.where,
                what=f"{concept.concept_id} ({concept.name}) is called {theirs.name!r} there: make it a synonym or mend the id",
            )
        above = ontology.ancestors(concept.concept_id)
        for predicate, target in concept.relations:
            known = (
                target in ontology
                and predicate in ("is_a", "part_of")
                and _prefix(target) == _prefix(theirs.concept_id)
            )
            if known and target not in above and (concept.concept_id, predicate, target) not in decided:
                yield Problem(
                    where=concept.entry.where,
                    what=f"{concept.concept_id} ({concept.name}) {predicate} {target} ({handbook[target].name}): not so there",
                )


def check_ids(handbook: Handbook, ontology: Graph, decided: Mapping[tuple[str, str, str], str]) -> Iterator[Problem]:
    """Yields our own concepts one of whose exact names one concept of the ontology bears, and nobody has decided why.

    Args:
        handbook: ours.
        ontology: theirs.
        decided: (subject, ``name``, their name) → why we do not take their id.
    """
    for concept in handbook:
        if not concept.concept_id.startswith(f"{PREFIX}:"):
            continue
        exact = (synonym.text for synonym in concept.body.synonyms if synonym.scope is Scope.EXACT)
        found: dict[ConceptId, str] = {}
        for text in (concept.name, *exact, *concept.body.latin):
            bearers = [bearer for bearer in ontology.named(text) if bearer.concept_id not in handbook]
            if len(bearers) == 1:
                found.setdefault(bearers[0].concept_id, text)
        for bearer, text in found.items():
            theirs = ontology[bearer].name
            if (concept.concept_id, "name", theirs) not in decided:
                yield Problem(
                    where=concept.entry.where,
                    what=f"{concept.concept_id}, {text!r}, is {bearer} ({theirs}) there: take that id",
                )


def check_places(handbook: Handbook, ontology: Graph, decided: Mapping[tuple[str, str, str], str]) -> Iterator[Problem]:
    """Yields what we place beside a thing that an ontology has it in, where nobody has decided why: one of the ids is likely wrong.

    A part that we have in its whole, too, may have a place in it.

    Args:
        handbook: ours.
        ontology: theirs.
        decided: (subject, predicate, object) → why both are so.
    """
    above = {concept.concept_id: ontology.ancestors(concept.concept_id) for concept in handbook}
    for concept in handbook:
        for predicate, target in concept.relations:
            if predicate not in SPATIAL or (concept.concept_id, predicate, target) in decided:
                continue
            for part, whole in ((concept, handbook[target]), (handbook[target], concept)):
                if whole.concept_id in above[part.concept_id] and whole.concept_id not in _wholes(handbook, part):
                    yield Problem(
                        where=concept.entry.where,
                        what=f"{concept.name} {predicate} {handbook[target].name}, but {part.concept_id} ({part.name}) "
                        f"is in {whole.concept_id} ({whole.name}) there: mend an id or the place",
                    )


def _wholes(handbook: Handbook, concept: HandbookConcept) -> set[ConceptId]:
    """Returns everything above `concept` along our own `is_a` and `part_of`."""
    found: set[ConceptId] = set()
    waiting = [concept.concept_id]
    while waiting:
        for predicate, target in handbook[waiting.pop()].relations:
            if predicate in HIERARCHICAL and target not in found:
                found.add(target)
                waiting.append(target)
    return found


def read_decisions(path: Path) -> dict[tuple[str, str, str], str]:
    """Returns (subject, predicate, object) → why the handbook differs from the ontology; empty where there is no such file.

    Raises:
        InputError: it cannot be read, or a row gives no reason.
    """
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for number, row in enumerate(rows, start=2):
        if not all(row.get(key) for key in ("subject", "predicate", "object", "decision")):
            raise InputError(
                "a row lacks a value", where=f"{path}:{number}", remedy="subject, predicate, object, decision"
            )
    return {(row["subject"], row["predicate"], row["object"]): row["decision"] for row in rows}


def check_wording(handbook: Handbook, others: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    """Yields sentences that share a run of eight words with another work.

    Args:
        handbook: ours.
        others: (what it is, its text), the works to compare with.
    """
    theirs = {run: name for name, text in others for run in runs_of(text)}
    for concept in handbook:
        texts = [concept.definition, *(seen.text for seen in concept.body.appearance.values())]
        for run in (run for text in texts for run in runs_of(text)):
            if run in theirs:
                yield Problem(
                    where=concept.entry.where, what=f"{concept.name}: {' '.join(run)!r} stands in {theirs[run]}"
                )


def _prefix(concept: ConceptId) -> str:
    return concept.partition(":")[0]


def runs_of(text: str) -> Iterator[tuple[str, ...]]:
    """Yields every run of eight words of `text`, in lower case, without punctuation."""
    words = _WORD.findall(text.lower())
    for start in range(len(words) - RUN + 1):
        yield tuple(words[start : start + RUN])
