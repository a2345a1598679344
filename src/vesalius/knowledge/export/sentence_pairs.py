"""Pairs of texts as JSON lines, for any trainer that reads (anchor, positive).

Each line: ``anchor`` (a preferred name), ``positive`` (what belongs to it), ``kind`` (definition, synonym, relation),
``concept_id``, ``source``, ``split`` (side of the concept; of a relation the side of both its ends, null where they differ: no
trainer may use it), and of relations ``predicate``, ``asked`` and ``named`` (id of the end that the text names: other concepts may
fill the open one, and they are no negatives). A relation gives four lines: either end asked for, in the published template and in
a sentence; which sentence where there are several is decided by a hash of the relation. A definition or synonym that is the name once
both are normalised teaches nothing and gives no line.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from vesalius.knowledge.definitions import statement_in_sql
from vesalius.knowledge.export.exporting import Export, exporting
from vesalius.knowledge.merge.names import in_sql
from vesalius.knowledge.names import normalise
from vesalius.knowledge.sentences import ARTICLE, sentence_parts, sentences
from vesalius.knowledge.split import make_sides
from vesalius.tables import literal

PAIRS = "pairs.jsonl"

_CHUNK = 1_000_000


def export_sentence_pairs(graph: Path, out: Path, *, advance: Callable[[str], None]) -> Mapping[str, int]:
    """Writes ``pairs.jsonl``, and returns file → number of rows.

    Names are lower-cased, definitions lose the notes at their end (`knowledge.definitions`); synonyms are the exact ones.

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
        export.run(
            "CREATE TABLE ends AS SELECT c.number, c.concept_id, lower(c.name) AS name, s.side "
            "FROM {concepts} c JOIN sides s USING (number)"
        )
        _make_templates(export)
        _find_repeating(export)
        num = 0
        with (export.folder / PAIRS).open("wb") as file:
            for table, sql in {
                "definitions": _texts("definition"),
                "synonyms": _texts("synonym"),
                "relations": _said(),
            }.items():
                num += _append(export, table, sql, file)
        export.wrote(PAIRS, num)
        export.left_out["texts equal to the name"] = export.count("SELECT 1 FROM repeating")
        export.left_out["inexact synonyms"] = export.count("SELECT 1 FROM {synonyms} WHERE scope <> 'exact'")
    return export.num_rows


def _append(export: Export, table: str, sql: str, file: BinaryIO) -> int:
    """Writes what `sql` makes of a table to `file`, some rows at a time and in their order, and returns the number of lines."""
    part = export.folder / ".part.jsonl"
    num_rows = export.count(f"SELECT 1 FROM {{{table}}}")
    num_lines = 0
    for first in range(0, num_rows, _CHUNK):
        rows = f"(SELECT * FROM {{{table}}} WHERE number >= {first} AND number < {first + _CHUNK})"
        chosen = f"SELECT * EXCLUDE (number, form) FROM ({sql.replace('{rows}', rows)}) ORDER BY number, asked, form"
        ((num,),) = export.run(f"COPY ({chosen}) TO {literal(part)} (FORMAT json)").fetchall()
        num_lines += num
        with part.open("rb") as lines:
            shutil.copyfileobj(lines, file)
        part.unlink()
    return num_lines


def _make_templates(export: Export) -> None:
    """Makes the table `templates`: predicate, asked, choice, num, before, one, between, other, after."""
    export.run(
        "CREATE TABLE templates (predicate VARCHAR, asked VARCHAR, choice UBIGINT, num UBIGINT, "
        "before VARCHAR, one VARCHAR, between_ VARCHAR, other VARCHAR, after VARCHAR)"
    )
    predicates = export.run("SELECT DISTINCT predicate FROM {relations} ORDER BY 1").fetchall()
    for (predicate,) in predicates:
        for asked in ("subject", "object"):
            listed = sentences(predicate, asked=asked)
            for choice, template in enumerate(listed):
                parts = sentence_parts(template)
                marks = ", ".join("?" for _ in range(9))
                export.run(f"INSERT INTO templates VALUES ({marks})", [predicate, asked, choice, len(listed), *parts])


