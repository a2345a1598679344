"""Rich Release Format: UMLS tables as DuckDB reads them, with lines, and with messages that name them."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase
from typing import IO, Any, TypeVar, cast

import duckdb

from vesalius.errors import InputError
from vesalius.folder import unreadable, writing
from vesalius.knowledge.sources.text_file import unpack
from vesalius.knowledge.staging import STAGED, Staging
from vesalius.tables import json_lines, literal, one_file

COLUMNS: Mapping[str, tuple[str, ...]] = {
    table: tuple(columns.split())
    for table, columns in {
        "MRSAB": (
            "vcui rcui vsab rsab son sf sver vstart vend imeta rmeta slc scc srl tfr cfr cxty ttyl atnl lat cenc curver sabin ssn scit"
        ),
        "MRSTY": "cui tui stn sty atui cvf",
        "MRCONSO": "cui lat ts lui stt sui ispref aui saui scui sdui sab tty code str srl suppress cvf",
        "MRDEF": "cui aui atui satui sab def suppress cvf",
        "MRREL": "cui1 aui1 stype1 rel cui2 aui2 stype2 rela rui srui sab sl rg dir suppress cvf",
    }.items()
}
"""Table → its columns, in the order of MRFILES."""

LONGEST_LINE = 16_000_000
"""Bytes of a line; no definition comes near."""

Result = TypeVar("Result")

_SHIFTED = "a field too many"
_LINE = re.compile(r"CSV Error on Line: (\d+)")
_FOUND = re.compile(r"Expected Number of Columns: \d+ Found: (\d+)")


class RrfReader:
    """The tables of a Metathesaurus folder, in a DuckDB connection.

    Attributes:
        parts: table → its file, or the files it is cut into.
        files: table → its file; of a table in parts, the whole that is written of them in the folder of `staging`.
        staging: where rows go.

    Raises:
        InputError: a table or a part of it is missing, or a part cannot be read.
    """

    def __init__(self, folder: Path, staging: Staging, connection: duckdb.DuckDBPyConnection) -> None:
        self.staging = staging
        self.parts = {table: _parts_of(folder, table) for table in COLUMNS}
        self.files = {table: _whole_of(parts, staging.folder) for table, parts in self.parts.items()}
        self._read = dict(self.files)
        self._connection = connection

    def table(self, table: str) -> str:
        """Returns what to write for `table` in a query: its columns and `line`, empty fields as NULL.

        Quoting is off. The ``|`` that closes the last field makes one more, empty column. DuckDB lets a row pass that has one
        empty field too many; its CVF, a number, then holds the field before it.
        """
        columns = dict.fromkeys((*COLUMNS[table], "closing"), "VARCHAR")
        listed = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
        path, file = literal(self._read[table]), literal(one_file(self._read[table]))
        shifted = f"error('CSV Error on Line: ' || line || ' with {_SHIFTED}, ' || {path})"
        checked = f" WHERE cvf IS NULL OR regexp_full_match(cvf, '[0-9]+') OR {shifted}" if "cvf" in columns else ""
        return (
            f"(SELECT * FROM (SELECT *, row_number() OVER () AS line FROM read_csv({file}, delim = '|', quote = '', "
            "escape = '', header = false, auto_detect = false, null_padding = false, strict_mode = true, nullstr = '', "
            f"hive_partitioning = false, max_line_size = {LONGEST_LINE}, columns = {{{listed}}})){checked}) AS {table.lower()}"
        )

    def check(self, table: str) -> None:
        """Looks at every row of a small table; one without a column that tells would pass with a field too many.

        Raises:
            InputError: a row has the wrong number of fields or is not UTF-8, and rows are not to be left out.
        """
        self._read[table] = self._mended(table)

    def make(self, name: str, query: str) -> None:
        """Makes a table of a query."""
        self._retried(query, lambda sql: self._connection.execute(f"CREATE OR REPLACE TABLE {name} AS {sql}"))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Returns the rows of a query; for small results."""
        return self._retried(query, lambda sql: self._connection.execute(sql).fetchall())

    def refuse(self, made: str, table: str, condition: str, reason: str) -> None:
        """Refuses the rows of a made table that meet a condition, and takes them out of it; `made` has `line` and no more than tells.

        Args:
            made: a table made of rows of `table`, with their `line`.
            table: where they come from.
            condition: SQL on a row of `made`.
            reason: SQL that says what is wrong with it.

        Raises:
            InputError: there is one, and rows are not to be left out.
        """
        self.staging.file = self.files[table].name
        found = self._connection.execute(
            f"SELECT line, {reason}, to_json({made})::VARCHAR FROM {made} WHERE {condition} ORDER BY line"
        )
        for line, said, row in found.fetchall():
            self.staging.reject(said, line=line, row=row)
        self._connection.execute(f"DELETE FROM {made} WHERE {condition}")

    def drop(self, name: str) -> None:
        """Drops a table that is done with."""
        self._connection.execute(f"DROP TABLE {name}")

    def clear(self) -> None:
        """Removes the copies of tables that were written on the way: wholes of parts, tables without their bad rows."""
        for path in {*self.files.values(), *self._read.values()}:
            if path.parent == self.staging.folder:
                path.unlink()

    def load(self, name: str, schema: dict[str, str], rows: Iterable[Sequence[Any]]) -> None:
        """Makes a small table of rows that Python gives."""
        path = self.staging.folder / f"{name}.rows"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(dict(zip(schema, row, strict=True))) + "\n" for row in rows)
        made = f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM {json_lines(path)}"
        self._connection.execute(made, {"schema": schema})
        path.unlink()

    def stage(self, staged: str, table: str, query: str) -> None:
        """Writes a staged table from a query of its own columns, `sab` and `line`; the line is the row's number too."""
        own = [name for name in STAGED[staged] if name not in {"source", "file", "line", "row"}]
        listed = ", ".join(f'"{name}"' for name in own)
        source = literal(self.staging.source + "/") + " || sab AS source"
        file = literal(self.files[table].name) + " AS file"
        to = f"TO {literal(self.staging.path(staged))} (FORMAT parquet)"
        self._retried(
            query,
            lambda sql: self._connection.execute(
                f"COPY (SELECT {listed}, {source}, {file}, line, line AS row FROM ({sql})) {to}"
            ),
        )

    def _retried(self, query: str, run: Callable[[str], Result]) -> Result:
        """Runs a query; where a file is at fault, says so with its line, or takes its bad lines out and runs it again.

        Which file that is, DuckDB's message says; the query's text names it the same way.
        """
        try:
            return run(query)
        except (duckdb.InvalidInputException, duckdb.IOException) as error:
            table = next((name for name, path in self._read.items() if f"{path}" in str(error)), None)
            if table is None:
                raise
            if (
                isinstance(error, duckdb.IOException)
                or not self.staging.keep_going
                or self._read[table] != self.files[table]
            ):
                raise self._fault(table, str(error)) from error
            before = self.table(table)
            self._read[table] = self._mended(table)
        return run(query.replace(before, self.table(table)))

    def _fault(self, table: str, message: str) -> InputError:
        path = self.files[table]
        told = self.parts[table][0].with_name(path.name)
        line = _LINE.search(message)
        found = _FOUND.search(message)
        if found:
            wanted = len(COLUMNS[table])
            what = f"has {int(found[1]) - 1} fields, a row of {table} has {wanted}, each closed by |"
        elif _SHIFTED in message:
            what = f"has {len(COLUMNS[table]) + 1} fields, a row of {table} has {len(COLUMNS[table])}, each closed by |"
        elif "unicode" in message.lower():
            what = "is not UTF-8"
        elif "GZIP" in message:
            whole = _whole_lines(path)
            what = f"is no whole gzip file: it breaks off after line {whole}"
            return InputError(what, where=f"{told}:{whole + 1}", remedy="copy or unpack it again")
        else:
            what = f"cannot be read ({message.splitlines()[0]})"
        where = f"{told}:{line[1]}" if line else told
        return InputError(what, where=where, remedy="mend the row, or give --keep-going to leave it out")

    def _mended(self, table: str) -> Path:
        """Writes a copy of a table with an empty row in place of each that cannot be read, so that lines keep their numbers."""
        try:
            return self._without_bad_rows(table)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._fault(table, "GZIP") from error

    def _without_bad_rows(self, table: str) -> Path:
        mended = self.staging.folder / f"{table}.mended.RRF"
        num = len(COLUMNS[table])
        self.staging.file = self.files[table].name
        with _opened(self.files[table]) as source, writing(mended) as begun, begun.open("wb") as target:
            for line, raw in enumerate(source, start=1):
                row = raw.rstrip(b"\r\n")
                reason = None
                if row.count(b"|") != num or not row.endswith(b"|"):
                    reason = f"has {row.count(b'|')} fields, a row of {table} has {num}, each closed by |"
                elif len(row) >= LONGEST_LINE:
                    reason = f"is longer than {LONGEST_LINE:,} bytes"
                elif not _is_text(row):
                    reason = "is not UTF-8"
                if reason is not None:
                    self.staging.reject(reason, line=line, row=row[:1000].decode("utf-8", "replace"))
                    row = b"|" * num
                target.write(row + b"\n")
        return mended


