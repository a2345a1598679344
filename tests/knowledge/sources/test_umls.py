import gzip
import json

import pytest

from vesalius.errors import InputError, SettingError
from vesalius.knowledge.build import BuildSettings, build
from vesalius.knowledge.export import FORMATS
from vesalius.knowledge.sources.options import UmlsOptions
from vesalius.knowledge.sources.umls_relations import reading
from vesalius.knowledge.store import read_graph
from vesalius.tables import read_table

REJECTS = {"reason": "VARCHAR", "file": "VARCHAR", "line": "BIGINT"}


def atom(cui, text, *, sab="FMA", code="7", lat="ENG", ts="S", stt="VO", ispref="N", suppress="N"):
    return f"{cui}|{lat}|{ts}|L1|{stt}|S1|{ispref}|A1||||{sab}|PT|{code}|{text}|0|{suppress}||\n"


def relation(one, rel, other, rela="", *, sab="FMA", suppress="N"):
    return f"{one}|A1|SCUI|{rel}|{other}|A2|SCUI|{rela}|R1||{sab}|{sab}||N|{suppress}||\n"


def meaning(cui, text, *, sab="NCI", suppress="N"):
    return f"{cui}|A1|AT1||{sab}|{text}|{suppress}||\n"


def vocabulary(name, level):
    return f"C1||{name}_2026|{name}|The {name}|{name}|2026|||2026AA||||{level}|1|1||PT||ENG|UTF-8|Y|Y|{name}||\n"


TABLES = {
    "MRSAB": [vocabulary("FMA", 0), vocabulary("NCI", 0), vocabulary("SNOMEDCT_US", 9), vocabulary("MTH", 0)],
    "MRSTY": [
        "C0000001|T023|A1.2.3.1|Body Part, Organ, or Organ Component|AT1||\n",
        "C0000002|T023|A1.2.3.1|Body Part, Organ, or Organ Component|AT1||\n",
        "C0000003|T047|B2.2.1.2.1|Disease or Syndrome|AT1||\n",
    ],
    "MRCONSO": [
        atom("C0000001", "Ren", code="7203"),
        atom("C0000001", "Kidney", ts="P", stt="PF", ispref="Y", sab="SNOMEDCT_US", code="64033007"),
        atom("C0000001", "Kidneys", ts="P", stt="PF", sab="NCI", code="C12415"),
        atom("C0000001", 'kidney "left or right', sab="MTH", code="NOCODE"),
        atom("C0000001", "Niere", lat="GER", ts="P", stt="PF", ispref="Y"),
        atom("C0000001", "Old kidney", suppress="O"),
        atom("C0000002", "Urinary system", ts="P", stt="PF", ispref="Y", code="7159"),
        atom("C0000003", "Nephritis", ts="P", stt="PF", ispref="Y", sab="NCI", code="C9"),
    ],
    "MRDEF": [meaning("C0000001", 'One of two "organs.'), meaning("C0000001", "Suppressed.", suppress="Y")],
    "MRREL": [
        relation("C0000002", "RO", "C0000001", "part_of"),
        relation("C0000001", "RO", "C0000002", "has_part"),
        relation("C0000001", "CHD", "C0000003"),
        relation("C0000003", "PAR", "C0000001"),
        relation("C0000001", "RO", "C0000003", sab="NCI"),
        relation("C0000003", "RO", "C0000001", sab="NCI"),
        relation("C0000001", "XR", "C0000002"),
        relation("C0000001", "SY", "C0000001"),
        relation("C0000002", "RO", "C0000003", "contains", suppress="O"),
    ],
}


@pytest.fixture
def bench(tmp_path):
    class Bench:
        folder = tmp_path / "META"
        out = tmp_path / "graph"

        def write(self, *, zipped=(), **tables):
            self.folder.mkdir(exist_ok=True)
            for table, rows in {**TABLES, **tables}.items():
                data = b"".join(row if isinstance(row, bytes) else row.encode() for row in rows)
                if table in zipped:
                    (self.folder / f"{table}.RRF.gz").write_bytes(gzip.compress(data, mtime=0))
                else:
                    (self.folder / f"{table}.RRF").write_bytes(data)
            return self

        def build(self, *, keep_going=False, exclude_licences=(), **options):
            settings = BuildSettings(
                umls=UmlsOptions(**options), keep_going=keep_going, exclude_licences=exclude_licences
            )
            self.details = build([f"umls={self.folder}"], self.out, settings=settings)
            return read_graph(self.out)

        def rejects(self):
            return read_table(self.out / "rejects.parquet", schema=REJECTS)

    return Bench()


