import gzip
import re
import subprocess
import sys

import pytest

from vesalius.errors import InputError, SettingError
from vesalius.knowledge.sources.options import SourceOptions

HEADER = "format-version: 1.2\nontology: test\n\n"


@pytest.fixture
def read(bench, tmp_path):
    def read(text, **options):
        path = tmp_path / "test.obo"
        path.write_bytes(text if isinstance(text, bytes) else (HEADER + text).encode())
        return bench.record("obo", path, **options)[0]

    return read


def term(*clauses):
    return "\n".join(["[Term]", "id: X:1", "name: one", *clauses, ""])


def test_escapes_modifiers_and_comments_are_told_from_text(read):
    rows = read(
        "[Term]\nid: X:1 ! the id\n"
        'name: a \\"quoted\\" name\\, \\{braced\\} \\! and 5" long {source="X:2", note="}"} ! comment\n'
        'def: "Says \\"no\\"\\nand [brackets] {braces} ! bang \\\\." '
        '[X:3 "why, indeed", http\\://a.b/c\\,d, DOI:1(71)90165-1] {a="b"} ! c\n'
    )
    assert rows["concepts"] == {("X:1", 'a "quoted" name, {braced} ! and 5" long')}
    assert rows["definitions"] == {
        ("X:1", 'Says "no"\nand [brackets] {braces} ! bang \\.', ("DOI:1(71)90165-1", "X:3", "http://a.b/c,d"))
    }


def test_synonyms_have_the_scope_of_the_clause_then_of_the_type_then_related(read):
    rows = read(
        'synonymtypedef: LATIN "latin term" EXACT\nsynonymtypedef: PLAIN "no scope"\n\n'
        + term(
            'synonym: "a" NARROW LATIN [X:2]', 'synonym: "b" LATIN []', 'synonym: "c" PLAIN []', 'synonym: "d" []',
            'synonym: "e" BROAD', 'exact_synonym: "f" []', 'synonym: "g" EXACT UNDECLARED []',
        )
    )  # fmt: skip
    assert {text: scope for _, text, scope in rows["synonyms"]} == {
        "a": "narrow", "b": "exact", "c": "related", "d": "related", "e": "broad", "f": "exact", "g": "exact",
    }  # fmt: skip


def test_relations_carry_the_words_of_their_typedef(read):
    rows = read(
        term(
            'is_a: X:2 {source="X:9"} ! two', "relationship: RO:0002202 X:3", "relationship: lies_in X:4 ! four",
            "relationship: BFO:0000050 X:5", "intersection_of: X:6", "intersection_of: part_of X:7", "relationship: isa X:8",
        )
        + "\n[Typedef]\nid: RO:0002202\nname: develops from\n\n[Typedef]\nid: lies_in\nname: located within\n"
        "\n[Typedef]\nid: part_of\nxref: BFO:0000050\n"
    )  # fmt: skip
    assert {row[1:] for row in rows["relations"]} == {
        ("is_a", "X:2"), ("develops_from", "X:3"), ("located_within", "X:4"), ("part_of", "X:5"), ("is_a", "X:6"),
        ("part_of", "X:7"), ("is_a", "X:8"),
    }  # fmt: skip


def test_what_does_not_always_hold_or_is_metadata_is_left_out(read):
    rows = read(
        term(
            'relationship: part_of X:2 {gci_relation="part_of", gci_filler="NCBITaxon:1"}',
            'relationship: part_of X:3 {all_only="true"}', 'relationship: part_of X:4 {cardinality="0"}',
            "relationship: dc-contributor https://orcid.org/1", "union_of: X:5", "disjoint_from: X:6",
            'is_a: X:7 {source="all_only=\\"true\\""}',
        )
        + "\n[Typedef]\nid: dc-contributor\nis_metadata_tag: true\n\n[Instance]\nid: X:8\nname: eight\n"
    )  # fmt: skip
    assert rows["relations"] == {("X:1", "is_a", "X:7")}
    assert rows["concepts"] == {("X:1", "one")}


def test_obsolete_terms_and_former_ids_name_their_replacement(read):
    rows = read(
        term("alt_id: X:2", "alt_id: X:3")
        + "[Term]\nid: X:3\nname: obsolete three\nis_obsolete: true\nreplaced_by: X:1\n\n"
        + '[Term]\nid: X:4\nname: four\nis_obsolete: true\nconsider: X:1\nsynonym: "vier" EXACT []\nis_a: X:1\n'
    )
    assert rows["obsolete"] == {("X:2", None, ("X:1",)), ("X:3", "obsolete three", ("X:1",)), ("X:4", "four", ())}
    assert not rows["synonyms"]
    assert not rows["relations"]


def test_a_term_without_name_adds_to_a_concept_of_another_source(read):
    rows = read('[Term]\nid: X:1\nsynonym: "uno" EXACT []\nis_a: X:2\n')
    assert not rows["concepts"]
    assert rows["synonyms"] == {("X:1", "uno", "exact")}
    assert rows["relations"] == {("X:1", "is_a", "X:2")}


