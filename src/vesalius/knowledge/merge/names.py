"""Names as they are compared, in SQL."""

from __future__ import annotations

from vesalius.knowledge.merge.workspace import Workspace
from vesalius.knowledge.names import normalise


def in_sql(column: str) -> str:
    """Returns SQL that is `normalise` for a text of ASCII alone."""
    return f"lower(trim(regexp_replace({column}, '[\\x09-\\x0d\\x1c-\\x20_\\-/,.;:]+', ' ', 'g')))"


def normalised_names(workspace: Workspace, table: str, query: str) -> None:
    """Makes `table` (normalised, bearer, is_preferred), one row a name and bearer, from a query of (text, bearer, is_preferred).

    The few texts beyond ASCII, whose Unicode forms SQL cannot fold as `normalise` does, go through Python.
    """
    workspace.run(f"CREATE OR REPLACE TABLE written AS {query}")
    beyond = workspace.rows("SELECT DISTINCT text FROM written WHERE strlen(text) <> length(text)")
    workspace.load(
        "folded", {"text": "VARCHAR", "normalised": "VARCHAR"}, ((text, normalise(text)) for (text,) in beyond)
    )
    workspace.run(
        f"CREATE OR REPLACE TABLE {table} AS SELECT normalised, bearer, bool_or(is_preferred) AS is_preferred FROM ("
        f"SELECT {in_sql('text')} AS normalised, bearer, is_preferred FROM written WHERE strlen(text) = length(text) UNION ALL "
        "SELECT normalised, bearer, is_preferred FROM written JOIN folded USING (text)) GROUP BY normalised, bearer; "
        "DROP TABLE written; DROP TABLE folded"
    )
