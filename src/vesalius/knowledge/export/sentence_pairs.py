"""Pairs of texts as JSON lines, for any trainer that reads (anchor, positive).

Each line: ``anchor`` (a preferred name), ``positive`` (what belongs to it), ``kind`` (definition, synonym, relation), ``concept_id``, ``source``,
``split`` (side of the concept; of a relation the side of both its ends, null where they differ: no trainer may use it),
and of relations ``predicate``, ``asked`` and ``named`` (id of the end that the text names: other concepts may fill the open one, and they are no
negatives). A relation gives four lines: either end asked for, in the published template and in a sentence; which sentence
where there are several is decided by a hash of the relation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from vesalius.knowledge.export.exporting import Export, exporting, quoted
from vesalius.knowledge.sentences import sentence_parts, sentences
from vesalius.knowledge.split import make_sides

PAIRS = "pairs.jsonl"


def export_sentence_pairs(graph: Path, out: Path, *, advance: Callable[[str], None]) -> Mapping[str, int]:
    """Writes ``pairs.jsonl``, and returns file → number of rows.

    Names are lower-cased, other texts stand as they are; synonyms are the exact ones.

    Args:
        graph: a graph folder.
        out: the folder to write; an earlier export there is replaced.
        advance: told the name of each file once it is written.

    Raises:
        FolderError: `graph` holds no graph, or a damaged one.
        SettingError: `out` holds something that is no export.
    """
    with exporting(graph, out, format="sentence-pairs", advance=advance) as export:
        make_sides(export.connection, graph)
        _make_templates(export)
        export.copy(f"{_texts()} UNION ALL {_published()} UNION ALL {_sentences()}", PAIRS, "FORMAT json")
        export.left_out["inexact synonyms"] = export.count("SELECT 1 FROM {synonyms} WHERE scope <> 'exact'")
    return export.num_rows


def _make_templates(export: Export) -> None:
    """Makes the table `templates`: predicate, asked, choice, num, before, one, between, other, after."""
    export.run(
        "CREATE TEMP TABLE templates (predicate VARCHAR, asked VARCHAR, choice UBIGINT, num UBIGINT, "
        "before VARCHAR, one VARCHAR, between_ VARCHAR, other VARCHAR, after VARCHAR)"
    )
    predicates = export.run("SELECT DISTINCT predicate FROM {relations} ORDER BY 1").fetchall()
    for (predicate,) in predicates:
        for asked in ("subject", "object"):
            listed = sentences(predicate, asked=asked)
            for choice, template in enumerate(listed):
                parts = sentence_parts(template)
                marks = ", ".join("?" for _ in range(9))
                export.run(
                    f"INSERT INTO templates VALUES ({marks})", [predicate, asked, choice, len(listed), *parts]
                )


_LINE = "concept_id, source, split, predicate, asked, named"


def _texts() -> str:
    kinds = {"definition": ("definitions", "true"), "synonym": ("synonyms", "t.scope = 'exact'")}
    return " UNION ALL ".join(
        f"""
        SELECT lower(c.name) AS anchor, t.text AS positive, {quoted(kind)} AS kind, c.concept_id, t.source, s.side AS split,
            NULL::VARCHAR AS predicate, NULL::VARCHAR AS asked, NULL::VARCHAR AS named
        FROM {{{table}}} t JOIN {{concepts}} c ON c.number = t.concept_number JOIN sides s ON s.number = c.number WHERE {wanted}
        """
        for kind, (table, wanted) in kinds.items()
    )


def _ends() -> str:
    """Returns SQL for every relation twice: once with its subject asked for, once its object."""
    one = """
        SELECT {asked} AS asked, r.source, r.predicate, r.subject || chr(31) || r.predicate || chr(31) || r.object AS key,
            a.concept_id, n.concept_id AS named, lower(a.name) AS name, lower(n.name) AS named_name,
            CASE WHEN sa.side = sn.side THEN sa.side END AS split
        FROM {{relations}} r
        JOIN {{concepts}} a ON a.number = r.{own}_number JOIN {{concepts}} n ON n.number = r.{other}_number
        JOIN sides sa ON sa.number = a.number JOIN sides sn ON sn.number = n.number
    """
    subject = one.format(asked="'subject'", own="subject", other="object")
    return subject + " UNION ALL " + one.format(asked="'object'", own="object", other="subject")


def _published() -> str:
    return f"""
        SELECT name AS anchor, CASE asked WHEN 'subject' THEN replace(predicate, '_', ' ') || ' ' || named_name
            ELSE named_name || ' ' || replace(predicate, '_', ' ') END AS positive, 'relation' AS kind, {_LINE}
        FROM ({_ends()})
    """


def _sentences() -> str:
    subject = "CASE asked WHEN 'subject' THEN name ELSE named_name END"
    object_ = "CASE asked WHEN 'object' THEN name ELSE named_name END"
    hole = "CASE {hole} WHEN 'subject' THEN " + subject + " WHEN 'object' THEN " + object_ + " ELSE '' END"
    text = f"before || {hole.format(hole='one')} || between_ || {hole.format(hole='other')} || after"
    return f"""
        SELECT name AS anchor, upper(text[1]) || text[2:] AS positive, 'relation' AS kind, {_LINE} FROM (
            SELECT *, {text} AS text FROM ({_ends()}) JOIN templates USING (predicate, asked)
            WHERE ('0x' || md5(key)[1:8])::UBIGINT % num = choice
        )
    """
