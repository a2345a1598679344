"""What changed from one graph to another."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb

from vesalius.errors import FolderError
from vesalius.folder import read_manifest
from vesalius.knowledge.store import KIND, SCHEMA
from vesalius.tables import parquet

STATEMENTS = {
    "concepts": "concept_id, name",
    "synonyms": "concept_id, text, scope",
    "definitions": "concept_id, text",
    "relations": "subject, predicate, object",
    "xrefs": "concept_id, target",
}
"""Table → the columns that make a statement; by which source it is made is left aside."""

Change = Literal["added", "removed", "renamed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """How many statements of a table changed."""

    table: str
    added: int
    removed: int
    renamed: int = 0


class GraphDiff:
    """Two graph folders side by side; memory does not grow with them.

    A concept whose id stays and whose name changes is renamed, and neither added nor removed. Texts and relations of an added
    or removed concept are counted as added or removed too.

    Args:
        before: a graph folder.
        after: another.

    Raises:
        FolderError: one of them holds no graph.
    """

    def __init__(self, before: Path, after: Path) -> None:
        for folder in (before, after):
            read_manifest(folder, kind=KIND, schema=SCHEMA)
        self._folders = (before, after)

    def summary(self) -> list[Changed]:
        """Returns the changes of each table, concepts first."""
        return [
            Changed(
                table=table,
                added=self._number(self._added(table)),
                removed=self._number(self._removed(table)),
                renamed=self._number(self._renamed()) if table == "concepts" else 0,
            )
            for table in STATEMENTS
        ]

    def details(self) -> Iterator[tuple[Change, str, tuple[Any, ...]]]:
        """Yields every change with its table: the statement, or of a renamed concept its id, old and new name."""
        for table in STATEMENTS:
            queries: dict[Change, str] = {"removed": self._removed(table), "added": self._added(table)}
            if table == "concepts":
                queries["renamed"] = self._renamed()
            for change, query in queries.items():
                for row in self._rows(f"{query} ORDER BY ALL"):
                    yield change, table, row

    def _added(self, table: str) -> str:
        return self._only(table, self._folders[1], self._folders[0])

    def _removed(self, table: str) -> str:
        return self._only(table, self._folders[0], self._folders[1])

    def _only(self, table: str, one: Path, other: Path) -> str:
        columns = STATEMENTS[table]
        if table == "concepts":
            return f"SELECT {columns} FROM {_rows_of(one, table)} AS kept ANTI JOIN {_rows_of(other, table)} AS gone USING (concept_id)"
        return f"SELECT {columns} FROM {_rows_of(one, table)} EXCEPT SELECT {columns} FROM {_rows_of(other, table)}"

    def _renamed(self) -> str:
        before, after = (_rows_of(folder, "concepts") for folder in self._folders)
        return (
            f"SELECT before.concept_id, before.name, after.name AS renamed FROM {before} AS before JOIN {after} AS after "
            "USING (concept_id) WHERE before.name <> after.name"
        )

    def _number(self, query: str) -> int:
        ((number,),) = self._rows(f"SELECT count(*) FROM ({query})")
        return int(number)

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        with tempfile.TemporaryDirectory() as spilled, duckdb.connect(config={"temp_directory": spilled}) as connection:
            connection.execute("SET enable_progress_bar = false")
            try:
                cursor = connection.execute(query)
            except duckdb.Error as error:
                raise FolderError(
                    f"a damaged or missing table ({str(error).splitlines()[0]})",
                    where=" or ".join(map(str, self._folders)), remedy="build it again",
                ) from error  # fmt: skip
            while fetched := cursor.fetchmany(10_000):
                yield from fetched


def _rows_of(folder: Path, table: str) -> str:
    return parquet(folder / f"{table}.parquet")