def _find_repeating(export: Export) -> None:
    """Makes the table `repeating` (kind, number): definitions and exact synonyms that equal the name, normalised."""
    export.run("CREATE TABLE repeating (kind VARCHAR, number BIGINT)")
    for kind, table in (("definition", "definitions"), ("synonym", "synonyms")):
        wanted = "scope = 'exact'" if kind == "synonym" else "true"
        pairs = f"SELECT t.number, c.name, t.text FROM {{{table}}} t JOIN {{concepts}} c ON c.number = t.concept_number WHERE {wanted}"
        export.run(
            f"INSERT INTO repeating SELECT {literal(kind)}, number FROM ({pairs}) "
            f"WHERE {_IS_ASCII} AND {in_sql('name')} = {in_sql('text')}"
        )
        found = export.rows(f"SELECT * FROM ({pairs}) WHERE NOT ({_IS_ASCII})")
        numbers = (number for number, name, text in found if normalise(name) == normalise(text))
        while chunk := list(islice(numbers, 10_000)):
            export.run(f"INSERT INTO repeating SELECT {literal(kind)}, unnest(?::BIGINT[])", [chunk])


_IS_ASCII = "strlen(name) = length(name) AND strlen(text) = length(text)"

_LINE = "concept_id, source, split, predicate, asked, named, number"


def _texts(kind: str) -> str:
    """Returns SQL for the lines of ``{rows}``, which are definitions or synonyms."""
    wanted, text = ("t.scope = 'exact'", "t.text") if kind == "synonym" else ("true", statement_in_sql("t.text"))
    return f"""
        SELECT c.name AS anchor, {text} AS positive, {literal(kind)} AS kind, c.concept_id, t.source, c.side AS split,
            NULL::VARCHAR AS predicate, NULL::VARCHAR AS asked, NULL::VARCHAR AS named, t.number, 0 AS form
        FROM {{rows}} t JOIN ends c ON c.number = t.concept_number
        ANTI JOIN repeating r ON r.kind = {literal(kind)} AND r.number = t.number WHERE {wanted}
    """


def _said() -> str:
    """Returns SQL for the lines of ``{rows}``, which are relations."""
    return f"{_published()} UNION ALL {_sentences()}"


def _open_ends() -> str:
    """Returns SQL for each of ``{rows}`` twice: once with its subject asked for, once its object."""
    return " UNION ALL ".join(
        f"""
        SELECT {literal(own)} AS asked, r.number, r.source, r.predicate, concat_ws(chr(31), r.subject, r.predicate, r.object) AS key,
            a.concept_id, n.concept_id AS named, a.name, n.name AS named_name, CASE WHEN a.side = n.side THEN a.side END AS split
        FROM {{rows}} r JOIN ends a ON a.number = r.{own}_number JOIN ends n ON n.number = r.{other}_number
        """
        for own, other in (("subject", "object"), ("object", "subject"))
    )


def _published() -> str:
    return f"""
        SELECT name AS anchor, CASE asked WHEN 'subject' THEN replace(predicate, '_', ' ') || ' ' || named_name
            ELSE named_name || ' ' || replace(predicate, '_', ' ') END AS positive, 'relation' AS kind, {_LINE}, 0 AS form
        FROM ({_open_ends()})
    """


def _sentences() -> str:
    article = literal(f"^{ARTICLE}")
    name, named = (f"regexp_replace({column}, {article}, '')" for column in ("name", "named_name"))
    subject = f"CASE asked WHEN 'subject' THEN {name} ELSE {named} END"
    object_ = f"CASE asked WHEN 'object' THEN {name} ELSE {named} END"
    one, other = (
        f"CASE {hole} WHEN 'subject' THEN {subject} WHEN 'object' THEN {object_} ELSE '' END"
        for hole in ("one", "other")
    )
    return f"""
        SELECT name AS anchor, upper(text[1]) || text[2:] AS positive, 'relation' AS kind, {_LINE}, 1 AS form FROM (
            SELECT *, before || {one} || between_ || {other} || after AS text
            FROM ({_open_ends()}) JOIN templates USING (predicate, asked)
            WHERE ('0x' || md5(key)[1:8])::UBIGINT % num = choice
        )
    """
