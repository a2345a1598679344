"""Databases that sources are staged and merged in, and what to say where the machine has too little."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import duckdb

from vesalius.errors import InputError, SettingError

_FULL = ("No space left", "Disk quota exceeded", "File too large", "max_temp_directory_size")
_ERRNOS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ERRNOS_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


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
    """Says in one line that memory or disk did not suffice, or that `out` may not be written, where DuckDB or the system says so.

    Args:
        out: what is being written.
        memory: the limit that the user may raise with ``--memory``; None where there is no such option.

    Raises:
        SettingError: there was too little memory within the limit.
        InputError: the disk is full, or a file may not be written or read.
    """
    try:
        yield
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        if is_full(error):
            raise _full(out, error) from error
        limit = f" (--memory {memory})" if memory else ""
        remedy = "give more with --memory, or fewer --threads" if memory else "free memory, or use a larger machine"
        raise SettingError(f"out of memory{limit}", where=out, remedy=remedy) from error
    except duckdb.Error as error:
        if is_full(error):
            raise _full(out, error) from error
        raise
    except OSError as error:
        if is_full(error):
            raise _full(out, error) from error
        if error.errno in _ERRNOS_FORBIDDEN:
            raise InputError(
                error.strerror or "not permitted",
                where=error.filename or out,
                remedy="check the path and its permissions",
            ) from error
        raise


def is_full(error: Exception) -> bool:
    """Says whether an error of DuckDB or the system means that no more could be written."""
    if isinstance(error, OSError) and error.errno in _ERRNOS_FULL:
        return True
    return isinstance(error, duckdb.Error) and any(sign in str(error) for sign in _FULL)


def _full(out: Path, error: Exception) -> InputError:
    said = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
    return InputError(
        f"the disk is full ({said})",
        where=out,
        remedy="free space, or write elsewhere; a build takes up to some five times the size of its sources",
    )