def test_line_ends_blank_lines_continuations_and_the_byte_order_mark_do_not_matter(read):
    text = "format-version: 1.2\r\n! a comment\r\n\r\n[Term] ! first\r\n\r\nid: X:1\r\nname: o\\\r\nne\r\nimport: http://x.org/y\r\n"
    assert read(b"\xef\xbb\xbf" + text.encode())["concepts"] == {("X:1", "one")}


def test_version_licence_and_attribution_come_from_the_header(bench, tmp_path):
    path = tmp_path / "test.obo"
    path.write_text(
        "format-version: 1.4\ndata-version: releases/2026-05-01\nontology: x\n"
        "property_value: http://purl.org/dc/terms/license https://creativecommons.org/licenses/by-nc/4.0/\n"
        'property_value: dc-title "A test" xsd:string\nproperty_value: foaf-homepage "http://x.org" xsd:anyURI\n'
    )
    _, (origin,) = bench.record("obo", path)
    assert (origin.version, origin.licence, origin.attribution) == (
        "releases/2026-05-01",
        "CC-BY-NC-4.0",
        "A test, http://x.org",
    )


BAD_FILES = {
    "an open quote": (term('def: "never closed [X:2]'), r"test\.obo:7: def: the quote is not closed"),
    "an open list": (term('synonym: "a" EXACT [X:2'), r"test\.obo:7: synonym: the list of xrefs is not closed"),
    "no quote": (term("synonym: a EXACT []"), r"test\.obo:7: synonym: does not begin with a quoted text"),
    "an unknown scope": (term('synonym: "a" EXATC []'), r"test\.obo:7: synonym: 'EXATC' is neither a scope"),
    "a relationship without id": (term("relationship: part_of"), r"test\.obo:7: relationship without predicate and id"),
    "an is_a without id": (term("is_a: ! two"), r"test\.obo:7: is_a without an id"),
    "an is_a that is no id": (term("is_a: two"), r"test\.obo:7: 'two' is not a concept id"),
    "an id that is none": ("[Term]\nid: one\nname: one\n", r"test\.obo:5: 'one' is not a concept id"),
    "a stanza without id": ("[Term]\nname: one\n\n[Term]\nid: X:1\n", r"test\.obo:4: \[Term\] has no 'id:'"),
    "a line without colon": ("[Term]\nid: X:1\nname\n", r"test\.obo:6: 'name' is no 'tag: value'"),
    "an open stanza header": ("[Term\nid: X:1\n", r"test\.obo:4: '\[Term' opens no stanza"),
    "a trailing backslash": (term("name: o\\"), r"test\.obo:7: the last line ends in"),
    "no header": (b"[Term]\nid: X:1\n", r"test\.obo: no 'format-version:'"),
    "JSON": (b'{"graphs": []}', r"test\.obo:1: .* is no 'tag: value'"),
    "XML": (b"<rdf:RDF>", r"test\.obo:1: .* is no 'tag: value'"),
    "CSV": (b"id,name\nX:1,one\n", r"test\.obo:1: .* is no 'tag: value'"),
    "nothing": (b"", r"test\.obo: the file is empty"),
    "Latin-1": (HEADER.encode() + b"[Term]\nid: X:1\nname: caf\xe9\n", r"test\.obo:6: not UTF-8 \(byte 0xe9\)"),
    "UTF-16": (HEADER.encode("utf-16"), r"test\.obo:1: not UTF-8"),
    "a gzip cut off": (gzip.compress((HEADER + term() * 50).encode())[:-10], r"test\.obo:\d+: the gzip is cut off"),
    "a gzip damaged": (b"\x1f\x8b\x08\0" + b"\xff" * 60, r"test\.obo:1: the gzip is damaged"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_by_file_and_line(read, name):
    text, message = BAD_FILES[name]
    with pytest.raises(InputError, match=message):
        read(text)


def test_keeping_going_leaves_out_bad_rows_and_nothing_else(read):
    text = term('def: "never closed', "is_a: two", "is_a: X:2") + "\n[Term]\nid: one\nname: one\nis_a: X:1\n"
    rows = read(text, keep_going=True)
    assert rows["relations"] == {("X:1", "is_a", "X:2")}
    assert {reason for reason, _ in rows["rejects"]} == {
        "def: the quote is not closed", "'two' is not a concept id", "'one' is not a concept id",
    }  # fmt: skip


def test_a_file_that_is_missing_or_a_folder_is_refused(bench, tmp_path):
    for path in (tmp_path / "nothing.obo", tmp_path):
        with pytest.raises(InputError, match="check the path"):
            bench.record("obo", path)


def test_a_yaml_behind_the_path_is_refused(bench, tmp_path):
    with pytest.raises(SettingError, match="reads no YAML"):
        bench.record("obo", tmp_path / "test.obo", SourceOptions(spec=tmp_path / "spec.yaml"))


@pytest.fixture(scope="module")
def uberon_text(shared_data):
    return gzip.decompress((shared_data / "knowledge" / "uberon_basic.obo.gz").read_bytes()).decode()


STAGE = """
import sys
from pathlib import Path
from vesalius.knowledge.sources import KINDS
from vesalius.knowledge.sources.options import SourceOptions
from vesalius.knowledge.staging import Staging
path, folder = map(Path, sys.argv[1:])
with Staging(folder, "test", file=path.name) as staging:
    (origin,) = KINDS["obo"](path, staging, SourceOptions())
print(origin.version, origin.licence)
"""


@pytest.fixture(scope="module")
def uberon(bench, shared_data, tmp_path_factory):
    """Rows and terms of the whole file, read in a process of its own: type checks at every call would take minutes here."""
    folder = tmp_path_factory.mktemp("uberon")
    path = shared_data / "knowledge" / "uberon_basic.obo.gz"
    ran = subprocess.run([sys.executable, "-c", STAGE, path, folder], capture_output=True, text=True, check=True)
    return bench.staged_rows(folder), ran.stdout.split()


def test_uberon_is_read_as_an_independent_count_has_it(uberon, uberon_text):
    rows, terms_of_use = uberon
    terms = [stanza for stanza in uberon_text.split("\n\n") if stanza.startswith("[Term]")]
    live = [stanza for stanza in terms if "\nis_obsolete: true" not in stanza]

    def num(pattern):
        return sum(len(set(re.findall(pattern, stanza, re.MULTILINE))) for stanza in live)

    assert len(terms) == 15646
    assert len(rows["concepts"]) == len(live)
    assert len(rows["obsolete"]) == len(terms) - len(live) + num(r"^alt_id: .*")
    assert len(rows["definitions"]) == num("^def: .*")
    assert len(rows["xrefs"]) == num(r"^xref: (\S+)")
    for scope in ("exact", "narrow", "broad", "related"):
        assert sum(row[2] == scope for row in rows["synonyms"]) == num(rf'^synonym: (".*?(?<!\\)") {scope.upper()} ')
    for predicate in ("part_of", "develops_from", "transformation_of", "immediate_transformation_of"):
        assert sum(row[1] == predicate for row in rows["relations"]) == num(rf"^relationship: {predicate} (\S+)")
    assert sum(row[1] == "is_a" for row in rows["relations"]) == num(r"^is_a: (\S+)")
    assert {row[1] for row in rows["relations"]} == {
        "is_a", "part_of", "develops_from", "transformation_of", "immediate_transformation_of",
    }  # fmt: skip
    assert {row[0] for row in rows["concepts"]} >= {end for row in rows["relations"] for end in (row[0], row[2])}
    assert terms_of_use == ["uberon/releases/2024-09-03/uberon-basic.owl", "CC-BY-3.0"]


def test_one_content_is_the_same_in_obo_owl_and_obograph(bench, uberon, tmp_path):
    rows, _ = uberon
    ids = sorted(row[0] for row in rows["concepts"])[::149]
    names = {row[0]: row[1] for row in rows["concepts"]}

    def of(table, identifier):
        return tuple(row[1:] for row in rows[table] if row[0] == identifier)

    wanted = set(ids)
    near = {table: [row for row in rows[table] if row[0] in wanted] for table in ("synonyms", "definitions", "xrefs")}
    rows = {**rows, **near}
    concepts = [
        bench.said(
            id=each, name=names[each], synonyms=of("synonyms", each), definitions=of("definitions", each)[:1],
            xrefs=tuple(target for (target,) in of("xrefs", each)),
        )
        for each in ids
    ]  # fmt: skip
    concepts += [
        bench.said(id=each, name=name, is_obsolete=True, replaced_by=replaced_by)
        for each, name, replaced_by in sorted(rows["obsolete"], key=str)[:60]
        if name is not None
    ]
    known = {"is_a", "part_of", "develops_from"}
    relations = tuple(row for row in sorted(rows["relations"]) if row[0] in wanted and row[1] in known)
    content = bench.content(concepts=tuple(concepts), relations=relations)
    assert len(concepts) > 120
    for name in ("obo", "owl rdf", "owl protégé", "owl functional", "obograph"):
        path, options = bench.forms[name].file(content, tmp_path)
        found, _ = bench.record(bench.forms[name].kind, path, options)
        assert found == content.rows(), name


@pytest.mark.parametrize("value", ['{x="y"}', "! only a comment"])
def test_a_property_of_the_header_without_a_value_says_nothing(bench, tmp_path, value):
    path = tmp_path / "test.obo"
    path.write_text(f"format-version: 1.2\nproperty_value: dcterms:license {value}\n\n{term()}")
    (origin,) = bench.record("obo", path)[1]
    assert origin.licence == "not stated"


def test_an_open_quote_in_the_header_is_named_with_file_and_line(bench, tmp_path):
    path = tmp_path / "test.obo"
    path.write_text(f'format-version: 1.2\nproperty_value: dcterms:title "open\n\n{term()}')
    with pytest.raises(InputError, match=r"test\.obo:2: property_value: the quote is not closed"):
        bench.record("obo", path)
