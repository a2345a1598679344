"""The four files that SAT-Pretrain's trainer reads.

| file | holds | its rules |
|---|---|---|
| `umls_def.csv` | cui, name, definition | a heading, then by place; equal rows count once; a name read as missing drops its row |
| `umls_kg.csv` | source, target, edge | likewise; a name read as missing stops the start-up |
| web JSON | name → `cleaned_definition`, `relations` | a list of texts (a bare text is read letter by letter); both keys |
| supplement JSON | name → `cleaned_definition`, `relations`, `synonyms` | one text; `relations` must be there, the others need not |

A relation is ``[edge, target]`` with the target a text. All four files are always written: the trainer opens each of them. The
JSON is ASCII with escapes, because the trainer opens it in whatever encoding its machine has.

pandas takes words such as ``NA``, ``nan`` or ``null`` for missing values, quoted or not. The trainer lower-cases names, so that
such a word is written in another case, one that pandas keeps (``na``, ``Nan``, ``Null``): what is trained on stays the same.

Which file a source goes to: the CSVs take what comes from the UMLS (a source of kind `umls`, or the CSVs themselves, read back:
``umls_def``, ``umls_kg``); the web file takes the other sources that have no exact synonyms; the supplements take the rest, and
where a concept has several definitions there, the further ones go to the web file, since a supplement holds one. What no file
carries (ids beside the CUI, inexact synonyms, synonyms of the UMLS, xrefs) is counted in the manifest.

Source: arXiv 2312.17183 and https://github.com/zhaoziheng/SAT-Pretrain, ``data/dataset.py``, class ``Uni_Mod_Dataset`` (read for its
behaviour).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from vesalius.knowledge.export.exporting import Export, exporting, values_of
from vesalius.tables import literal

UMLS_DEFINITIONS = "umls_def.csv"
UMLS_RELATIONS = "umls_kg.csv"
WEBSITE = "website_knowledge_lab2def_gpt.json"
SUPPLEMENTS = "supplementary_lab2def_gpt.json"

READ_AS_MISSING = (
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN",
    "None", "n/a", "nan", "null",
)  # fmt: skip
"""What pandas.read_csv takes for a missing value (pandas 1.0 to 3.1, ``keep_default_na``)."""

_CSV = "FORMAT csv, HEADER true, FORCE_QUOTE ({columns})"


def export_sat(graph: Path, out: Path, *, advance: Callable[[str], None]) -> Mapping[str, int]:
    """Writes the four files, and returns file → number of rows or entries.

    Args:
        graph: a graph folder.
        out: the folder to write; an earlier export there is replaced.
        advance: told the name of each file once it is written.

    Raises:
        FolderError: `graph` holds no graph, or a damaged one.
        SettingError: `out` holds something that is no export.
    """
    with exporting(graph, out, format="sat", advance=advance) as export:
        _assign_sources(export)
        respelt = {text: _other_case(text) for text in READ_AS_MISSING}
        export.run(f"CREATE TABLE respelt AS SELECT * FROM (VALUES {values_of(respelt)}) v(text, other)")
        _write_definitions(export)
        _write_relations(export)
        export.wrote(WEBSITE, _write_entries(export, WEBSITE, _website_rows()))
        export.wrote(SUPPLEMENTS, _write_entries(export, SUPPLEMENTS, _supplement_rows()))
        _count_left_out(export)
    return export.num_rows


def _assign_sources(export: Export) -> None:
    """Makes the table `assigned` (source, file): ``umls``, ``website`` or ``supplements``."""
    of_umls = {source: kind for source, kind in export.kinds.items() if kind == "umls" or _is_csv(source, kind)}
    export.run("CREATE TABLE of_umls (source VARCHAR, kind VARCHAR)")
    if of_umls:
        export.run(f"INSERT INTO of_umls VALUES {values_of(of_umls)}")
    export.run("""
        CREATE TABLE assigned AS
        WITH sources AS (
            SELECT DISTINCT source FROM {draws}
        ), with_synonyms AS (
            SELECT DISTINCT source FROM {draws} WHERE kind = 'synonym' AND scope = 'exact' AND num > 0
        )
        SELECT source, CASE WHEN source IN (SELECT source FROM of_umls) THEN 'umls'
            WHEN source IN (FROM with_synonyms) THEN 'supplements' ELSE 'website' END AS file
        FROM sources
    """)


def _is_csv(source: str, kind: str) -> bool:
    """Says whether a source is a CSV of the UMLS that was read back, by its kind and name, or its name where it has no kind."""
    return kind in {"sat-definitions", "sat-relations", source} and source.startswith("umls")


def _write_definitions(export: Export) -> None:
    export.copy(
        f"""
        SELECT DISTINCT regexp_replace(d.concept_id, '^UMLS:', '') AS cui, {_safe("c.name")} AS name, {_safe("d.text")} AS definition
        FROM {{definitions}} d JOIN {{concepts}} c ON c.number = d.concept_number
        JOIN assigned a ON a.source = d.source AND a.file = 'umls'
        ORDER BY ALL
        """,
        UMLS_DEFINITIONS,
        _CSV.format(columns="cui, name, definition"),
    )


def _write_relations(export: Export) -> None:
    export.copy(
        f"""
        SELECT DISTINCT {_safe("s.name")} AS source, {_safe("o.name")} AS target, {_safe("replace(r.predicate, '_', ' ')")} AS edge
        FROM {{relations}} r
        JOIN {{concepts}} s ON s.number = r.subject_number JOIN {{concepts}} o ON o.number = r.object_number
        JOIN assigned a ON a.source = r.source AND a.file = 'umls'
        ORDER BY ALL
        """,
        UMLS_RELATIONS,
        _CSV.format(columns="source, target, edge"),
    )


def _safe(text: str) -> str:
    """Returns SQL for `text`, in another case where pandas would take it for missing."""
    return f"coalesce((SELECT other FROM respelt WHERE respelt.text = {text}), {text})"


def _other_case(text: str) -> str:
    return next(other for other in (text.lower(), text.capitalize(), text.upper()) if other not in READ_AS_MISSING)


def _website_rows() -> str:
    """Returns SQL for the rows of the web file: name, kind, position, two texts.

    Definitions of the web's sources, and those that a supplement has no room for; relations of the web's sources.
    """
    return f"""
        SELECT c.name, 'definition' AS kind, d.number AS place, d.text AS first, '' AS second
        FROM {{definitions}} d JOIN {{concepts}} c ON c.number = d.concept_number
        JOIN assigned a ON a.source = d.source AND a.file = 'website'
        UNION ALL
        SELECT name, 'definition', number, text, '' FROM ({_supplement_definitions()}) WHERE NOT is_first
        UNION ALL
        {_relation_rows("website")}
        UNION ALL
        {_bare_rows("website")}
    """


def _supplement_rows() -> str:
    return f"""
        SELECT name, 'definition' AS kind, number AS place, text AS first, '' AS second
        FROM ({_supplement_definitions()}) WHERE is_first
        UNION ALL
        {_relation_rows("supplements")}
        UNION ALL
        SELECT c.name, 'synonym', s.number, s.text, ''
        FROM {{synonyms}} s JOIN {{concepts}} c ON c.number = s.concept_number
        JOIN assigned a ON a.source = s.source AND a.file = 'supplements' WHERE s.scope = 'exact'
        UNION ALL
        {_bare_rows("supplements")}
    """


def _supplement_definitions() -> str:
    return """
        SELECT c.name, d.number, d.text, row_number() OVER (PARTITION BY c.name ORDER BY d.number) = 1 AS is_first
        FROM {definitions} d JOIN {concepts} c ON c.number = d.concept_number
        JOIN assigned a ON a.source = d.source AND a.file = 'supplements'
    """


def _relation_rows(file: str) -> str:
    return f"""
        SELECT s.name, 'relation', r.number, replace(r.predicate, '_', ' '), o.name
        FROM {{relations}} r
        JOIN {{concepts}} s ON s.number = r.subject_number JOIN {{concepts}} o ON o.number = r.object_number
        JOIN assigned a ON a.source = r.source AND a.file = {literal(file)}
    """


def _bare_rows(file: str) -> str:
    """Returns SQL for concepts that nothing says anything of and no relation leads to: an entry keeps their name."""
    return f"""
        SELECT c.name, 'bare', c.number, '', '' FROM {{concepts}} c
        JOIN assigned a ON a.source = c.source AND a.file = {literal(file)}
        ANTI JOIN {{definitions}} d ON d.concept_number = c.number
        ANTI JOIN (SELECT concept_number FROM {{synonyms}} WHERE scope = 'exact') s ON s.concept_number = c.number
        ANTI JOIN {{relations}} r ON r.subject_number = c.number
        ANTI JOIN {{relations}} t ON t.object_number = c.number
    """


def _write_entries(export: Export, file: str, rows: str) -> int:
    """Writes entries one after another, each whole, and returns how many: names in their order, no name twice."""
    num_entries = 0
    found = export.rows(f"SELECT name, kind, first, second FROM ({rows}) ORDER BY name, kind, place")
    with (export.folder / file).open("w", encoding="ascii") as out:
        out.write("{")
        for name, group in groupby(found, key=lambda row: row[0]):
            entry = json.dumps(_entry(group, is_website=file == WEBSITE))
            out.write(f"{',' if num_entries else ''}\n{json.dumps(name)}: {entry}")
            num_entries += 1
        out.write("\n}\n")
    return num_entries


def _entry(rows: Iterable[tuple[Any, ...]], *, is_website: bool) -> dict[str, Any]:
    definitions: list[str] = []
    relations: list[list[str]] = []
    synonyms: list[str] = []
    for _, kind, first, second in rows:
        if kind == "definition":
            definitions.append(first)
        elif kind == "relation":
            relations.append([first, second])
        elif kind == "synonym":
            synonyms.append(first)
    if is_website:
        return {"cleaned_definition": definitions, "relations": relations}
    entry: dict[str, Any] = {"relations": relations}
    if definitions:
        (entry["cleaned_definition"],) = definitions
    if synonyms:
        entry["synonyms"] = synonyms
    return entry


def _count_left_out(export: Export) -> None:
    of_umls = "JOIN assigned a ON a.source = s.source AND a.file = 'umls'"
    export.left_out["inexact synonyms"] = export.count("SELECT 1 FROM {synonyms} WHERE scope <> 'exact'")
    export.left_out["synonyms of the UMLS"] = export.count(
        f"SELECT 1 FROM {{synonyms}} s {of_umls} WHERE s.scope = 'exact'"
    )
    export.left_out["xrefs"] = export.count("SELECT 1 FROM {xrefs}")
