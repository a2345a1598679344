"""Rows of CSV and TSV files with their lines; memory does not grow with the file."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from vesalius.errors import InputError
from vesalius.knowledge.sources.text_file import read_lines
from vesalius.knowledge.staging import Staging


def read_csv_rows(
    path: Path, staging: Staging, *, columns: Sequence[str], delimiter: str = ",", quote: str | None = '"'
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields every row behind the header as the line it begins at and column → text; empty lines are passed over.

    Lines of comment before the header, such as the metadata of SSSOM, are passed over, too: they begin with ``#`` and do not
    hold the columns. A row with more or fewer fields than the header is refused by `staging`.

    Args:
        path: the file, gzipped or not.
        staging: what refuses rows.
        columns: the columns that must be there; others may be.
        delimiter: between fields.
        quote: around fields that hold delimiters or line breaks, doubled within; None where quotes are data.

    Raises:
        InputError: the file cannot be read, lacks a column or names one twice, a quote is not closed, or a field is longer than
            Python's `csv` takes (131,072 characters).
    """
    rows = _records(path, delimiter=delimiter, quote=quote)
    line, header = _header(rows, columns)
    check_columns(header, columns, where=f"{path}:{line}")
    for line, record in rows:
        if len(record) != len(header):
            reason = f"{len(record)} fields, but the header has {len(header)}"
            staging.reject(reason, line=line, row=record)
            continue
        yield line, dict(zip(header, record, strict=True))


def _header(rows: Iterator[tuple[int, list[str]]], columns: Sequence[str]) -> tuple[int, list[str]]:
    """Returns the line and the names of the columns, behind lines of comment."""
    commented: tuple[int, list[str]] = (1, [])
    for line, record in rows:
        header = [name.strip() for name in record]
        if set(columns) <= set(header):
            return line, header
        if not header[0].startswith("#"):
            is_row = len(commented[1]) == len(header)  # then the comment before it was meant for the header
            return commented if is_row else (line, header)
        commented = line, header
    return commented


def check_columns(found: Sequence[str], columns: Sequence[str], *, where: object) -> None:
    """Checks that a file has the columns that are asked for, and none of them twice.

    Raises:
        InputError: one is missing or named twice; the message names those the file has.
    """
    for column in columns:
        if column not in found:
            known = ", ".join(repr(name) for name in found[:30])
            raise InputError(f"no column {column!r}", where=where, remedy=f"the file has: {known or 'none'}")
        if list(found).count(column) > 1:
            raise InputError(f"two columns are called {column!r}", where=where, remedy="rename one")


def _records(path: Path, *, delimiter: str, quote: str | None) -> Iterator[tuple[int, list[str]]]:
    lines = _Lines(path)
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    records = csv.reader(lines, delimiter=delimiter, quotechar=quote, quoting=quoting, strict=True)
    while True:
        first = lines.number + 1
        try:
            record = next(records, None)
        except csv.Error as error:
            if "field limit" in str(error):
                raise InputError(
                    f"a field of more than {csv.field_size_limit():,} characters",
                    where=f"{path}:{first}",
                    remedy="is a quote not closed here?",
                ) from error
            raise InputError(
                f"a quote that is not closed, or not at the end of its field ({error})",
                where=f"{path}:{first}",
                remedy="write a quote within quotes twice",
            ) from error
        if record is None:
            return
        if record:
            yield first, record


class _Lines:
    """The lines of a file, with their line ends, and the number of the last one given."""

    def __init__(self, path: Path) -> None:
        self._lines = read_lines(path)
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        self.number, text = next(self._lines)
        return text + "\n"
