"""KGX: nodes and edges as tab-separated values, in the words of the Biolink model.

Source: KGX format (https://biolink.github.io/kgx/kgx_format.html): one node or edge a line, values of a list joined by ``|``; its
own reader splits lines at tabs alone and knows no quoting, so that a tab or line break inside a text becomes a blank and a
``|`` inside a value of a list a ``/``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vesalius.knowledge.export.biolink import CATEGORIES, CURATED, FALLBACK_CATEGORY, FALLBACK_PREDICATE, PREDICATES
from vesalius.knowledge.export.exporting import exporting, values_of
from vesalius.tables import literal

_TSV = "FORMAT csv, DELIMITER '\t', QUOTE '', ESCAPE '', HEADER true, NULLSTR ''"
_SCOPES = ("exact", "narrow", "broad", "related")


def export_kgx(graph: Path, out: Path, *, advance: Callable[[str], None]) -> Mapping[str, int]:
    """Writes ``nodes.tsv`` and ``edges.tsv``, and returns file → number of rows.

    A node has its first definition as description, all synonyms, and those of each scope once more under their own heading. An edge has
    its provenance: ``primary_knowledge_source`` (infores:SOURCE), ``knowledge_level``, ``agent_type``; the predicate of the
    graph stands in ``original_predicate``, whatever Biolink calls it.

    Args:
        graph: a graph folder.
        out: the folder to write; an earlier export there is replaced.
        advance: told the name of each file once it is written.

    Raises:
        FolderError: `graph` holds no graph, or a damaged one.
        SettingError: `out` holds something that is no export.
    """
    with exporting(graph, out, format="kgx", advance=advance) as export:
        export.run(
            f"CREATE TEMP TABLE categories AS SELECT * FROM (VALUES {values_of(CATEGORIES)}) v(prefix, category)"
        )
        export.run(f"CREATE TEMP TABLE biolink AS SELECT * FROM (VALUES {values_of(PREDICATES)}) v(predicate, biolink)")
        export.copy(_nodes(), "nodes.tsv", _TSV)
        curated = [source for source, kind in export.kinds.items() if kind in CURATED]
        export.copy(_edges(curated), "edges.tsv", _TSV)
        definitions = export.count("SELECT 1 FROM {definitions}")
        described = export.count("SELECT DISTINCT concept_number FROM {definitions}")
        export.left_out["further definitions"] = definitions - described
    return export.num_rows


def _plain(text: str) -> str:
    """Returns SQL for `text` on one line, without a character that ends a field."""
    return f"trim(regexp_replace({text}, '[[:cntrl:]]+', ' ', 'g'))"


def _listed(text: str, *, where: str = "true") -> str:
    """Returns SQL for the values of `text` in a group, joined as KGX joins lists."""
    return f"string_agg(DISTINCT replace({text}, '|', '/'), '|' ORDER BY replace({text}, '|', '/')) FILTER ({where})"


def _nodes() -> str:
    text = _plain("text")
    scopes = ", ".join(f"{_listed(text, where=f'scope = {literal(scope)}')} AS {scope}_synonym" for scope in _SCOPES)
    return f"""
        WITH names AS (
            SELECT concept_number, {_listed(text)} AS synonym, {scopes} FROM {{synonyms}} GROUP BY concept_number
        ), said AS (
            SELECT concept_number, arg_min({text}, number) AS description FROM {{definitions}} GROUP BY concept_number
        ), elsewhere AS (
            SELECT concept_number, {_listed(_plain("target"))} AS xref FROM {{xrefs}} GROUP BY concept_number
        )
        SELECT c.concept_id AS id, coalesce(k.category, '{FALLBACK_CATEGORY}') AS category, {_plain("c.name")} AS name,
            d.description, s.synonym, s.exact_synonym, s.narrow_synonym, s.broad_synonym, s.related_synonym, x.xref,
            'infores:' || c.source AS provided_by
        FROM {{concepts}} c
        LEFT JOIN categories k ON k.prefix = split_part(c.concept_id, ':', 1)
        LEFT JOIN names s ON s.concept_number = c.number
        LEFT JOIN said d ON d.concept_number = c.number
        LEFT JOIN elsewhere x ON x.concept_number = c.number
        ORDER BY c.number
    """


def _edges(curated: Sequence[str]) -> str:
    is_curated = f"r.source IN ({', '.join(map(literal, curated))})" if curated else "false"
    return f"""
        SELECT md5(concat_ws(chr(31), r.subject, r.predicate, r.object, r.source)) AS id, r.subject,
            coalesce(b.biolink, '{FALLBACK_PREDICATE}') AS predicate, r.object, 'biolink:Association' AS category,
            r.predicate AS original_predicate, 'infores:' || r.source AS primary_knowledge_source,
            CASE WHEN {is_curated} THEN 'knowledge_assertion' ELSE 'not_provided' END AS knowledge_level,
            CASE WHEN {is_curated} THEN 'manual_agent' ELSE 'not_provided' END AS agent_type
        FROM {{relations}} r LEFT JOIN biolink b USING (predicate)
        ORDER BY r.number
    """
