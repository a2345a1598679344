"""The tables of the graph, from what was joined; each is written once, in its order."""

from __future__ import annotations

from pathlib import Path

from vesalius.knowledge.merge.names import normalised_names
from vesalius.knowledge.merge.workspace import ROW_BITS, Workspace
from vesalius.knowledge.store import COLUMNS, ROW_GROUP_SIZE, SCOPES
from vesalius.tables import literal, parquet

_SCOPE_PLACE = "list_position([" + ", ".join(f"'{scope}'" for scope in SCOPES) + "], {})"

DRAWN = {"name": "concepts", "synonym": "synonyms", "definition": "definitions", "relation": "relations"}
"""Kind of ``draws`` → table."""


def lay_tables(workspace: Workspace, folder: Path) -> None:
    """Writes every table of `knowledge.store` to `folder`.

    Of a synonym, an xref or a relation that several sources state, the first source's row is kept; of a synonym stated twice by
    one source the stronger scope. Definitions stay with every source. What a concept that was replaced is called is a
    related synonym of what replaced it; its definitions are left out. A relation of "is a or part of" yields to one that
    says which. Rows as their source wrote them (``written``) are all there, whatever became of what they say.
    """
    workspace.run("CREATE VIEW ids AS SELECT number, concept_id FROM numbered")
    _lay(
        workspace,
        folder,
        "concepts",
        "SELECT number, concept_id, name, source FROM numbered ORDER BY number",
        is_numbered=True,
    )
    workspace.advance("concepts")
    _synonyms(workspace, folder)
    workspace.advance("synonyms")
    _definitions(workspace, folder)
    workspace.advance("definitions")
    _xrefs(workspace, folder)
    workspace.advance("xrefs")
    _relations(workspace, folder)
    workspace.advance("relations")
    _written(workspace, folder)
    _names(workspace, folder)
    workspace.advance("names")
    _lay(workspace, folder, "conflicts", "SELECT * FROM conflicts ORDER BY ALL", is_numbered=True)
    _lay(
        workspace, folder, "rejects",
        "SELECT reason, content, source, file, line FROM staged_rejects UNION ALL SELECT * FROM refused ORDER BY ALL",
        is_numbered=True,
    )  # fmt: skip
    _draws(workspace, folder)
    for table in ("conflicts", "rejects"):
        workspace.counts[table] = workspace.number(f"SELECT count(*) FROM {parquet(folder / f'{table}.parquet')}")


def _synonyms(workspace: Workspace, folder: Path) -> None:
    place = _SCOPE_PLACE.format("scope")
    workspace.run(
        "CREATE TABLE said AS "
        "SELECT number, text, CASE WHEN is_replaced THEN 'related' ELSE scope END AS scope, source, "
        f"{_ranked(f'CASE WHEN is_replaced THEN {len(SCOPES)} ELSE {place} END')} AS key "
        "FROM staged_synonyms JOIN became USING (concept_id) UNION ALL "
        f"SELECT number, name, 'exact', source, {_ranked('0')} FROM live JOIN became USING (concept_id) UNION ALL "
        f"SELECT number, name, 'related', source, {_ranked(str(len(SCOPES) + 1))} "
        "FROM staged_concepts JOIN became USING (concept_id) "
        "WHERE is_replaced"
    )
    workspace.run(
        "CREATE TABLE others AS SELECT said.* FROM said "
        "SEMI JOIN (SELECT min(key) AS key FROM said GROUP BY number, text) USING (key) "
        "JOIN (SELECT number, name FROM numbered) USING (number) WHERE text <> name; DROP TABLE said"
    )
    _lay(
        workspace, folder, "synonyms",
        "SELECT concept_id, text, scope, source, number AS concept_number FROM others JOIN ids USING (number) "
        f"JOIN source_order USING (source) ORDER BY place, {place}, number, key",
    )  # fmt: skip


def _ranked(strength: str) -> str:
    """Returns SQL for a key that orders by source, then by `strength` (the smallest first, below 8), then by row."""
    return f"((((key >> {ROW_BITS}) << 3) + {strength}) << {ROW_BITS}) | (key & {(1 << ROW_BITS) - 1})"


def _definitions(workspace: Workspace, folder: Path) -> None:
    workspace.run(
        "CREATE TABLE defining AS SELECT number, text, source, min(key) AS key FROM staged_definitions "
        "JOIN became USING (concept_id) WHERE NOT is_replaced GROUP BY number, text, source"
    )
    _lay(
        workspace, folder, "definitions",
        'SELECT ids.concept_id, defining.text, "references", defining.source, number AS concept_number FROM defining '
        'JOIN (SELECT key, "references" FROM staged_definitions) USING (key) JOIN ids USING (number) '
        "JOIN source_order ON source_order.source = defining.source ORDER BY place, number, key",
    )  # fmt: skip


