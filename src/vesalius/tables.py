"""Parquet tables with written schemas, through DuckDB."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from vesalius.errors import FolderError
from vesalius.folder import temporary_folder, unwritable, writing

_WILD = re.compile(r"[\[*?]")


def write_table(
    path: Path, rows: Iterable[Sequence[Any]], *, schema: Mapping[str, str], row_group_size: int = 122_880
) -> int:
    """Writes `rows` as a Parquet file, whole or not at all, without holding them in memory.

    Args:
        path: the file to write.
        rows: one sequence of values a row, in the order of `schema`.
        schema: column → DuckDB type, e.g. ``{"name": "VARCHAR", "volume_mm3": "DOUBLE"}``.
        row_group_size: rows of a row group, the least that a reader of one row reads.

    Returns:
        The number of rows written.

    Raises:
        FolderError: there is no room for it, there or in the folder for temporary files, or no right to write there.
    """
    num_rows = 0
    with temporary_folder() as folder:
        staged = folder / "rows.json"
        with writing(staged) as begun, begun.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(dict(zip(schema, row, strict=True)), ensure_ascii=False))
                file.write("\n")
                num_rows += 1
        with writing(path) as temporary, duckdb.connect() as connection:
            try:
                connection.execute(
                    f"COPY (SELECT * FROM {json_lines(staged)}) "
                    f"TO {literal(temporary)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {row_group_size})",
                    {"schema": dict(schema)},
                )
            except duckdb.IOException as error:
                number = re.search(r'"errno":"(\d+)"', str(error))
                told = os.strerror(int(number[1])) if number else str(error).splitlines()[0]
                raise unwritable(path, told) from error
    return num_rows


def read_table(path: Path, *, schema: Mapping[str, str]) -> list[tuple[Any, ...]]:
    """Reads the columns of `schema` of a Parquet file, in its row order.

    Raises:
        FolderError: the file is missing, damaged, or lacks a column.
    """
    if not path.is_file():
        raise FolderError("missing table", where=path, remedy="build the folder again")
    columns = ", ".join(f'"{name}"::{kind} AS "{name}"' for name, kind in schema.items())
    try:
        with duckdb.connect() as connection:
            return connection.execute(f"SELECT {columns} FROM {parquet(path)}").fetchall()
    except duckdb.Error as error:
        raise FolderError(
            f"damaged table ({str(error).splitlines()[0]})", where=path, remedy="build it again"
        ) from error


def count_by(path: Path, column: str) -> list[tuple[Any, int]]:
    """Returns each value of a column and the number of its rows, in the order of the values."""
    with duckdb.connect() as connection:
        return connection.execute(f'SELECT "{column}", count(*) FROM {parquet(path)} GROUP BY 1 ORDER BY 1').fetchall()


def parquet(path: Path) -> str:
    """Returns the rows of one Parquet file for a ``FROM``, whatever its path looks like."""
    return f"read_parquet({literal(one_file(path))}, hive_partitioning = false)"


def json_lines(path: Path) -> str:
    """Returns the rows of one file of JSON lines for a ``FROM``; the statement's parameter ``schema`` says column → type."""
    return (
        f"read_json({literal(one_file(path))}, format := 'newline_delimited', columns := $schema, hive_partitioning := false, "
        "maximum_object_size := 134217728)"
    )


def one_file(path: Path) -> str:
    """Returns a path that DuckDB reads as this one file: ``[``, ``*`` and ``?`` in it stand for themselves."""
    return _WILD.sub(r"[\g<0>]", str(path))


def literal(text: str | Path) -> str:
    """Returns a text or path as a quoted SQL string, for statements that take no parameter there."""
    return "'" + str(text).replace("'", "''") + "'"