def relations_of(graph):
    return {(relation.subject[-1], relation.predicate, relation.object[-1]) for relation in graph.relations}


@pytest.mark.parametrize("zipped", [(), tuple(TABLES)])
def test_a_metathesaurus_is_read_gzipped_or_not(bench, zipped):
    graph = bench.write(zipped=zipped).build()
    kidney = graph["UMLS:C0000001"]
    assert (kidney.name, kidney.source) == ("Kidney", "umls/SNOMEDCT_US")
    assert {(s.text, str(s.scope), s.source) for s in kidney.synonyms} == {
        ("Ren", "exact", "umls/FMA"), ("Kidneys", "exact", "umls/NCI"), ('kidney "left or right', "exact", "umls/MTH"),
    }  # fmt: skip
    assert [(d.text, d.source) for d in kidney.definitions] == [('One of two "organs.', "umls/NCI")]
    assert {xref.target for xref in kidney.xrefs} == {"FMA:7203", "SNOMEDCT_US:64033007", "NCI:C12415"}


def test_a_relation_reads_from_the_second_concept_to_the_first_and_is_kept_once(bench):
    graph = bench.write().build()
    assert relations_of(graph) == {("1", "part_of", "2"), ("3", "child_of", "1"), ("1", "related_to", "3")}


@pytest.mark.parametrize(
    ("rel", "rela", "said"),
    [
        ("CHD", "isa", ("is_a", "as read")), ("PAR", "inverse_isa", ("is_a", "turned")),
        ("RO", "has_finding_site", ("finding_site_of", "turned")), ("RO", "finding_site_of", ("finding_site_of", "as read")),
        ("RO", "supplied_by", ("supplies", "turned")), ("RO", "co-occurs_with", ("co-occurs_with", "both ways")),
        ("RB", None, ("narrower_than", "turned")), ("SIB", None, ("sibling_of", "both ways")),
        ("ZZ", None, ("related_to", "both ways")),
    ],
)  # fmt: skip
def test_every_word_of_mrrel_has_one_reading(rel, rela, said):
    assert reading(rel, rela) == said


def test_language_vocabularies_types_and_suppressed_rows_are_chosen(bench):
    bench.write()
    assert [concept.name for concept in bench.build(language="GER")] == ["Niere"]
    graph = bench.build(vocabularies=("FMA",))
    assert {concept.name for concept in graph} == {"Ren", "Urinary system"}
    assert relations_of(graph) == {("1", "part_of", "2")}
    for types in (("T047",), ("disease or syndrome",), ("B2.2.1.2",)):
        assert [concept.name for concept in bench.build(semantic_types=types)] == ["Nephritis"]
    graph = bench.build(suppressed=True)
    assert "Old kidney" in {synonym.text for synonym in graph["UMLS:C0000001"].synonyms}
    assert ("3", "contained_in", "2") not in relations_of(graph)
    assert ("2", "contained_in", "3") in relations_of(graph)
    assert len(graph["UMLS:C0000001"].definitions) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "XXX"}, "no name of MRCONSO is left: language XXX"),
        ({"vocabularies": ("SNOMED",)}, "--umls-vocabularies SNOMED is not in MRSAB – there are: SNOMEDCT_US"),
        ({"semantic_types": ("Body Part",)}, "no name, TUI or tree number in MRSTY – there are: Body Part, Organ"),
    ],
)
def test_a_choice_that_is_not_there_is_refused_with_what_is(bench, options, message):
    with pytest.raises(SettingError, match=message):
        bench.write().build(**options)
    assert not bench.out.exists()


