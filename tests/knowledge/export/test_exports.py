import csv
import json
import re

import pytest

from vesalius.cli import main
from vesalius.folder import Origin
from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Concept, Definition, Relation, Scope, Synonym, Xref
from vesalius.knowledge.export import FORMATS
from vesalius.knowledge.export.biolink import CATEGORIES, FALLBACK_PREDICATE, PREDICATES
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.predicates import Predicate
from vesalius.knowledge.split import split_concepts
from vesalius.knowledge.store import write_graph


@pytest.fixture
def nasty(store_graph):
    """Texts with tabs, quotes, bars and line breaks, of two sources, and its folder."""
    ids = [ConceptId(text) for text in ("UBERON:1", "MONDO:2", "X:3", "X:4", "X:5")]
    concepts = [
        Concept(
            concept_id=each,
            name=name,
            source=source,
            synonyms=(
                Synonym(text="one|two", scope=Scope.EXACT, source=source),
                Synonym(text="wide\tword", scope=Scope.BROAD, source=source),
            ),
            definitions=(Definition(text='Says "it"\nin\r\ntwo lines.', source=source),),
            xrefs=(Xref(target="FMA:1", source=source),) if each == "UBERON:1" else (),
        )
        for each, name, source in zip(
            ids,
            ["The Kidney", '"cyst"', "{object}", "Größe", "Größe\u2028"],
            ["uberon", "mine", "mine", "mine", "mine"],
            strict=True,
        )
    ]
    relations = [
        Relation(subject=ids[0], predicate=Predicate("part_of"), object=ids[1], source="uberon"),
        Relation(subject=ids[2], predicate=Predicate("smells_of"), object=ids[0], source="mine"),
        Relation(subject=ids[2], predicate=Predicate("part_of"), object=ids[3], source="mine"),
    ]
    names = [Origin(name=name, version="1", licence="CC0-1.0", attribution="tests") for name in ("uberon", "mine")]
    graph = Graph(concepts, relations, names)
    return graph, store_graph(graph)


def exported(folder, out, name):
    num_rows = FORMATS[name].write(folder, out, advance=lambda file: None)
    assert len(num_rows) == FORMATS[name].num_files
    return num_rows


def tsv(path):
    """Reads as KGX does: lines end at line feeds, fields at tabs, nothing is quoted."""
    heading, *lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    columns = heading.split("\t")
    rows = [line.split("\t") for line in lines]
    assert all(len(row) == len(columns) for row in rows)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_kgx_nodes_have_a_category_and_lists_that_split_again(nasty, tmp_path):
    graph, folder = nasty
    assert exported(folder, tmp_path / "out", "kgx") == {"nodes.tsv": 5, "edges.tsv": 3}
    nodes = {row["id"]: row for row in tsv(tmp_path / "out" / "nodes.tsv")}
    assert set(nodes) == {concept.concept_id for concept in graph}
    kidney = nodes["UBERON:1"]
    assert (kidney["category"], nodes["MONDO:2"]["category"]) == ("biolink:AnatomicalEntity", "biolink:Disease")
    assert nodes["X:3"]["category"] == "biolink:NamedThing"
    assert kidney["synonym"].split("|") == ["one/two", "wide word"]
    assert (kidney["exact_synonym"], kidney["broad_synonym"], kidney["narrow_synonym"]) == ("one/two", "wide word", "")
    assert (kidney["name"], kidney["xref"], kidney["provided_by"]) == ("The Kidney", "FMA:1", "infores:uberon")
    assert kidney["description"] == 'Says "it" in two lines.'
    assert nodes["MONDO:2"]["name"] == '"cyst"'


