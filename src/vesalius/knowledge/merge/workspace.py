"""Where sources are merged: a DuckDB database on disk, with every staged table in view."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vesalius.errors import InputError, SettingError
from vesalius.folder import Origin
from vesalius.knowledge.database import open_database
from vesalius.knowledge.staging import STAGED
from vesalius.knowledge.store import COLUMNS
from vesalius.tables import json_lines, literal, parquet

CONFLICTS = dict(COLUMNS["conflicts"])
REFUSED = dict(COLUMNS["rejects"])

MOST_SOURCES = 60
"""A set of sources is one 64-bit integer."""

ROW_BITS = 40
"""Bits of a `key` that number the row; those above are the rank of its source."""


@dataclass(frozen=True, kw_only=True)
class Staged:
    """A source that was staged.

    Attributes:
        name: the source as it was given.
        folder: its staged tables.
        origins: the sources of rows inside, those left out for their licence included.
        kept: names of the sources of rows that are merged.
        allows_cycles: whether ``is_a`` cycles inside the source are noted instead of refused.
    """

    name: str
    folder: Path
    origins: tuple[Origin, ...]
    kept: frozenset[str]
    allows_cycles: bool = False

    @property
    def kept_origins(self) -> tuple[Origin, ...]:
        """The sources of rows that are merged, in their order."""
        return tuple(origin for origin in self.origins if origin.name in self.kept)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A row that cannot be merged."""

    reason: str
    content: str
    source: str
    file: str
    line: int | None


class Workspace:
    """A database with every staged row that is kept, in the views ``staged_concepts``, ``staged_relations`` and so on.

    Each row has a `rank` (place of its source on the command line, from 0) and a `key` (rank and row in one number).

    Args:
        folder: an existing folder for the database and what spills from memory.
        sources: the staged sources, in the order they were given.
        memory_limit: most memory DuckDB may take.
        threads: threads of DuckDB.
        keep_going: note refused rows instead of raising.
        advance: called after each piece of work with what it was.
    """

    def __init__(
        self,
        folder: Path,
        sources: Sequence[Staged],
        *,
        memory_limit: str,
        threads: int,
        keep_going: bool,
        advance: Callable[[str], None] = lambda _: None,
    ) -> None:
        if len(sources) > MOST_SOURCES:
            raise SettingError(f"{len(sources)} sources are given", remedy=f"give at most {MOST_SOURCES}")
        self.folder = folder
        self.sources = tuple(sources)
        self.keep_going = keep_going
        self.advance = advance
        self.counts: dict[str, int] = {}
        self._connection = open_database(folder / "merge.duckdb", memory_limit=memory_limit, threads=threads)
        for table in STAGED:
            self._view(table)
        self.load("source_order", {"source": "VARCHAR", "rank": "BIGINT", "place": "BIGINT"}, self._source_order())
        self.load("conflicts", CONFLICTS, ())
        self.load("refused", REFUSED, ())

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def run(self, sql: str, values: Any = ()) -> None:
        """Runs a statement."""
        self._connection.execute(sql, values)

    def rows(self, sql: str, values: Any = ()) -> Iterator[tuple[Any, ...]]:
        """Yields the rows of a query, without holding them."""
        with contextlib.closing(self._connection.cursor()) as cursor:
            cursor.execute(sql, values)
            while fetched := cursor.fetchmany(10_000):
                yield from fetched

    def number(self, sql: str, values: Any = ()) -> int:
        """Returns the one number a query gives."""
        ((found,),) = self.rows(sql, values)
        return int(found or 0)

    def load(self, table: str, schema: dict[str, str], rows: Iterable[Sequence[Any]]) -> None:
        """Makes a table of rows that Python gives, without holding them."""
        path = self.folder / f"{table}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(dict(zip(schema, row, strict=True)), ensure_ascii=False) + "\n")
        self.run(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM {json_lines(path)}", {"schema": schema})
        path.unlink()

    def refuse(self, faults: Sequence[Fault], *, remedy: str) -> None:
        """Notes rows that cannot be merged.

        Raises:
            InputError: there is one, and not `keep_going`; it names the first, and how many more there are.
        """
        if not faults:
            return
        if not self.keep_going:
            first = faults[0]
            more = f" (and {len(faults) - 1:,} more rows like it)" if len(faults) > 1 else ""
            where = first.file if first.line is None else f"{first.file}:{first.line}"
            raise InputError(
                f"{first.reason}{more}", where=where, remedy=f"{remedy}, or give --keep-going to leave such rows out"
            )
        self.load(
            "faults",
            REFUSED,
            ((fault.reason, fault.content, fault.source, fault.file, fault.line) for fault in faults),
        )
        self.run("INSERT INTO refused SELECT * FROM faults")

    def _view(self, table: str) -> None:
        parts = [
            f"SELECT *, {rank} AS rank, {rank}::BIGINT << {ROW_BITS} | row AS key "
            f"FROM {parquet(source.folder / f'{table}.parquet')}"
            f"{self._kept(source)}"
            for rank, source in enumerate(self.sources)
        ]
        self.run(f"CREATE VIEW staged_{table} AS {' UNION ALL '.join(parts)}")

    def _kept(self, source: Staged) -> str:
        if source.kept == {origin.name for origin in source.origins}:
            return ""
        names = ", ".join(literal(name) for name in sorted(source.kept))
        return f" WHERE source IN ({names})" if names else " WHERE false"

    def _source_order(self) -> Iterator[tuple[str, int, int]]:
        place = 0
        for rank, source in enumerate(self.sources):
            for origin in source.kept_origins:
                yield origin.name, rank, place
                place += 1