def test_licences_of_vocabularies_are_in_the_manifest_and_can_be_excluded(bench):
    graph = bench.write().build(exclude_licences=("UMLS-SRL-9*",))
    assert {origin.name: origin.licence[:11] for origin in graph.origins} == {
        "umls": "UMLS-Metath", "umls/FMA": "UMLS-SRL-0 ", "umls/NCI": "UMLS-SRL-0 ", "umls/MTH": "UMLS-SRL-0 ",
    }  # fmt: skip
    assert [source["name"] for source in bench.details["excluded"]] == ["umls/SNOMEDCT_US"]
    assert graph["UMLS:C0000001"].name == "Kidneys"
    assert not any("SNOMED" in xref.target for xref in graph["UMLS:C0000001"].xrefs)


def test_excluding_the_metathesaurus_excludes_all_of_it(bench):
    with pytest.raises(SettingError, match="every source is excluded"):
        bench.write().build(exclude_licences=("UMLS-Metathesaurus*",))


BAD = {
    "too few fields": (
        {"MRDEF": [*TABLES["MRDEF"], "C0000001|A1|AT1|NCI|Text|N||\n"]}, r"MRDEF\.RRF:3: has 7 fields, a row of MRDEF has 8",
    ),
    "too many fields": ({"MRCONSO": [atom("C0000001", "a|b"), *TABLES["MRCONSO"]]}, r"MRCONSO\.RRF:1: has 19 fields"),
    "a field too many in the list of vocabularies": (
        {"MRSAB": [*TABLES["MRSAB"], vocabulary("x", "0|0")]}, r"MRSAB\.RRF:5: has 26 fields, a row of MRSAB has 25",
    ),
    "not UTF-8": ({"MRCONSO": [*TABLES["MRCONSO"], atom("C0000001", "é").encode("latin-1")]}, r"MRCONSO\.RRF:9: is not UTF-8"),
    "an unknown concept": (
        {"MRREL": [*TABLES["MRREL"], relation("C0000001", "RO", "C7777777", "part_of")]},
        r"MRREL\.RRF:10: UMLS:C7777777 part_of UMLS:C0000001: no source states UMLS:C7777777",
    ),
    "a definition of nothing": ({"MRDEF": [meaning("C7777777", "Text.")]}, r"MRDEF\.RRF:1: UMLS:C7777777 is stated by no source"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_row_is_named_with_file_and_line(bench, fault):
    tables, message = BAD[fault]
    with pytest.raises(InputError, match=message):
        bench.write(**tables).build()
    assert not bench.out.exists()


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("zipped", [(), tuple(TABLES)])
def test_keep_going_leaves_the_bad_row_out_and_keeps_the_others(bench, fault, zipped):
    tables, message = BAD[fault]
    graph = bench.write(zipped=zipped, **tables).build(keep_going=True)
    ((reason, file, line),) = bench.rejects()
    assert f"{file}:{line}: {reason}".replace(".gz", "").startswith(message.replace("\\", "")[:20])
    assert graph["UMLS:C0000001"].name == "Kidney"


NO_CUI = {
    "MRCONSO": (atom("", "Nameless"), "no CUI"),
    "MRDEF": (meaning("", "Of nothing."), "no CUI"),
    "MRSTY": ("|T023|A1.2.3.1|Body Part, Organ, or Organ Component|AT1||\n", "no CUI"),
    "MRREL": (relation("C0000001", "RO", ""), "no CUI1 or no CUI2"),
    "MRREL both": (relation("", "RO", ""), "no CUI1 or no CUI2"),
    "MRREL word": (relation("C0000001", "RO", "C0000002", "--"), "RELA -- has no letter or digit"),
}


@pytest.mark.parametrize("fault", NO_CUI)
def test_a_row_that_says_nothing_of_a_concept_is_refused_with_its_line(bench, fault):
    table = fault.split()[0]
    row, message = NO_CUI[fault]
    with_row = {table: [*TABLES[table], row]}
    line = len(with_row[table])
    with pytest.raises(InputError, match=rf"{table}\.RRF:{line}: {message}"):
        bench.write(**with_row).build()
    graph = bench.write(**with_row).build(keep_going=True)
    assert bench.rejects() == [(message, f"{table}.RRF", line)]
    whole = bench.write().build()
    assert ([*graph], graph.relations) == ([*whole], whole.relations)


def test_a_truncated_gzip_is_named_with_its_last_line(bench):
    bench.write(zipped=("MRREL",))
    path = bench.folder / "MRREL.RRF.gz"
    path.write_bytes(path.read_bytes()[:-9])
    for keep_going in (False, True):
        with pytest.raises(InputError, match=r"MRREL\.RRF\.gz:\d+: is no whole gzip file"):
            bench.build(keep_going=keep_going)
    assert not bench.out.exists()


def test_a_file_that_is_no_gzip_is_refused(bench):
    bench.write()
    (bench.folder / "MRREL.RRF").rename(bench.folder / "MRREL.RRF.gz")
    with pytest.raises(InputError, match=r"MRREL\.RRF\.gz:1: is no whole gzip file"):
        bench.build()


def cut(folder, table, pieces):
    """Puts a table into gzipped parts as a release does, which cuts where it likes."""
    path = folder / f"{table}.RRF"
    data = path.read_bytes()
    path.unlink()
    for index in range(pieces):
        piece = data[index * len(data) // pieces : (index + 1) * len(data) // pieces]
        (folder / f"{table}.RRF.a{chr(ord('a') + index)}.gz").write_bytes(gzip.compress(piece, mtime=0))


def test_a_table_in_parts_is_read_as_the_whole(bench):
    whole = bench.write().build()
    for table in ("MRCONSO", "MRREL"):
        cut(bench.folder, table, 3)
    cut(bench.folder, "MRDEF", 1)
    graph = bench.build()
    assert [*graph] == [*whole]
    assert graph.relations == whole.relations
    origin = next(origin for origin in graph.origins if origin.name == "umls")
    assert {"MRCONSO.RRF.ab.gz", "MRDEF.RRF.aa.gz", "MRSTY.RRF"} <= set(origin.sha256)


def test_a_part_that_is_missing_or_cut_off_is_named(bench):
    bench.write()
    cut(bench.folder, "MRCONSO", 3)
    part = bench.folder / "MRCONSO.RRF.ab.gz"
    content = part.read_bytes()
    part.write_bytes(content[:-9])
    with pytest.raises(InputError, match=r"MRCONSO\.RRF\.ab\.gz: the gzip is cut off"):
        bench.build()
    part.unlink()
    with pytest.raises(InputError, match=r"META: no MRCONSO\.RRF\.ab\.gz, but MRCONSO\.RRF\.ac\.gz"):
        bench.build()


def test_a_bad_row_of_a_table_in_parts_is_named_by_its_line_in_the_whole(bench):
    bench.write(MRDEF=[*TABLES["MRDEF"], "C0000001|too|few|\n"])
    cut(bench.folder, "MRDEF", 2)
    with pytest.raises(InputError, match=r"META/MRDEF\.RRF:3: has 3 fields"):
        bench.build()
    assert bench.build(keep_going=True)["UMLS:C0000001"].name == "Kidney"
    assert bench.rejects() == [("has 3 fields, a row of MRDEF has 8, each closed by |", "MRDEF.RRF", 3)]


def test_a_missing_table_is_named(bench):
    bench.write()
    (bench.folder / "MRSTY.RRF").unlink()
    with pytest.raises(InputError, match=r"no MRSTY\.RRF or MRSTY\.RRF\.gz"):
        bench.build()


def test_is_a_cycles_of_vocabularies_are_noted_and_kept(bench):
    rows = [relation("C0000001", "CHD", "C0000002", "isa"), relation("C0000002", "CHD", "C0000001", "isa")]
    graph = bench.write(MRREL=rows).build()
    assert relations_of(graph) == {("2", "is_a", "1"), ("1", "is_a", "2")}
    kinds = read_table(bench.out / "conflicts.parquet", schema={"kind": "VARCHAR", "file": "VARCHAR", "line": "BIGINT"})
    assert sorted(kinds) == [("is_a cycle", "MRREL.RRF", 1), ("is_a cycle", "MRREL.RRF", 2)]


def test_a_metathesaurus_and_an_ontology_become_one(bench, tmp_path):
    bench.write()
    obo = tmp_path / "x.obo"
    kidney, nephritis = "id: UBERON:0002113\nname: kidney\nxref: UMLS:C0000001\n", "id: UBERON:1\nname: nephritis\n"
    obo.write_text(f"format-version: 1.4\n\n[Term]\n{kidney}\n[Term]\n{nephritis}")
    build([f"obo={obo}", f"umls={bench.folder}"], bench.out)
    graph = read_graph(bench.out)
    assert {synonym.text for synonym in graph[graph.named("ren")[0].concept_id].synonyms} >= {"Ren", "Kidney"}
    assert graph.named("ren")[0].concept_id == "UBERON:0002113"
    assert len(graph.named("nephritis")) == 2


def test_a_built_metathesaurus_is_exported_as_the_umls_that_it_is(bench, tmp_path):
    bench.write().build()
    assert set(bench.details["kinds"].items()) >= {("umls", "umls"), ("umls/FMA", "umls"), ("umls/NCI", "umls")}
    num_rows = FORMATS["sat"].write(bench.out, tmp_path / "sat", advance=lambda file: None)
    assert num_rows == {
        "umls_def.csv": 1, "umls_kg.csv": 3, "website_knowledge_lab2def_gpt.json": 0, "supplementary_lab2def_gpt.json": 0,
    }  # fmt: skip
    FORMATS["kgx"].write(bench.out, tmp_path / "kgx", advance=lambda file: None)
    _, *edges = (tmp_path / "kgx" / "edges.tsv").read_text().splitlines()
    assert len(edges) == 3
    assert all(edge.endswith("\tknowledge_assertion\tmanual_agent") for edge in edges)


def test_a_file_is_curated_by_its_kind_and_no_umls_by_its_name(tmp_path):
    obo = tmp_path / "umls_of_mine.obo"
    obo.write_text("format-version: 1.4\n\n[Term]\nid: X:1\nname: hand\n\n[Term]\nid: X:2\nname: paw\nis_a: X:1\n")
    build([f"obo={obo}"], tmp_path / "graph")
    assert json.loads((tmp_path / "graph" / "manifest.json").read_text())["kinds"] == {"umls_of_mine": "obo"}
    assert FORMATS["sat"].write(tmp_path / "graph", tmp_path / "sat", advance=lambda file: None)["umls_kg.csv"] == 0
    FORMATS["kgx"].write(tmp_path / "graph", tmp_path / "kgx", advance=lambda file: None)
    assert "knowledge_assertion" in (tmp_path / "kgx" / "edges.tsv").read_text()


def test_two_metathesauri_are_refused(bench):
    bench.write()
    with pytest.raises(SettingError, match="named twice – give one Metathesaurus"):
        build([f"umls={bench.folder}"] * 2, bench.out)


def test_codes_of_hpo_and_go_tie_to_their_ontologies(bench, tmp_path):
    fever, growth = (
        "C0000004|T184|A2.2.2|Sign or Symptom|AT1||\n",
        "C0000005|T040|B2.2.1.1.1|Organism Function|AT1||\n",
    )
    bench.write(
        MRSAB=[*TABLES["MRSAB"], vocabulary("HPO", 0), vocabulary("GO", 0)],
        MRSTY=[*TABLES["MRSTY"], fever, growth],
        MRCONSO=[
            *TABLES["MRCONSO"],
            atom("C0000004", "Pyrexia", ts="P", stt="PF", ispref="Y", sab="HPO", code="HP:0001945"),
            atom("C0000005", "Growing", ts="P", stt="PF", ispref="Y", sab="GO", code="GO:0040007"),
        ],
    )
    obo = tmp_path / "x.obo"
    obo.write_text(
        "format-version: 1.4\n\n[Term]\nid: HP:0001945\nname: fever\n\n[Term]\nid: GO:0040007\nname: growth\n"
    )
    build([f"obo={obo}", f"umls={bench.folder}"], bench.out)
    graph = read_graph(bench.out)
    for name, concept_id in {"pyrexia": "HP:0001945", "growing": "GO:0040007"}.items():
        assert [concept.concept_id for concept in graph.named(name)] == [concept_id]


@pytest.mark.parametrize("wrong", [{"memory": "much"}, {"threads": 0}])
def test_memory_or_threads_that_cannot_be_are_refused_before_anything_is_read(bench, wrong):
    bench.write()
    with pytest.raises(SettingError, match="memory such as 6GB and 1 or more threads"):
        build([f"umls={bench.folder}"], bench.out, settings=BuildSettings(**wrong))
