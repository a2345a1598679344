import json

import pytest

from vesalius.errors import InputError
from vesalius.knowledge.build import build_graph

OBO = "http://purl.obolibrary.org/obo/"


@pytest.fixture
def read(bench, tmp_path):
    def read(content, **options):
        path = tmp_path / "test.json"
        text = content if isinstance(content, str) else json.dumps({"graphs": [content]}, indent=1)
        path.write_text(text, encoding="utf-8")
        return bench.record("obograph", path, **options)[0]

    return read


def test_definitions_by_axiom_equivalents_and_former_ids_are_taken(read):
    rows = read(
        {
            "nodes": [
                {
                    "id": f"{OBO}X_1",
                    "lbl": "one",
                    "meta": {
                        "basicPropertyValues": [
                            {"pred": "http://www.geneontology.org/formats/oboInOwl#hasAlternativeId", "val": "X:9"},
                            {"pred": "http://purl.org/dc/terms/creator", "val": "somebody"},
                        ]
                    },
                },
                {"id": f"{OBO}BFO_0000050", "type": "PROPERTY"},
                {"id": f"{OBO}X_2"},
                {"id": f"{OBO}I_1", "type": "INDIVIDUAL", "lbl": "i"},
            ],
            "edges": [
                {"sub": f"{OBO}RO_1", "pred": "subPropertyOf", "obj": f"{OBO}BFO_0000050"},
                {"sub": f"{OBO}I_1", "pred": "type", "obj": f"{OBO}X_1"},
            ],
            "logicalDefinitionAxioms": [
                {
                    "definedClassId": f"{OBO}X_1",
                    "genusIds": [f"{OBO}X_2"],
                    "restrictions": [{"propertyId": f"{OBO}BFO_0000050", "fillerId": f"{OBO}X_3"}, None],
                }
            ],
            "equivalentNodesSets": [{"nodeIds": [f"{OBO}X_1", "http://purl.org/sig/ont/fma/fma7088"]}],
            "propertyChainAxioms": [{"predicateId": "p", "chainPredicateIds": []}],
        }
    )
    assert rows["concepts"] == {("X:1", "one")}
    assert rows["relations"] == {("X:1", "is_a", "X:2"), ("X:1", "part_of", "X:3")}
    assert rows["xrefs"] == {("X:1", "FMA:7088")} or rows["xrefs"] == {("FMA:7088", "X:1")}
    assert rows["obsolete"] == {("X:9", None, ("X:1",))}


def test_a_node_that_an_import_states_too_is_one_concept_and_twice_in_one_graph_is_refused(tmp_path):
    one = {"id": f"{OBO}X_1", "lbl": "one"}
    more = {**one, "meta": {"synonyms": [{"pred": "hasExactSynonym", "val": "uno"}]}}
    path = tmp_path / "test.json"
    path.write_text(json.dumps({"graphs": [{"nodes": [one]}, {"nodes": [more]}]}))
    assert list(build_graph([f"obograph={path}"])["X:1"].exact_names()) == ["one", "uno"]
    path.write_text(json.dumps({"graphs": [{"nodes": [one, more]}]}))
    with pytest.raises(InputError, match="X:1 is stated a second time"):
        build_graph([f"obograph={path}"])


BAD_FILES = {
    "no JSON": ('{"graphs": [\n{"nodes": [\n{"id": }]}]}', r"test\.json:3: no JSON"),
    "JSON cut off": ('{"graphs": [\n{"nodes": [', r"test\.json:2: no JSON"),
    "text behind the end": ('{"graphs": []}\n{', r"test\.json:2: no JSON \(text behind the end\)"),
    "a missing comma": ('{"graphs": []\n"x": 1}', r"test\.json:2: no JSON \(',' expected"),
    "a key without quotes": ("{graphs: []}", r"test\.json:1: no JSON \(a key in double quotes"),
    "another JSON": ('{"liver": {}}', r"test\.json: no key 'graphs'"),
    "a list": ("[]", r"test\.json:1: an object is expected"),
    "graphs that are none": ('{"graphs": {}}', r"test\.json:1: an array is expected"),
    "endless nesting": ('{"graphs": [{"nodes": [' + "[" * 10**5, r"test\.json:1: values nested too deep"),
    "nothing": (" \n", r"test\.json: the file is empty"),
    "a node without id": ('{"graphs": [{"nodes": [\n{"lbl": "x"}]}]}', r"test\.json:2: 'id' is missing"),
    "a label that is no text": (
        '{"graphs": [{"nodes": [\n{"id": "X:1", "lbl": 7}]}]}',
        r"test\.json:2: lbl is int, not str",
    ),
    "an id that is none": (
        '{"graphs": [{"nodes": [\n{"id": "one", "lbl": "x"}]}]}',
        r"test\.json:2: 'one' is not a concept id",
    ),
    "an edge without end": (
        '{"graphs": [{"edges": [\n{"sub": "X:1", "pred": "is_a"}]}]}',
        r"test\.json:2: 'obj' is missing",
    ),
    "a node that is no object": ('{"graphs": [{"nodes": [\n7]}]}', r"test\.json:2: the piece is int"),
    "a synonym of no kind": (
        '{"graphs": [{"nodes": [\n{"id": "X:1", "meta": {"synonyms": [{"pred": "hasOddSynonym", "val": "x"}]}}]}]}',
        r"test\.json:2: synonym of unknown kind 'hasOddSynonym'",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_by_file_and_line(read, name):
    text, message = BAD_FILES[name]
    with pytest.raises(InputError, match=message):
        read(text)


def test_keeping_going_leaves_out_the_bad_piece_alone(read):
    rows = read('{"graphs": [{"nodes": [{"lbl": "x"}, {"id": "X:1", "lbl": "one"}]}]}', keep_going=True)
    assert rows["concepts"] == {("X:1", "one")}
    assert {reason for reason, _ in rows["rejects"]} == {"'id' is missing"}


def test_an_integer_of_too_many_digits_is_refused_with_its_line(bench, tmp_path):
    path = tmp_path / "test.json"
    path.write_text('{"graphs": [\n{"nodes": [{"id": ' + "9" * 5000 + "}]}]}")
    with pytest.raises(InputError, match=r"test\.json:2: an integer of too many digits"):
        bench.record("obograph", path)
