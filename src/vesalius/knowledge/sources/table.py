"""Tables with declared columns: CSV, TSV, JSON lines, Parquet. The YAML beside a table is described in `table_spec`.

CSV, TSV and JSON lines may be gzipped. Rows are numbered by their line; those of a Parquet file by their place, from 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb

from vesalius.errors import InputError, SettingError
from vesalius.folder import Origin
from vesalius.ids import concept_id as checked_id
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.sources.csv_rows import check_columns, read_csv_rows
from vesalius.knowledge.sources.options import SourceOptions
from vesalius.knowledge.sources.predicate_names import predicate_name
from vesalius.knowledge.sources.provenance import origin_of
from vesalius.knowledge.sources.sat import name_id
from vesalius.knowledge.sources.table_spec import ENDINGS, FORMATS, Cell, ConceptCells, TableSpec, read_table_spec
from vesalius.knowledge.sources.text_file import read_lines
from vesalius.knowledge.staging import Staging

_BATCH = 2048

Row = Mapping[str, Any]


def read_table(path: Path, staging: Staging, options: SourceOptions) -> tuple[Origin, ...]:
    """Stages a table; its source is called as the YAML says.

    A concept that several rows tell with id and name is staged once; another name for the same id is refused. So memory grows with the
    number of named concepts (some hundred bytes each), not of rows.

    Raises:
        SettingError: no YAML was named.
        InputError: the YAML or the table cannot be read, or a column is missing; or a row is refused and `staging` does not keep
            going.
    """
    if options.spec is None:
        raise SettingError("a table needs a YAML that says what its columns mean", where=path, remedy="write table=FILE,YAML")
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
        return _parquet_rows(path, columns)
    if kind == "jsonl":
        return _json_rows(path, staging, columns)
    return read_csv_rows(path, staging, columns=columns, delimiter="," if kind == "csv" else "\t", quote=spec.quote)


def _json_rows(path: Path, staging: Staging, columns: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    seen: set[str] = set()
    for line, text in read_lines(path):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            staging.reject(f"no JSON ({getattr(error, 'msg', 'values nested too deep')})", line=line, row=text)
            continue
        if not isinstance(row, dict):
            staging.reject(f"{type(row).__name__}, not an object", line=line, row=text)
            continue
        seen.update(column for column in columns if column in row)
        yield line, row
    for column in columns:
        if column not in seen:
            raise InputError(f"no row has the key {column!r}", where=path, remedy="check the YAML and the file")


def _parquet_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    if not path.is_file():
        raise InputError("no such file", where=path, remedy="check the path")
    try:
        with duckdb.connect() as connection:
            file = str(path).replace("'", "''").replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
            table = connection.execute(f"SELECT * FROM read_parquet('{file}')")
            names = [column[0] for column in table.description or ()]
            check_columns(names, columns, where=path)
            line = 0
            while batch := table.fetchmany(_BATCH):
                for record in batch:
                    line += 1
                    yield line, dict(zip(names, record, strict=True))
    except duckdb.Error as error:
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
        """Stages one row, or refuses it whole."""
        try:
            statements = list(self._statements(row))
        except InputError as error:
            self._staging.reject(error.what, line=line, row=dict(row))
            return
        for method, arguments, named in statements:
            getattr(self._staging, method)(*arguments, line=line, **named)

    def _statements(self, row: Row) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
        spec = self._spec
        concept = None
        if spec.concept is not None:
            concept = yield from self._concept(spec.concept, row)
        for synonym in spec.synonyms:
            for text in self._values(synonym.text, row):
                yield "synonym", (concept, text, _scope(self._value(synonym.scope, row))), {}
        for definition in spec.definitions:
            references = self._values(definition.references, row) if definition.references else []
            text = self._value(definition.text, row)
            if text:
                yield "definition", (concept, text), {"references": references}
        for xref in spec.xrefs:
            for target in self._values(xref.target, row):
                yield "xref", (concept, _prefixed(target, xref.prefix)), {}
        for relation in spec.relations:
            predicates = self._values(relation.predicate, row)
            subjects = [concept] if relation.subject is None else (yield from self._ends(relation.subject, row))
            objects = [concept] if relation.object is None else (yield from self._ends(relation.object, row))
            for subject in subjects:
                for predicate in predicates:
                    for target in objects:
                        yield "relation", (subject, predicate_name(predicate, predicate), target), {}
