"""What one source says, collected on disk before sources are merged.

A staged source is a folder of Parquet tables, one a kind of statement; every row holds the source it is of, and the file and
line it was read from:

| table | columns |
|---|---|
| `concepts` | concept_id, name, domain |
| `obsolete` | concept_id, name, replaced_by |
| `synonyms` | concept_id, text, scope |
| `definitions` | concept_id, text, references |
| `relations` | subject, predicate, object |
| `xrefs` | concept_id, target |
| `written` | kind, concept_id, name, text, predicate, target, target_id, once |
| `rejects` | reason, content |

and each of them `source`, `file`, `line` and `row` (the order within the table). Rows may speak of concepts that another source
brings: what hangs in the air is found when sources are merged. `written` repeats definitions, synonyms and relations as they stood
in the file, for the sources whose own rows are drawn from (`knowledge.sources.sat`).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import duckdb

from vesalius.errors import InputError
from vesalius.folder import writing
from vesalius.ids import concept_id as checked_id
from vesalius.knowledge.concept import Scope, WrittenKind
from vesalius.knowledge.database import open_database
from vesalius.knowledge.predicates import predicate as checked_predicate
from vesalius.tables import json_lines, literal

_TEXT = "VARCHAR"
_PLACE = {"source": _TEXT, "file": _TEXT, "line": "BIGINT", "row": "BIGINT"}

STAGED: dict[str, dict[str, str]] = {
    "concepts": {"concept_id": _TEXT, "name": _TEXT, "domain": _TEXT, **_PLACE},
    "obsolete": {"concept_id": _TEXT, "name": _TEXT, "replaced_by": "VARCHAR[]", **_PLACE},
    "synonyms": {"concept_id": _TEXT, "text": _TEXT, "scope": _TEXT, **_PLACE},
    "definitions": {"concept_id": _TEXT, "text": _TEXT, "references": "VARCHAR[]", **_PLACE},
    "relations": {"subject": _TEXT, "predicate": _TEXT, "object": _TEXT, **_PLACE},
    "xrefs": {"concept_id": _TEXT, "target": _TEXT, **_PLACE},
    "written": {
        "kind": _TEXT, "concept_id": _TEXT, "name": _TEXT, "text": _TEXT, "predicate": _TEXT, "target": _TEXT,
        "target_id": _TEXT, "once": _TEXT, **_PLACE,
    },
    "rejects": {"reason": _TEXT, "content": _TEXT, **_PLACE},
}  # fmt: skip
"""Table → column → DuckDB type, as `Staging` writes them. A source made in SQL may write these files itself."""


class Staging:
    """Takes what one source says, statement by statement, and writes it to disk; memory does not grow with the source.

    Texts are stripped of white space at both ends. A row that cannot be taken (an empty text, no CURIE, a NUL) is refused as
    `reject` says.
    Use it as a context manager; the tables are there once it is closed without an error.

    Args:
        folder: an existing folder, for this source alone.
        source: name of the source; a reader may put a better one in its place before the first row.
        file: what rows name as their file; a reader of several files sets it as it goes.
        keep_going: collect refused rows instead of raising.
        memory: most memory DuckDB may take to write the tables.
        threads: threads of DuckDB.
    """

    def __init__(
        self,
        folder: Path,
        source: str,
        *,
        file: str,
        keep_going: bool = False,
        memory: str = "4GB",
        threads: int = 2,
    ) -> None:
        self.folder = folder
        self.source = source
        self.file = file
        self.keep_going = keep_going
        self._memory = memory
        self._threads = threads
        self._open: dict[str, TextIO] = {}
        self._num_rows = dict.fromkeys(STAGED, 0)

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(write=kind is None)

    def concept(self, concept_id: str, name: str, *, line: int | None, domain: str | None = None) -> None:
        """Takes a live concept; `domain` (``anatomy``, ``disease``, …) says what it is a concept of, where its id does not."""
        self._add("concepts", {"concept_id": concept_id, "name": name, "domain": domain}, line)

    def obsolete(
        self, concept_id: str, *, line: int | None, name: str | None = None, replaced_by: Sequence[str] = ()
    ) -> None:
        """Takes a concept that the source has given up, and what to use in its place."""
        self._add("obsolete", {"concept_id": concept_id, "name": name, "replaced_by": list(replaced_by)}, line)

    def synonym(self, concept_id: str, text: str, scope: Scope, *, line: int | None) -> bool:
        """Takes another name of a concept, and returns whether it was taken."""
        return self._add("synonyms", {"concept_id": concept_id, "text": text, "scope": str(scope)}, line)

    def definition(self, concept_id: str, text: str, *, line: int | None, references: Sequence[str] = ()) -> bool:
        """Takes a sentence that says what a concept is, and returns whether it was taken."""
        return self._add("definitions", {"concept_id": concept_id, "text": text, "references": list(references)}, line)

    def relation(self, subject: str, predicate: str, object: str, *, line: int | None) -> bool:  # noqa: A002
        """Takes a relation, and returns whether it was taken; `predicate` is made snake_case."""
        return self._add("relations", {"subject": subject, "predicate": predicate, "object": object}, line)

    def xref(self, concept_id: str, target: str, *, line: int | None) -> None:
        """Takes the id of a concept elsewhere; a `target` that is no CURIE is kept and never ties concepts together."""
        self._add("xrefs", {"concept_id": concept_id, "target": target}, line)

    def written(
        self,
        kind: WrittenKind,
        concept_id: str,
        name: str,
        text: str,
        *,
        line: int | None,
        predicate: str | None = None,
        target: str | None = None,
        target_id: str | None = None,
        once: str | None = None,
    ) -> None:
        """Takes a row of `knowledge.concept.WrittenRow` as it stands, white space and all.

        Of rows with an equal `once` the first is kept; where it is None, every row is. A row with a character that is no text is
        passed over: what it says was refused already.
        """
        row = {
            "kind": kind, "concept_id": concept_id, "name": name, "text": text, "predicate": predicate and checked_predicate(predicate),
            "target": target, "target_id": target_id, "once": once,
        }  # fmt: skip
        if not any(_NO_TEXT.search(value) for value in row.values() if value is not None):
            self._write("written", row, line)

    def reject(self, reason: str, *, line: int | None, row: object) -> None:
        """Refuses a row: raises, or with `keep_going` notes it among the rejects.

        Args:
            reason: what is wrong with it, with the offending value.
            line: line of the file, from 1.
            row: the row, or as much of it as helps to find it.

        Raises:
            InputError: not `keep_going`.
        """
        if not self.keep_going:
            raise InputError(
                reason, where=self.where(line), remedy="mend the row, or give --keep-going to leave it out"
            )
        content = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str)
        self._write("rejects", {"reason": printable(reason), "content": printable(content)}, line)

    def where(self, line: int | None) -> str:
        """Returns how a message names a line of the current file."""
        return self.file if line is None else f"{self.file}:{line}"

    def path(self, table: str) -> Path:
        """Returns the file of a staged table."""
        return self.folder / f"{table}.parquet"

    def close(self, *, write: bool = True) -> None:
        """Writes the tables; with `write` false, drops what was collected.

        A table that the source wrote itself is left as it is.
        """
        for file in self._open.values():
            file.close()
        self._open.clear()
        if write:
            self._write_tables()
        for table in STAGED:
            self._collected(table).unlink(missing_ok=True)

    @contextlib.contextmanager
    def database(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yields a database within the memory and threads given, gone afterwards."""
        path = self.folder / "staging.duckdb"
        try:
            with open_database(path, memory_limit=self._memory, threads=self._threads) as connection:
                yield connection
        finally:
            path.unlink(missing_ok=True)

    def _write_tables(self) -> None:
        with self.database() as connection:
            for table, schema in STAGED.items():
                collected = self._collected(table)
                if collected.exists() or not self.path(table).exists():
                    _to_parquet(connection, collected, self.path(table), schema)

    def _add(self, table: str, values: dict[str, Any], line: int | None) -> bool:
        try:
            cleaned = {column: _checked(column, value) for column, value in values.items()}
        except InputError as error:
            self.reject(error.what, line=line, row=values)
            return False
        self._write(table, cleaned, line)
        return True

    def _write(self, table: str, values: dict[str, Any], line: int | None) -> None:
        if table not in self._open:
            self._open[table] = self._collected(table).open("w", encoding="utf-8")
        self._num_rows[table] += 1
        place = {"source": self.source, "file": self.file, "line": line, "row": self._num_rows[table]}
        self._open[table].write(_encode({**values, **place}) + "\n")

    def _collected(self, table: str) -> Path:
        return self.folder / f"{table}.jsonl"


