"""Every pair of a graph, laid out so that any of them is read in microseconds and none is held.

A Parquet file gives one row by unpacking thousands; training asks for hundreds at random, a hundred thousand times. So beside the
tables of a graph lies a folder `pairs/`, made from them alone:

| file | rows |
|---|---|
| `ids`, `names` (`.texts`, `.offsets`) | id and preferred name of each concept, by its number |
| `order.u4` | numbers of concepts in the order of their ids |
| `sides.u1` | side of the split of each concept: place in `SPLITS` |
| `definitions`, `synonyms` (`.texts`, `.offsets`, `.owners.u4`) | text and concept; of synonyms the exact ones alone |
| `relations.bin` | subject, predicate, object |
| `written_names`, `written_texts`, `written_targets` (`.texts`, `.offsets`) | rows of `knowledge.store`'s table `written` |
| `written.bin` | concept, predicate and target of each of them; where it has no target, the concept again |
| `by_subject.bin`, `by_object.bin` (`.offsets`) | of each concept, predicate and other end of its relations either way |
| `index.json` | where the rows of each kind and source lie, how many are on each side, and the predicates by code |
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from vesalius.corpus.columns import write_texts
from vesalius.corpus.pairs import PairKind
from vesalius.folder import MANIFEST, sha256_of, write_manifest, write_text, writing_folder
from vesalius.ids import SPLITS, Split
from vesalius.knowledge.database import open_database
from vesalius.knowledge.definitions import statement
from vesalius.knowledge.split import make_sides
from vesalius.tables import parquet

FOLDER = "pairs"
KIND = "pairs"
SCHEMA = 2
INDEX = "index.json"

NUMBER = np.dtype("<u4")
SIDE = np.dtype("u1")
OFFSET = np.dtype("<u8")
RELATION = np.dtype([("subject", NUMBER), ("predicate", NUMBER), ("object", NUMBER)])
WRITTEN = np.dtype([("concept", NUMBER), ("predicate", NUMBER), ("target", NUMBER)])
ENTRY = np.dtype([("predicate", NUMBER), ("other", NUMBER)])

_RELATION_ROWS = (
    "SELECT subject_number AS subject, code AS predicate, object_number AS object "
    "FROM {} JOIN predicates USING (predicate)"
)
_WRITTEN_ROWS = (
    "SELECT concept_number AS concept, coalesce(code, 0) AS predicate, coalesce(target_number, concept_number) AS target "
    "FROM {} LEFT JOIN predicates USING (predicate)"
)

_CHUNK = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Rows of one kind and source that lie side by side.

    Attributes:
        kind: what the rows are.
        source: source of all of them.
        first: number of the first row.
        num: how many there are.
        num_by_side: how many of them speak of concepts of each side of the split alone.
        is_written: whether they are rows as the source wrote them; they are numbered by themselves.
    """

    kind: PairKind
    source: str
    first: int
    num: int
    num_by_side: dict[Split, int]
    is_written: bool = False


def write_pair_index(graph: Path, *, memory_limit: str = "2GB", advance: Callable[[int], None] | None = None) -> None:
    """Writes ``pairs/`` into a graph folder, whole or not at all; an older one there is replaced.

    Args:
        graph: a graph folder.
        memory_limit: most memory the database may take; what is more goes to disk, beside the graph.
        advance: told the number of rows written.
    """
    with writing_folder(graph / FOLDER) as folder:
        scratch = folder / "scratch"
        scratch.mkdir()
        with open_database(scratch / "rows.duckdb", memory_limit=memory_limit, threads=2) as connection:
            _Writer(connection, graph, folder, advance or (lambda _: None)).write()
        shutil.rmtree(scratch)
        write_manifest(
            folder, kind=KIND, schema=SCHEMA, inputs={"graph": graph_fingerprint(graph)},
            details={"rows": "what was made from the tables beside this folder"},
        )  # fmt: skip


def graph_fingerprint(graph: Path) -> str:
    """Returns what tells one graph from another without reading it: the hash of its manifest."""
    return sha256_of(graph / MANIFEST)


