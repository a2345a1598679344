"""Where pairs are drawn from at random: an index on disk, or a graph in memory."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vesalius.corpus.columns import NumberColumn, TextColumn
from vesalius.corpus.pair_index import (
    ENTRY,
    FOLDER,
    INDEX,
    KIND,
    NUMBER,
    OFFSET,
    RELATION,
    SCHEMA,
    SIDE,
    WRITTEN,
    Run,
    graph_fingerprint,
)  # fmt: skip
from vesalius.corpus.pairs import OpenRelation, PairKind, TextPair, graph_fillers, relation_pair, written_pair
from vesalius.errors import FolderError
from vesalius.folder import read_manifest, unreadable
from vesalius.ids import SPLITS, ConceptId, Split
from vesalius.knowledge.concept import Relation, Scope, WrittenRow
from vesalius.knowledge.definitions import statement
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.predicates import HIERARCHICAL, Predicate
from vesalius.knowledge.sentences import End, RelationForm

MOST_ANCESTORS = 2000
"""Of a concept, the nearest first: where joined vocabularies make one cycle of half a graph, what is farther counts as unrelated."""

_NUM_REMEMBERED = 16_384
"""Look-ups that are kept: the concepts above others come again and again."""


@runtime_checkable
class PairTable(Protocol):
    """Rows that pairs are made of, by kind and number, and what is known of the concepts they speak of."""

    @property
    def runs(self) -> tuple[Run, ...]:
        """Where the rows of each kind and source lie."""
        ...

    def is_on(self, side: Split, kind: PairKind, row: int) -> bool:
        """Returns whether every concept that a row speaks of is on a side of the split."""
        ...

    def text_pair(self, kind: PairKind, row: int) -> TextPair:
        """Returns the pair of a definition or synonym: the text as it stands, the name in lower case."""
        ...

    def relation_pair(self, row: int, *, asked: End, form: RelationForm, choice: float) -> TextPair:
        """Returns the pair of a relation; see `corpus.pairs.relation_pair`."""
        ...

    def is_written_on(self, side: Split, row: int) -> bool:
        """Returns whether every concept that a row as it was written speaks of is on a side of the split."""
        ...

    def written_pair(self, row: int, *, asked: End | None) -> TextPair:
        """Returns the pair of a row as it was written; see `corpus.pairs.written_pair`."""
        ...

    def ancestors(self, concept_id: ConceptId) -> Collection[ConceptId]:
        """Returns everything above a concept."""
        ...

    def fillers(self, relation: OpenRelation, *, among: Collection[ConceptId]) -> Collection[ConceptId]:
        """Returns those of `among` that stand at the open end of such a relation."""
        ...


class NumberedConcepts(Collection[ConceptId]):
    """Concepts of an index, kept by their numbers: whether one is among them is known without reading the ids of all."""

    def __init__(
        self,
        numbers: frozenset[int],
        *,
        number_of: Callable[[ConceptId], int],
        id_of: Callable[[int], ConceptId],
    ) -> None:
        self._numbers = numbers
        self._number_of = number_of
        self._id_of = id_of

    def __contains__(self, concept_id: object) -> bool:
        return self._number_of(ConceptId(str(concept_id))) in self._numbers

    def __iter__(self) -> Iterator[ConceptId]:
        return map(self._id_of, self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


class PairIndex:
    """The index of a graph on disk: opens at once, and what it holds does not grow with the graph.

    Args:
        graph: a graph folder.

    Raises:
        FolderError: it holds no index, a damaged one, or one of another graph.
    """

    def __init__(self, graph: Path) -> None:
        folder = graph / FOLDER
        manifest = read_manifest(folder, kind=KIND, schema=SCHEMA)
        if manifest["inputs"].get("graph") != graph_fingerprint(graph):
            raise FolderError("belongs to another graph", where=folder, remedy="build the graph again")
        index = _read_index(folder / INDEX)
        self.runs: tuple[Run, ...] = tuple(Run(**run) for run in index["runs"])
        self._written_runs = [run for run in self.runs if run.is_written]
        self._predicates: list[str] = index["predicates"]
        self._codes = {predicate: code for code, predicate in enumerate(self._predicates)}
        self._is_hierarchical = np.array([predicate in HIERARCHICAL for predicate in self._predicates], dtype=bool)
        self._ids, self._names = TextColumn(folder / "ids"), TextColumn(folder / "names")
        self._order = NumberColumn(folder / "order.u4", NUMBER)
        self._sides = NumberColumn(folder / "sides.u1", SIDE)
        tables = {"definition": "definitions", "synonym": "synonyms"}
        self._texts = {kind: TextColumn(folder / table) for kind, table in tables.items()}
        self._owners = {kind: NumberColumn(folder / f"{table}.owners.u4", NUMBER) for kind, table in tables.items()}
        self._relations = NumberColumn(folder / "relations.bin", RELATION)
        self._written = NumberColumn(folder / "written.bin", WRITTEN)
        self._written_texts = [TextColumn(folder / f"written_{column}s") for column in ("name", "text", "target")]
        self._ends = {name: NumberColumn(folder / f"by_{name}.bin", ENTRY) for name in ("subject", "object")}
        self._offsets = {name: NumberColumn(folder / f"by_{name}.offsets", OFFSET) for name in ("subject", "object")}
        self._number_of = lru_cache(_NUM_REMEMBERED)(self._find_number)
        self._parents_of = lru_cache(_NUM_REMEMBERED)(self._find_parents)
        self._ancestors_of = lru_cache(_NUM_REMEMBERED)(self._find_ancestors)

    def __len__(self) -> int:
        return len(self._ids)

    def is_on(self, side: Split, kind: PairKind, row: int) -> bool:
        """Returns whether every concept that a row speaks of is on a side of the split."""
        if kind == "relation":
            found = self._relations.rows(row, row + 1)[0]
            numbers = (int(found["subject"]), int(found["object"]))
        else:
            numbers = (self._owner(kind, row),)
        return all(SPLITS[self._sides.rows(number, number + 1)[0]] == side for number in numbers)

    def side(self, concept_id: ConceptId) -> Split | None:
        """Returns the side of the split that a concept is on; None where the graph has no such concept."""
        try:
            number = self._number_of(concept_id)
        except KeyError:
            return None
        return SPLITS[self._sides.rows(number, number + 1)[0]]

    def text_pair(self, kind: PairKind, row: int) -> TextPair:
        """Returns the pair of a definition or synonym: the text as it stands, the name in lower case."""
        owner = self._owner(kind, row)
        return TextPair(
            concept_id=self._id(owner), kind=kind, text=self._texts[kind][row], name=self._names[owner].lower()
        )

    def relation_pair(self, row: int, *, asked: End, form: RelationForm, choice: float) -> TextPair:
        """Returns the pair of a relation; see `corpus.pairs.relation_pair`."""
        found = self._relations.rows(row, row + 1)[0]
        own, named = int(found["subject"]), int(found["object"])
        if asked == "object":
            own, named = named, own
        predicate = self._predicates[found["predicate"]]
        relation = OpenRelation(predicate=predicate, named=self._id(named), asked=asked)
        return relation_pair(
            self._id(own), self._names[own], relation, named=self._names[named], form=form, choice=choice
        )

    def is_written_on(self, side: Split, row: int) -> bool:
        """Returns whether every concept that a row as it was written speaks of is on a side of the split."""
        found = self._written.rows(row, row + 1)[0]
        ends = (int(found["concept"]), int(found["target"]))
        return all(SPLITS[self._sides.rows(number, number + 1)[0]] == side for number in ends)

    def written_pair(self, row: int, *, asked: End | None) -> TextPair:
        """Returns the pair of a row as it was written; see `corpus.pairs.written_pair`."""
        run = next(run for run in self._written_runs if run.first <= row < run.first + run.num)
        name, text, target = (column[row] for column in self._written_texts)
        found = self._written.rows(row, row + 1)[0]
        said = WrittenRow(
            kind=run.kind, source=run.source, concept_id=self._id(int(found["concept"])), name=name, text=text,
            predicate=Predicate(self._predicates[found["predicate"]]) if run.kind == "relation" else None,
            target=target, target_id=self._id(int(found["target"])),
        )  # fmt: skip
        return written_pair(said, asked=asked)

    def ancestors(self, concept_id: ConceptId) -> Collection[ConceptId]:
        """Returns everything above a concept, itself left out, up to `MOST_ANCESTORS`."""
        return self._ancestors_of(concept_id)

    def fillers(self, relation: OpenRelation, *, among: Collection[ConceptId]) -> Collection[ConceptId]:
        """Returns those of `among` that stand at the open end of such a relation."""
        named_end = "object" if relation.asked == "subject" else "subject"
        entries = self._entries(named_end, self._number_of(relation.named))
        others = entries["other"][entries["predicate"] == self._codes[relation.predicate]]
        listed = list(dict.fromkeys(among))
        numbers = np.array([self._number_of(concept) for concept in listed], dtype=NUMBER)
        return {concept for concept, fills in zip(listed, np.isin(numbers, others), strict=True) if fills}

    def _find_ancestors(self, concept_id: ConceptId) -> NumberedConcepts:
        start = self._number_of(concept_id)
        found: dict[int, None] = {}
        waiting = deque([start])
        while waiting and len(found) < MOST_ANCESTORS:
            for parent in self._parents_of(waiting.popleft()):
                if parent not in found:
                    found[parent] = None
                    waiting.append(parent)
        found.pop(start, None)
        return NumberedConcepts(frozenset(found), number_of=self._number_of, id_of=self._id)

    def _find_parents(self, number: int) -> tuple[int, ...]:
        entries = self._entries("subject", number)
        return tuple(entries["other"][self._is_hierarchical[entries["predicate"]]].tolist())

    def _find_number(self, concept_id: ConceptId) -> int:
        """Returns the number of a concept, found by halving."""
        low, high = 0, len(self._order)
        while low < high:
            middle = (low + high) // 2
            number = int(self._order.rows(middle, middle + 1)[0])
            found = self._ids[number]
            if found == concept_id:
                return number
            low, high = (middle + 1, high) if found < concept_id else (low, middle)
        raise KeyError(concept_id)

    def _entries(self, end: str, number: int) -> np.ndarray:
        first, last = self._offsets[end].rows(number, number + 2)
        return self._ends[end].rows(int(first), int(last))

    def _owner(self, kind: PairKind, row: int) -> int:
        return int(self._owners[kind].rows(row, row + 1)[0])

    def _id(self, number: int) -> ConceptId:
        return ConceptId(self._ids[number])


def _read_index(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise FolderError(f"damaged ({error})", where=path, remedy="build the graph again") from error


class GraphPairs:
    """The same rows of a graph in memory, in the same order as its index on disk holds them.

    Args:
        graph: knowledge, as `read_graph` gives it.
        sides: concept → side of the split.
    """

    def __init__(self, graph: Graph, sides: Mapping[ConceptId, Split]) -> None:
        self._graph = graph
        self._sides = sides
        self._rows: dict[PairKind, list[tuple[ConceptId, str]]] = {"definition": [], "synonym": []}
        self._relations: list[Relation] = []
        runs: list[Run] = []
        for source in (origin.name for origin in graph.origins):
            texts: dict[PairKind, list[tuple[ConceptId, str]]] = {
                "definition": [
                    (c.concept_id, statement(d.text)) for c in graph for d in c.definitions if d.source == source
                ],
                "synonym": [
                    (c.concept_id, s.text)
                    for c in graph
                    for s in c.synonyms
                    if s.source == source and s.scope is Scope.EXACT
                ],
            }
            for kind, rows in texts.items():
                runs += self._run(kind, source, first=len(self._rows[kind]), ends=[(row[0],) for row in rows])
                self._rows[kind] += rows
            relations = [relation for relation in graph.relations if relation.source == source]
            ends = [(relation.subject, relation.object) for relation in relations]
            runs += self._run("relation", source, first=len(self._relations), ends=ends)
            self._relations += relations
        order = ("definition", "synonym", "relation")
        runs.sort(key=lambda run: (order.index(run.kind), run.first))
        written = groupby(enumerate(graph.written), key=lambda numbered: (numbered[1].kind, numbered[1].source))
        for (kind, source), group in written:
            numbered = list(group)
            runs += self._run(
                kind, source, first=numbered[0][0], ends=[_ends_of(row) for _, row in numbered], is_written=True
            )
        self.runs: tuple[Run, ...] = tuple(runs)

    def _run(
        self, kind: PairKind, source: str, *, first: int, ends: list[tuple[ConceptId, ...]], is_written: bool = False
    ) -> list[Run]:
        sides = [{self._sides[concept] for concept in listed} for listed in ends]
        num_by_side: dict[Split, int] = {side: sum(found == {side} for found in sides) for side in SPLITS}
        run = Run(kind=kind, source=source, first=first, num=len(ends), num_by_side=num_by_side, is_written=is_written)
        return [run] if ends else []

    def is_on(self, side: Split, kind: PairKind, row: int) -> bool:
        """Returns whether every concept that a row speaks of is on a side of the split."""
        if kind == "relation":
            relation = self._relations[row]
            return self._sides[relation.subject] == side == self._sides[relation.object]
        return self._sides[self._rows[kind][row][0]] == side

    def text_pair(self, kind: PairKind, row: int) -> TextPair:
        """Returns the pair of a definition or synonym: the text as it stands, the name in lower case."""
        concept_id, text = self._rows[kind][row]
        return TextPair(concept_id=concept_id, kind=kind, text=text, name=self._graph[concept_id].name.lower())

    def relation_pair(self, row: int, *, asked: End, form: RelationForm, choice: float) -> TextPair:
        """Returns the pair of a relation; see `corpus.pairs.relation_pair`."""
        found = self._relations[row]
        own, named = (found.subject, found.object) if asked == "subject" else (found.object, found.subject)
        relation = OpenRelation(predicate=found.predicate, named=named, asked=asked)
        names = self._graph[own].name, self._graph[named].name
        return relation_pair(own, names[0], relation, named=names[1], form=form, choice=choice)

    def is_written_on(self, side: Split, row: int) -> bool:
        """Returns whether every concept that a row as it was written speaks of is on a side of the split."""
        return all(self._sides[concept] == side for concept in _ends_of(self._graph.written[row]))

    def written_pair(self, row: int, *, asked: End | None) -> TextPair:
        """Returns the pair of a row as it was written; see `corpus.pairs.written_pair`."""
        return written_pair(self._graph.written[row], asked=asked)

    def ancestors(self, concept_id: ConceptId) -> Collection[ConceptId]:
        """Returns everything above a concept."""
        return self._graph.ancestors(concept_id)

    def fillers(self, relation: OpenRelation, *, among: Collection[ConceptId]) -> Collection[ConceptId]:
        """Returns those of `among` that stand at the open end of such a relation."""
        return graph_fillers(self._graph)(relation, among=among)


def _ends_of(row: WrittenRow) -> tuple[ConceptId, ...]:
    return (row.concept_id,) if row.target_id is None else (row.concept_id, row.target_id)


def held_out_concepts(table: PairTable, side: Split, *, sources: Collection[str], num: int) -> list[ConceptId]:
    """Returns up to `num` concepts of a side that have a definition or synonym of `sources`, always the same ones, by id.

    Of each kind and source at most ten times `num` rows are looked at, evenly spaced: enough where a side holds a tenth.
    """
    found: set[ConceptId] = set()
    for run in table.runs:
        if run.source in sources and run.kind != "relation" and not run.is_written and run.num_by_side[side]:
            step = max(1, run.num // (10 * num))
            rows = range(run.first, run.first + run.num, step)
            found |= {table.text_pair(run.kind, row).concept_id for row in rows if table.is_on(side, run.kind, row)}
    listed = sorted(found)
    return listed[:: max(1, len(listed) // num)][:num]