def test_kgx_edges_are_biolink_with_their_provenance(nasty, tmp_path):
    _, folder = nasty
    exported(folder, tmp_path / "out", "kgx")
    known, unknown, *_ = tsv(tmp_path / "out" / "edges.tsv")
    if known["original_predicate"] != "part_of":
        known, unknown = unknown, known
    assert (known["predicate"], known["primary_knowledge_source"]) == ("biolink:part_of", "infores:uberon")
    assert (known["knowledge_level"], known["agent_type"]) == ("knowledge_assertion", "manual_agent")
    edges = tsv(tmp_path / "out" / "edges.tsv")
    (smells,) = [edge for edge in edges if edge["original_predicate"] == "smells_of"]
    assert (smells["predicate"], smells["knowledge_level"]) == (FALLBACK_PREDICATE, "not_provided")
    assert len({edge["id"] for edge in edges}) == 3


def test_biolink_words_have_their_form():
    assert all(re.fullmatch(r"biolink:[a-z_]+", predicate) for predicate in [*PREDICATES.values(), FALLBACK_PREDICATE])
    assert all(re.fullmatch(r"biolink:[A-Z][A-Za-z]+", category) for category in CATEGORIES.values())


def test_sentence_pairs_hold_every_pair_with_its_side(nasty, tmp_path):
    graph, folder = nasty
    (num,) = exported(folder, tmp_path / "out", "sentence-pairs").values()
    lines = [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").open(encoding="utf-8")]
    assert len(lines) == num == 5 + 5 + 4 * 3
    sides = split_concepts(graph)
    for line in lines:
        assert line["anchor"] == graph[ConceptId(line["concept_id"])].name.lower()
        ends = {sides[ConceptId(line[key])] for key in ("concept_id", "named") if line[key]}
        assert line["split"] == (ends.pop() if len(ends) == 1 else None)
    assert not any("wide" in line["positive"] for line in lines)
    (said, *_) = [line for line in lines if line["predicate"] == "smells_of" and line["asked"] == "object"]
    assert said["positive"] == "{object} smells of"
    texts = {line["positive"] for line in lines if line["kind"] == "relation"}
    assert {"part of größe", "smells of the kidney", "the kidney part of"} <= texts
    assert not any("the the" in text for text in texts)


def test_a_text_that_only_repeats_its_name_is_no_sentence_pair(tmp_path):
    synonyms = ("LEFT-kidney", "ＬＥＦＴ kidney", "ren sinister")
    concept = Concept(
        concept_id=ConceptId("A:1"), name="left kidney", source="s",
        synonyms=tuple(Synonym(text=text, scope=Scope.EXACT, source="s") for text in synonyms),
        definitions=(Definition(text="Left kidney.", source="s"), Definition(text="A kidney on the left.", source="s")),
    )  # fmt: skip
    write_graph(Graph([concept], []), tmp_path / "graph")
    exported(tmp_path / "graph", tmp_path / "out", "sentence-pairs")
    lines = [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").open(encoding="utf-8")]
    assert {line["positive"] for line in lines} == {"ren sinister", "A kidney on the left."}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["left_out"] == {"texts equal to the name": 3, "inexact synonyms": 0}


@pytest.mark.parametrize("name", list(FORMATS))
def test_the_same_graph_gives_the_same_bytes(nasty, tmp_path, name):
    _, folder = nasty
    for out in ("one", "two"):
        exported(folder, tmp_path / out, name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir() if path.name != "manifest.json")
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir() if path.name != "manifest.json")
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_the_command_exports_and_refuses_an_unknown_format(nasty, tmp_path, capsys):
    _, folder = nasty
    out = tmp_path / "out"
    assert main(["knowledge", "export", str(folder), "--format", "kgx", "--out", str(out)]) == 0
    assert f"export: {out}" in capsys.readouterr().out
    with (out / "edges.tsv").open(encoding="utf-8") as file:
        assert sum(1 for _ in csv.reader(file, delimiter="\t")) == 4
    assert main(["knowledge", "export", str(folder), "--format", "rdf", "--out", str(out)]) == 2
    assert "known are: kgx, sat, sentence-pairs" in capsys.readouterr().err.replace("\n", " ")
