"""What every export has: a database over the graph's tables, a folder written whole, manifest and licences beside the data."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from vesalius.errors import FolderError
from vesalius.folder import (
    MANIFEST,
    Origin,
    origins_of,
    read_manifest,
    refuse_to_replace,
    sha256_of,
    write_manifest,
    write_text,
    writing_folder,
)
from vesalius.knowledge.database import is_full, open_database, telling_what_ran_out
from vesalius.knowledge.store import COLUMNS, KIND, SCHEMA
from vesalius.tables import literal, parquet

EXPORT_KIND = "export"
EXPORT_SCHEMA = 1
LICENCES = "LICENCES.md"
MEMORY_LIMIT = "2GB"


@dataclass(kw_only=True)
class Export:
    """An export while it is written.

    Attributes:
        folder: where its files go.
        origins: the graph's sources.
        kinds: source → kind it was read as (a built-in one is its own); of a source that the manifest tells no kind of, the
            first part of its name.
        connection: the database.
        graph: the graph folder.
        advance: told the name of each file once it is written.
        num_rows: file → number of rows, for the manifest and the terminal.
        left_out: what the format cannot carry → how many rows of it.
    """

    folder: Path
    origins: Sequence[Origin]
    kinds: Mapping[str, str]
    connection: duckdb.DuckDBPyConnection
    graph: Path
    advance: Callable[[str], None]
    num_rows: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def run(self, sql: str, values: Any = None) -> duckdb.DuckDBPyConnection:
        """Runs `sql`, in which ``{concepts}`` and the like stand for the tables of the graph.

        Raises:
            FolderError: a table of the graph is damaged.
        """
        try:
            return self.connection.execute(self._named(sql), values)
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            if is_full(error):
                raise
            raise FolderError(
                f"damaged table ({str(error).splitlines()[0]})", where=self.graph, remedy="build the graph again"
            ) from error

    def copy(self, sql: str, file: str, options: str) -> None:
        """Writes what `sql` selects to a file of the export and notes how many rows it has."""
        ((num,),) = self.run(f"COPY ({sql}) TO {literal(self.folder / file)} ({options})").fetchall()
        self.wrote(file, num)

    def wrote(self, file: str, num: int) -> None:
        """Notes that a file with `num` rows or entries is written."""
        self.num_rows[file] = num
        self.advance(file)

    def rows(self, sql: str, values: Any = None, *, chunk: int = 10_000) -> Iterator[tuple[Any, ...]]:
        """Yields what `sql` selects, without holding it; several may run at once."""
        cursor = self.connection.cursor().execute(self._named(sql), values)
        while fetched := cursor.fetchmany(chunk):
            yield from fetched

    def count(self, sql: str) -> int:
        """Returns the number of rows that `sql` selects."""
        ((num,),) = self.run(f"SELECT count(*) FROM ({sql})").fetchall()
        return num

    def _named(self, sql: str) -> str:
        for name in COLUMNS:
            sql = sql.replace(f"{{{name}}}", parquet(self.graph / f"{name}.parquet"))
        return sql


@contextlib.contextmanager
def exporting(
    graph: Path,
    out: Path,
    *,
    format: str,  # noqa: A002  the word of the house
    advance: Callable[[str], None],
) -> Iterator[Export]:
    """Yields what an export is written with; at the end its folder takes the place of `out`, on an error nothing is left.

    Memory is bounded by `MEMORY_LIMIT`: what is more, the database keeps in a temporary folder beside `out`.

    Raises:
        FolderError: `graph` holds no graph, or there is no room for `out`.
        SettingError: `out` holds something that is no export.
    """
    manifest = read_manifest(graph, kind=KIND, schema=SCHEMA)
    for table in COLUMNS:
        if not (graph / f"{table}.parquet").is_file():
            raise FolderError("missing table", where=graph / f"{table}.parquet", remedy="build the graph again")
    refuse_to_replace(out, kind=EXPORT_KIND)
    origins = origins_of(manifest)
    with telling_what_ran_out(out), writing_folder(out) as folder:
        scratch = folder / ".scratch"
        scratch.mkdir()
        with open_database(scratch / "rows.duckdb", memory_limit=MEMORY_LIMIT, threads=2) as connection:
            export = Export(
                folder=folder, origins=origins, kinds=_kinds(manifest, origins), connection=connection, graph=graph,
                advance=advance,
            )  # fmt: skip
            yield export
        shutil.rmtree(scratch)
        write_text(folder / LICENCES, licences(origins, format=format))
        write_manifest(
            folder, kind=EXPORT_KIND, schema=EXPORT_SCHEMA, origins=origins,
            inputs={"graph": sha256_of(graph / MANIFEST)},
            details={"format": format, "rows": export.num_rows, "left_out": export.left_out},
        )  # fmt: skip


def licences(origins: Sequence[Origin], *, format: str) -> str:  # noqa: A002  the word of the house
    """Returns the page that says whose content an export holds and on what terms."""
    lines = [
        "# Licences", "",
        f"This export (format `{format}`) holds content of these sources. Whether it may be passed on is for you to judge.", "",
    ]  # fmt: skip
    lines += [f"- **{each.name}**, {each.version}: {each.licence}. {each.attribution}" for each in origins]
    return "\n".join(lines) + "\n"


def _kinds(manifest: Mapping[str, Any], origins: Sequence[Origin]) -> dict[str, str]:
    told = manifest.get("kinds") or {}
    return {origin.name: str(told.get(origin.name, origin.name.split("/")[0])) for origin in origins}


def values_of(mapping: Mapping[str, str]) -> str:
    """Returns a mapping as rows of a SQL ``VALUES`` list."""
    return ", ".join(f"({literal(key)}, {literal(value)})" for key, value in mapping.items())