class _Writer:
    """Writes the files of an index; what it holds grows by a few bytes a concept and not with texts or relations."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, graph: Path, folder: Path, advance: Callable[[int], None]
    ) -> None:
        self._connection = connection
        self._graph = graph
        self._folder = folder
        self._advance = advance
        self._runs: list[Run] = []

    def write(self) -> None:
        make_sides(self._connection, self._graph)
        self._sides = self._all("SELECT side FROM sides ORDER BY number", column="side", dtype=SIDE, codes=SPLITS)
        self._sides.tofile(self._folder / "sides.u1")
        order = self._all(
            f"SELECT number FROM {self._table('concepts')} ORDER BY concept_id", column="number", dtype=NUMBER
        )
        order.tofile(self._folder / "order.u4")
        for name, column in (("ids", "concept_id"), ("names", "name")):
            write_texts(self._folder / name, (text for (text,) in self._rows("concepts", column)))
        self._write_texts("definition", "definitions")
        self._write_texts("synonym", "synonyms")
        predicates = self._write_relations()
        self._write_written()
        index = {"predicates": predicates, "runs": [asdict(run) for run in self._runs]}
        write_text(self._folder / INDEX, json.dumps(index, ensure_ascii=False, indent=1) + "\n")

    def _write_texts(self, kind: PairKind, table: str) -> None:
        first, said = 0, statement if kind == "definition" else str
        owners_path = self._folder / f"{table}.owners.u4"
        with owners_path.open("wb") as owners:

            def texts() -> Iterator[str]:
                nonlocal first
                for source, start, num in self._draws(kind):
                    by_side = np.zeros(len(SPLITS), dtype=np.int64)
                    for chunk in self._chunks(table, "concept_number, text", start, num):
                        numbers = np.array([number for number, _ in chunk], dtype=NUMBER)
                        owners.write(numbers.tobytes())
                        by_side += np.bincount(self._sides[numbers], minlength=len(SPLITS))
                        yield from (said(text) for _, text in chunk)
                    self._add_run(kind, source, first, num, by_side)
                    first += num

            write_texts(self._folder / table, texts())

    def _write_relations(self) -> list[str]:
        """Writes relations three times, as they lie and by either end, and returns the predicates in the order of their codes."""
        self._connection.execute(
            "CREATE TEMP TABLE predicates AS SELECT predicate, row_number() OVER (ORDER BY predicate) - 1 AS code "
            f"FROM (SELECT predicate FROM {self._table('relations')} UNION SELECT predicate FROM {self._table('written')}) "
            "WHERE predicate IS NOT NULL"
        )
        predicates = [
            name for (name,) in self._connection.execute("SELECT predicate FROM predicates ORDER BY code").fetchall()
        ]
        with (self._folder / "relations.bin").open("wb") as file:
            for source, start, num in self._draws("relation"):
                by_side = np.zeros(len(SPLITS), dtype=np.int64)
                for rows in self._row_chunks(_RELATION_ROWS.format(self._table("relations")), RELATION, start, num):
                    rows.tofile(file)
                    by_side += self._on_one_side(rows["subject"], rows["object"])
                    self._advance(len(rows))
                self._add_run("relation", source, start, num, by_side)
        self._write_ends("by_subject", "subject_number", "object_number")
        self._write_ends("by_object", "object_number", "subject_number")
        return predicates

    def _write_written(self) -> None:
        found = self._connection.execute(
            f"SELECT kind, source, min(number), count(*) FROM {self._table('written')} GROUP BY ALL ORDER BY 3"
        ).fetchall()
        num = sum(count for *_, count in found)
        for column in ("name", "text", "target"):
            texts = (text for chunk in self._chunks("written", f"coalesce({column}, '')", 0, num) for (text,) in chunk)
            write_texts(self._folder / f"written_{column}s", texts)
        with (self._folder / "written.bin").open("wb") as file:
            for kind, source, first, count in found:
                by_side = np.zeros(len(SPLITS), dtype=np.int64)
                for rows in self._row_chunks(_WRITTEN_ROWS.format(self._table("written")), WRITTEN, first, count):
                    rows.tofile(file)
                    by_side += self._on_one_side(rows["concept"], rows["target"])
                self._add_run(kind, source, first, count, by_side, is_written=True)

    def _row_chunks(self, query: str, dtype: np.dtype, first: int, num: int) -> Iterator[np.ndarray]:
        """Yields what `query` gives for the rows from `first` on, in their order and in chunks, as records of `dtype`."""
        for begin in range(first, first + num, _CHUNK):
            end = min(begin + _CHUNK, first + num)
            found = self._connection.execute(
                f"{query} WHERE number >= {begin} AND number < {end} ORDER BY number"
            ).fetchnumpy()
            rows = np.empty(end - begin, dtype=dtype)
            for column in rows.dtype.fields or ():
                rows[column] = found[column]
            yield rows

    def _on_one_side(self, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Returns of how many rows both concepts are on each side."""
        of_ones, of_others = self._sides[ones], self._sides[others]
        return np.bincount(of_ones[of_ones == of_others], minlength=len(SPLITS))

    def _write_ends(self, name: str, end: str, other: str) -> None:
        """Writes the relations sorted by one end, and where those of each concept begin."""
        self._connection.execute(
            f"CREATE OR REPLACE TABLE sorted AS SELECT {end}::UINTEGER AS own, code::UINTEGER AS predicate, "
            f"{other}::UINTEGER AS other FROM {self._table('relations')} JOIN predicates USING (predicate) ORDER BY ALL"
        )
        ((num,),) = self._connection.execute("SELECT count(*) FROM sorted").fetchall()
        counts = np.zeros(len(self._sides), dtype=np.int64)
        with (self._folder / f"{name}.bin").open("wb") as file:
            for begin in range(0, num, _CHUNK):
                found = self._connection.execute(
                    f"SELECT own, predicate, other FROM sorted WHERE rowid >= {begin} AND rowid < {begin + _CHUNK} ORDER BY rowid"
                ).fetchnumpy()
                rows = np.empty(len(found["own"]), dtype=ENTRY)
                rows["predicate"], rows["other"] = found["predicate"], found["other"]
                rows.tofile(file)
                counts += np.bincount(found["own"], minlength=len(counts))
                self._advance(len(rows))
        np.concatenate([[0], np.cumsum(counts)]).astype(OFFSET).tofile(self._folder / f"{name}.offsets")
        self._connection.execute("DROP TABLE sorted")

    def _add_run(
        self, kind: PairKind, source: str, first: int, num: int, by_side: np.ndarray, *, is_written: bool = False
    ) -> None:
        num_by_side: dict[Split, int] = {side: int(count) for side, count in zip(SPLITS, by_side, strict=True)}
        self._runs.append(
            Run(kind=kind, source=source, first=first, num=num, num_by_side=num_by_side, is_written=is_written)
        )

    def _draws(self, kind: PairKind) -> list[tuple[str, int, int]]:
        """Returns source, first row and number of rows of each run of a kind; of synonyms, of the exact ones."""
        return self._connection.execute(
            f"SELECT source, first, num FROM {self._table('draws')} "
            "WHERE kind = ? AND coalesce(scope, 'exact') = 'exact' AND num > 0 ORDER BY first",
            [kind],
        ).fetchall()

    def _chunks(self, table: str, columns: str, first: int, num: int) -> Iterator[list[tuple[Any, ...]]]:
        cursor = self._connection.cursor().execute(
            f"SELECT {columns} FROM {self._table(table)} WHERE number >= {first} AND number < {first + num} ORDER BY number"
        )
        while chunk := cursor.fetchmany(100_000):
            self._advance(len(chunk))
            yield chunk

    def _rows(self, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
        for chunk in self._chunks(table, columns, 0, len(self._sides)):
            yield from chunk

    def _all(self, sql: str, *, column: str, dtype: np.dtype[Any], codes: Sequence[str] = ()) -> np.ndarray:
        """Returns a whole column as numbers; of words, their places in `codes`."""
        if codes:
            cases = " ".join(f"WHEN '{word}' THEN {place}" for place, word in enumerate(codes))
            sql = sql.replace(f"SELECT {column} ", f"SELECT CASE {column} {cases} END AS {column} ", 1)
        return np.asarray(self._connection.execute(sql).fetchnumpy()[column]).astype(dtype)

    def _table(self, name: str) -> str:
        return parquet(self._graph / f"{name}.parquet")