def _is_text(row: bytes) -> bool:
    try:
        row.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _whole_lines(path: Path) -> int:
    num = 0
    with contextlib.suppress(EOFError, zlib.error, gzip.BadGzipFile), _opened(path) as file:
        for raw in file:
            num += raw.endswith(b"\n")
    return num


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield cast("IO[bytes]", file)
    except gzip.BadGzipFile:
        raise
    except OSError as error:
        raise unreadable(path, error) from error


def _parts_of(folder: Path, table: str) -> Sequence[Path]:
    """Returns the file of a table, or its parts in order, as a release holds large ones (``MRCONSO.RRF.aa.gz``, ``….ab.gz``)."""
    for name in (f"{table}.RRF", f"{table}.RRF.gz"):
        if (folder / name).is_file():
            return (folder / name,)
    for ending in (".gz", ""):
        parts = sorted(folder.glob(f"{table}.RRF.[a-z][a-z]{ending}"))
        for part, wanted in zip(parts, _endings(), strict=False):
            if part.name != f"{table}.RRF.{wanted}{ending}":
                raise InputError(
                    f"no {table}.RRF.{wanted}{ending}, but {part.name}",
                    where=folder,
                    remedy="copy the missing part there",
                )
        if parts:
            return parts
    raise InputError(
        f"no {table}.RRF or {table}.RRF.gz", where=folder, remedy="give the folder of the Metathesaurus tables (META)"
    )


def _endings() -> Iterator[str]:
    """Yields ``aa``, ``ab`` to ``zz``."""
    return (one + other for one in ascii_lowercase for other in ascii_lowercase)


def _whole_of(parts: Sequence[Path], folder: Path) -> Path:
    if len(parts) == 1:
        return parts[0]
    whole = folder / f"{parts[0].name.split('.')[0]}.RRF"
    unpack(parts, whole)
    return whole
