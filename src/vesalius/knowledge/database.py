"""Databases on disk that sources are staged and merged in."""

from __future__ import annotations

from pathlib import Path

import duckdb

from vesalius.errors import SettingError


def open_database(path: Path, *, memory_limit: str, threads: int) -> duckdb.DuckDBPyConnection:
    """Opens a database, made if it is not there; what does not fit into memory is spilled to a folder beside it.

    Raises:
        SettingError: DuckDB does not take `memory_limit` or `threads`.
    """
    try:
        connection = duckdb.connect(
            str(path),
            config={"memory_limit": memory_limit, "threads": threads, "temp_directory": str(path.parent / "spilled")},
        )
    except duckdb.Error as error:
        raise SettingError(
            f"DuckDB does not start ({str(error).splitlines()[0]})",
            remedy="give memory such as 6GB and 1 or more threads",
        ) from error
    connection.execute("SET enable_progress_bar = false")
    return connection
