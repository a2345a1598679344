"""Databases that sources are staged and merged in, and what to say where the machine has too little."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import duckdb

from vesalius.errors import SettingError
from vesalius.folder import UNWRITABLE, unwritable

_FULL = (*map(os.strerror, sorted(UNWRITABLE)), "max_temp_directory_size")
"""How DuckDB says it: in the system's words, or that what it spilled has reached its limit."""


def open_database(path: Path, *, memory_limit: str, threads: int) -> duckdb.DuckDBPyConnection:
    """Opens a database, made if it is not there; what does not fit into memory is spilled to a folder beside it.

    Under a path with ``?`` DuckDB looks for its log in a folder that is not there; there the database has no file, and spills
    all of itself.

    Raises:
        SettingError: DuckDB does not take `memory_limit` or `threads`.
    """
    try:
        connection = duckdb.connect(
            ":memory:" if "?" in str(path) else str(path),
            config={"memory_limit": memory_limit, "threads": threads, "temp_directory": str(path.parent / "spilled")},
        )
    except duckdb.Error as error:
        if is_full(error):
            raise
        raise SettingError(
            f"DuckDB does not start ({str(error).splitlines()[0]})",
            remedy="give memory such as 6GB and 1 or more threads",
        ) from error
    connection.execute("SET enable_progress_bar = false")
    return connection


@contextlib.contextmanager
def telling_what_ran_out(out: Path, *, memory: str | None = None) -> Iterator[None]:
    """Says in one line that memory did not suffice, or that DuckDB could write no more.

    That the system itself can write no more is told by `folder.writing` and `folder.writing_folder`.

    Args:
        out: what is being written.
        memory: the limit that the user may raise with ``--memory``; None where there is no such option.

    Raises:
        SettingError: there was too little memory, within the limit or on the machine.
        FolderError: there is no room for `out`, or for what is spilled beside it.
    """
    try:
        yield
    except MemoryError as error:
        remedy = (
            "free memory, use a larger machine, or give less with --memory"
            if memory
            else "free memory, or use a larger machine"
        )
        raise SettingError("the process is out of memory", where=out, remedy=remedy) from error
    except duckdb.Error as error:
        if is_full(error):
            raise unwritable(out, str(error).splitlines()[0]) from error
        if not isinstance(error, duckdb.OutOfMemoryException):
            raise
        limit = f" (--memory {memory})" if memory else ""
        remedy = "give more with --memory, or fewer --threads" if memory else "free memory, or use a larger machine"
        raise SettingError(f"out of memory{limit}", where=out, remedy=remedy) from error


def is_full(error: duckdb.Error) -> bool:
    """Says whether an error of DuckDB means that no more could be written."""
    return any(sign in str(error) for sign in _FULL)
