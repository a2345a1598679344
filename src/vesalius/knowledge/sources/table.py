"""Tables with declared columns: CSV, TSV, JSON lines, Parquet. The YAML beside a table is described in `table_spec`.

CSV, TSV and JSON lines may be gzipped. Rows are numbered by their line; those of a Parquet file by their place, from 1.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb

from vesalius.errors import InputError, SettingError
from vesalius.folder import Origin
from vesalius.ids import concept_id as checked_id
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.database import is_full
from vesalius.knowledge.sources.csv_rows import check_columns, read_csv_rows
from vesalius.knowledge.sources.json_text import RepeatedKeyError, unrepeated
from vesalius.knowledge.sources.name_ids import folded, name_id
from vesalius.knowledge.sources.options import SourceOptions
from vesalius.knowledge.sources.predicate_names import predicate_name
from vesalius.knowledge.sources.provenance import origin_of
from vesalius.knowledge.sources.table_spec import (
    ENDINGS,
    FORMATS,
    Cell,
    ConceptCells,
    RelationCells,
    TableSpec,
    read_table_spec,
)
from vesalius.knowledge.sources.text_file import read_lines
from vesalius.knowledge.staging import Staging
from vesalius.tables import parquet

_BATCH = 2048

Row = Mapping[str, Any]


def stage_table(path: Path, staging: Staging, options: SourceOptions) -> tuple[Origin, ...]:
    """Stages a table; its source is called as the YAML says.

    A concept that several rows tell with id and name is staged once; another name for the same id is refused. So memory grows with the
    number of named concepts (some hundred bytes each), not of rows.

    Raises:
        SettingError: no YAML was named.
        InputError: the YAML or the table cannot be read, or a column is missing; or a row is refused and `staging` does not keep
            going.
    """
    if options.spec is None:
        raise SettingError(
            "a table needs a YAML that says what its columns mean", where=path, remedy="write table=FILE,YAML"
        )
    spec = read_table_spec(options.spec)
    if spec.source is not None:
        staging.source = spec.source
    reader = _TableReader(staging, spec)
    for line, row in _rows(path, staging, spec):
        reader.take(line, row)
    return (
        origin_of(
            path,
            name=staging.source,
            version=spec.version,
            licence=spec.licence,
            attribution=(spec.attribution,),
            also_read=(spec.path,),
        ),
    )


def _rows(path: Path, staging: Staging, spec: TableSpec) -> Iterator[tuple[int, Row]]:
    name = path.name.lower().removesuffix(".gz")
    kind = spec.format or ENDINGS.get(Path(name).suffix)
    if kind is None:
        raise InputError(
            "its ending names no format", where=path, remedy=f"write 'format:' in {spec.path}: {', '.join(FORMATS)}"
        )
    columns = spec.columns()
    if kind == "parquet":
        return _parquet_rows(path, staging, columns)
    if kind == "jsonl":
        return _json_rows(path, staging, columns)
    return read_csv_rows(path, staging, columns=columns, delimiter="," if kind == "csv" else "\t", quote=spec.quote)


def _json_rows(path: Path, staging: Staging, columns: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    seen: set[str] = set()
    for line, text in read_lines(path):
        if not text.strip():
            continue
        try:
            row = json.loads(text, object_pairs_hook=unrepeated)
        except RepeatedKeyError as error:
            staging.reject(str(error), line=line, row=text)
            continue
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "values nested too deep, or an integer of too many digits")
            staging.reject(f"no JSON ({reason})", line=line, row=text)
            continue
        if not isinstance(row, dict):
            staging.reject(f"{type(row).__name__}, not an object", line=line, row=text)
            continue
        seen.update(column for column in columns if column in row)
        yield line, row
    for column in columns:
        if column not in seen:
            raise InputError(f"no row has the key {column!r}", where=path, remedy="check the YAML and the file")


def _parquet_rows(path: Path, staging: Staging, columns: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    if not path.is_file():
        raise InputError("no such file", where=path, remedy="check the path")
    try:
        with staging.database() as connection:
            table = connection.execute(f"SELECT * FROM {parquet(path)}")
            names = [column[0] for column in table.description or ()]
            check_columns(names, columns, where=path)
            line = 0
            while batch := table.fetchmany(_BATCH):
                for record in batch:
                    line += 1
                    yield line, dict(zip(names, record, strict=True))
    except duckdb.Error as error:
        if isinstance(error, duckdb.OutOfMemoryException) or is_full(error):
            raise
        raise InputError(
            f"no Parquet file ({str(error).splitlines()[0]})", where=path, remedy="check the file, or write it again"
        ) from error


class _TableReader:
    """Stages rows one by one, as the spec says."""

    def __init__(self, staging: Staging, spec: TableSpec) -> None:
        self._staging = staging
        self._spec = spec
        self._names: dict[str, str] = {}

    def take(self, line: int, row: Row) -> None:
        """Stages what a row says. A row that tells no concept is refused whole, else only what is wrong about it."""
        with self._refusing(row, line):
            concept = None if self._spec.concept is None else self._concept(self._spec.concept, row, line)
            if concept is not None:
                self._texts(concept, row, line)
            for relation in self._spec.relations:
                with self._refusing(row, line):
                    self._relation(relation, concept, row, line)

    @contextlib.contextmanager
    def _refusing(self, row: Row, line: int) -> Iterator[None]:
        """Refuses what is said within where it cannot be taken; the rest of the row is taken."""
        try:
            yield
        except _RefusedError as refused:
            self._staging.reject(str(refused), line=line, row=dict(row))

    def _texts(self, concept: str, row: Row, line: int) -> None:
        for synonym in self._spec.synonyms:
            with self._refusing(row, line):
                scope = _scope(_value(synonym.scope, row))
                for text in self._values(synonym.text, row):
                    self._staging.synonym(concept, text, scope, line=line)
        for definition in self._spec.definitions:
            with self._refusing(row, line):
                references = self._values(definition.references, row) if definition.references else ()
                if text := _value(definition.text, row):
                    self._staging.definition(concept, text, references=references, line=line)
        for xref in self._spec.xrefs:
            with self._refusing(row, line):
                for target in self._values(xref.target, row):
                    self._staging.xref(concept, _prefixed(target, xref.prefix), line=line)

    def _relation(self, relation: RelationCells, concept: str | None, row: Row, line: int) -> None:
        predicates = self._values(relation.predicate, row)
        subjects = [concept] if relation.subject is None else self._ends(relation.subject, row, line)
        targets = [concept] if relation.object is None else self._ends(relation.object, row, line)
        for subject, predicate, target in itertools.product(subjects, predicates, targets):
            assert subject is not None  # the spec has a concept where an end is the row's
            assert target is not None
            self._staging.relation(subject, predicate_name(predicate, predicate), target, line=line)

    def _ends(self, cells: ConceptCells, row: Row, line: int) -> list[str]:
        """Returns the concepts at one end of a relation; several only where they are told by id or by name alone."""
        if cells.id is not None and cells.name is not None:
            return [self._concept(cells, row, line)] if _value(cells.id, row) else []
        if cells.id is not None:
            return [_prefixed(text, cells.prefix) for text in self._values(cells.id, row)]
        assert cells.name is not None
        return [self._named(name_id(text), text, line) for text in self._values(cells.name, row)]

    def _concept(self, cells: ConceptCells, row: Row, line: int) -> str:
        identifier = _value(cells.id, row) if cells.id is not None else None
        name = _value(cells.name, row) if cells.name is not None else None
        if cells.id is not None and not identifier:
            raise _RefusedError(f"no id in {_named_cell(cells.id)}")
        if identifier is None and not name:
            raise _RefusedError(f"no name in {_named_cell(cells.name)}")
        if identifier is None:
            assert name is not None
            return self._named(name_id(name), name, line)
        identifier = _prefixed(identifier, cells.prefix)
        try:
            checked_id(identifier)
        except InputError as error:
            raise _RefusedError(error.what) from error
        return self._named(identifier, name, line) if name else identifier

    def _named(self, identifier: str, name: str, line: int) -> str:
        known = self._names.get(identifier)
        if known is None:
            self._names[identifier] = folded(name)
            self._staging.concept(identifier, name, line=line)
        elif known != folded(name):
            raise _RefusedError(f"{identifier} is called {name!r} here, and {known!r} before")
        return identifier

    def _values(self, cell: Cell, row: Row) -> list[str]:
        """Returns the texts of a cell: of a list its items, of a text its parts where the spec has a separator."""
        value = cell.constant if cell.column is None else row.get(cell.column)
        if isinstance(value, list):
            texts = [_as_text(item, cell) for item in value if item is not None]
        elif value is None:
            texts = []
        else:
            text = _as_text(value, cell)
            texts = text.split(self._spec.separator) if self._spec.separator and cell.column is not None else [text]
        return [text for text in map(str.strip, texts) if text]


class _RefusedError(Exception):
    """Why a row cannot be taken."""


def _value(cell: Cell, row: Row) -> str:
    """Returns the one text of a cell, empty where there is none."""
    value = cell.constant if cell.column is None else row.get(cell.column)
    return "" if value is None else _as_text(value, cell).strip()


def _as_text(value: Any, cell: Cell) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise _RefusedError(f"{_named_cell(cell)} holds {type(value).__name__}, no text")


def _named_cell(cell: Cell | None) -> str:
    return f"column {cell.column!r}" if cell is not None and cell.column is not None else "the constant"


def _scope(text: str) -> Scope:
    try:
        return Scope(text.lower())
    except ValueError as error:
        raise _RefusedError(f"unknown scope {text!r}; known are: {', '.join(Scope)}") from error


def _prefixed(text: str, prefix: str | None) -> str:
    return text if prefix is None or ":" in text else f"{prefix}:{text}"