_IDS: Collection[str] = ("concept_id", "subject", "object")
_encode = json.JSONEncoder(ensure_ascii=False).encode
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def _checked(column: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_checked("concept_id" if column == "replaced_by" else column, item) for item in value]
    if value is None and column in {"domain", "name"}:
        return None
    text = str(value).strip()
    if not text:
        raise InputError(f"empty {column}")
    if text != printable(text):
        raise InputError(f"{column} {printable(text)!r} holds a character that is no text")
    if column in _IDS:
        return checked_id(text)
    return checked_predicate(text) if column == "predicate" else text


def printable(text: str) -> str:
    """Returns `text` with NUL and lone surrogates, which tables of UTF-8 cannot hold, as U+FFFD."""
    return _NO_TEXT.sub("\ufffd", text)


def _to_parquet(connection: duckdb.DuckDBPyConnection, collected: Path, path: Path, schema: dict[str, str]) -> None:
    rows = (
        f"SELECT * FROM {json_lines(collected)}"
        if collected.exists()
        else "SELECT " + ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in schema.items()) + " LIMIT 0"
    )
    values = {"schema": schema} if collected.exists() else {}
    with writing(path) as temporary:
        connection.execute(f"COPY ({rows}) TO {literal(temporary)} (FORMAT parquet)", values)