def _xrefs(workspace: Workspace, folder: Path) -> None:
    workspace.run(
        "CREATE TABLE elsewhere AS "
        "SELECT number, target, source, (key << 2) AS key FROM staged_xrefs JOIN became USING (concept_id) UNION ALL "
        "SELECT number, concept_id, source, (key << 2) + 1 FROM live JOIN became USING (concept_id) UNION ALL "
        "SELECT number, concept_id, source, (key << 2) + 2 FROM staged_obsolete JOIN became USING (concept_id) WHERE is_replaced"
    )
    _lay(
        workspace, folder, "xrefs",
        "SELECT concept_id, target, source, number AS concept_number FROM elsewhere "
        "SEMI JOIN (SELECT min(key) AS key FROM elsewhere GROUP BY number, target) USING (key) "
        "JOIN ids USING (number) JOIN source_order USING (source) WHERE target <> concept_id ORDER BY place, number, key",
    )  # fmt: skip
    workspace.run("DROP TABLE elsewhere")


def _relations(workspace: Workspace, folder: Path) -> None:
    workspace.run(
        "CREATE TABLE related AS SELECT subject_number, predicate, object_number, arg_min(place, key) AS place "
        "FROM joined GROUP BY subject_number, predicate, object_number; DROP TABLE joined"
    )
    workspace.run(
        "DELETE FROM related USING (SELECT subject_number, object_number FROM related WHERE predicate IN ('is_a', 'part_of')) AS said "
        "WHERE related.predicate = 'is_a_or_part_of' AND related.subject_number = said.subject_number "
        "AND related.object_number = said.object_number"
    )
    _lay(
        workspace, folder, "relations",
        "SELECT subjects.concept_id AS subject, predicate, objects.concept_id AS object, source, subject_number, object_number "
        "FROM related JOIN ids AS subjects ON subjects.number = subject_number "
        "JOIN ids AS objects ON objects.number = object_number JOIN source_order USING (place) "
        "ORDER BY related.place, subject_number, predicate, object_number",
    )  # fmt: skip
    workspace.run("DROP TABLE related")


def _written(workspace: Workspace, folder: Path) -> None:
    workspace.run(
        "CREATE TABLE repeated AS SELECT key FROM staged_written ANTI JOIN "
        "(SELECT min(key) AS key FROM staged_written WHERE once IS NOT NULL GROUP BY source, once) USING (key) "
        "WHERE once IS NOT NULL"
    )
    _lay(
        workspace, folder, "written",
        "SELECT kind, source, name, text, predicate, target, ones.number AS concept_number, others.number AS target_number "
        "FROM staged_written ANTI JOIN repeated USING (key) JOIN source_order USING (source) "
        "JOIN became AS ones ON ones.concept_id = staged_written.concept_id "
        "LEFT JOIN became AS others ON others.concept_id = target_id "
        "WHERE target_id IS NULL OR others.number IS NOT NULL ORDER BY place, kind, key",
    )  # fmt: skip
    workspace.run("DROP TABLE repeated")


def _names(workspace: Workspace, folder: Path) -> None:
    normalised_names(
        workspace,
        "named",
        "SELECT name AS text, number AS bearer, true AS is_preferred FROM numbered UNION ALL "
        "SELECT text, number, false FROM others WHERE scope = 'exact'",
    )
    _lay(
        workspace, folder, "names",
        "SELECT normalised, bearer AS concept_number, is_preferred FROM named "
        "ORDER BY normalised, NOT is_preferred, concept_number",
        is_numbered=True,
    )  # fmt: skip


def _draws(workspace: Workspace, folder: Path) -> None:
    parts = []
    for kind, table in DRAWN.items():
        scope = "scope" if kind == "synonym" else "NULL::VARCHAR"
        parts.append(
            f"SELECT '{kind}' AS kind, source, {scope} AS scope, min(number) AS first, count(*) AS num "
            f"FROM {parquet(folder / f'{table}.parquet')} GROUP BY ALL"
        )
    _lay(workspace, folder, "draws", f"SELECT * FROM ({' UNION ALL '.join(parts)}) ORDER BY ALL", is_numbered=True)


def _lay(workspace: Workspace, folder: Path, table: str, ordered: str, *, is_numbered: bool = False) -> None:
    """Writes the rows of a query that is in order, numbered unless they are already."""
    rows = ordered if is_numbered else f"SELECT row_number() OVER () - 1 AS number, * FROM ({ordered})"
    columns = ", ".join(f'"{name}"::{kind} AS "{name}"' for name, kind in COLUMNS[table].items())
    workspace.run(
        f"COPY (SELECT {columns} FROM ({rows})) TO {literal(folder / f'{table}.parquet')} "
        f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_SIZE})"
    )
