import json

import pytest

from vesalius.errors import InputError
from vesalius.knowledge.sources.name_ids import name_id


@pytest.fixture
def read(bench, tmp_path):
    def read(kind, text, **options):
        path = tmp_path / "test.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return bench.record(kind, path, **options)[0]

    return read


def test_an_id_made_from_a_name_is_readable_stable_and_one_for_each_spelling():
    assert name_id("Left  Kidney ") == name_id("left kidney") == "NAME:left-kidney"
    assert name_id("left-kidney") != name_id("left kidney")
    assert name_id("α cell") != name_id("β cell")
    assert name_id("心臓").startswith("NAME:")
    assert name_id("x" * 70) != name_id("x" * 71)


def test_na_and_other_words_that_look_like_nothing_are_names(read):
    rows = read("sat-relations", "source,target,edge\nNA,null,isa\nnan,NA,part of\n")
    assert rows["concepts"] == {("NAME:na", "NA"), ("NAME:null", "null"), ("NAME:nan", "nan")}
    assert rows["relations"] == {("NAME:na", "is_a", "NAME:null"), ("NAME:nan", "part_of", "NAME:na")}


def test_a_cui_with_several_definitions_is_one_concept_and_a_second_name_a_synonym(read):
    rows = read(
        "sat-definitions", 'cui,name,definition\nC1,Liver,First.\nC1,liver,"Second,\nlonger."\nC1,Hepar,First.\n'
    )
    assert rows["concepts"] == {("UMLS:C1", "Liver")}
    assert rows["synonyms"] == {("UMLS:C1", "Hepar", "exact")}
    assert rows["definitions"] == {("UMLS:C1", "First.", ()), ("UMLS:C1", "Second,\nlonger.", ())}


def test_a_key_that_stands_twice_in_an_entry_is_refused_with_its_line(read):
    text = '{\n"liver": {"relations": [], "synonyms": ["a"],\n"synonyms": ["b"]}}'
    with pytest.raises(InputError, match=r"test\.txt:2: the key 'synonyms' stands twice in one object"):
        read("sat-json", text)


def test_columns_beside_those_of_the_format_are_passed_over(read):
    assert read("sat-relations", ",source,target,edge\n0,a,b,isa\n")["relations"] == {("NAME:a", "is_a", "NAME:b")}


def test_json_is_read_with_texts_and_with_lists_and_the_entry_spells_the_name(read):
    entries = {
        "liver": {
            "cleaned_definition": "One.",
            "relations": [["near", "Left Kidney"], ["near", ["spleen", "Spleen "]]],
        },
        "left kidney": {
            "cleaned_definition": ["Two.", "Three."],
            "relations": [],
            "synonyms": ["Kidney, left"],
            "citations": [],
        },
    }
    rows = read("sat-json", json.dumps(entries))
    assert rows["concepts"] == {("NAME:liver", "liver"), ("NAME:left-kidney", "left kidney"), ("NAME:spleen", "spleen")}
    assert rows["relations"] == {("NAME:liver", "near", "NAME:left-kidney"), ("NAME:liver", "near", "NAME:spleen")}
    assert {text for _, text, _ in rows["definitions"]} == {"One.", "Two.", "Three."}
    assert rows["synonyms"] == {("NAME:left-kidney", "Kidney, left", "exact")}


def test_a_blank_text_in_json_says_nothing(read):
    rows = read("sat-json", '{"a": {"cleaned_definition": "", "relations": [["near", " "]], "synonyms": [""]}}')
    assert rows["concepts"] == {("NAME:a", "a")}
    assert not rows["definitions"] | rows["synonyms"] | rows["relations"]


def test_the_published_sample_is_read_whole(bench, shared_data):
    path = shared_data / "sat" / "supplementary_sample.json"
    entries = json.loads(path.read_text())
    rows, _ = bench.record("sat-json", path)
    names = dict(rows["concepts"])
    assert {name for name in entries if names[name_id(name)] == name} == set(entries)
    assert {(row[0], row[1]) for row in rows["definitions"]} == {
        (name_id(name), entry["cleaned_definition"].strip())
        for name, entry in entries.items()
        if "cleaned_definition" in entry
    }
    assert {(row[0], row[1]) for row in rows["synonyms"]} == {
        (name_id(name), text) for name, entry in entries.items() for text in entry.get("synonyms", [])
    }
    assert {(row[0], row[2]) for row in rows["relations"]} == {
        (name_id(name), name_id(target)) for name, entry in entries.items() for _, target in entry["relations"]
    }


BAD_FILES = {
    "a missing column": (
        "sat-definitions",
        "cui,name\nC1,x\n",
        r":1: no column 'definition' – the file has: 'cui', 'name'",
    ),
    "a column twice": ("sat-relations", "source,source,target,edge\n", r":1: two columns are called 'source'"),
    "an open quote": ("sat-definitions", 'cui,name,definition\nC1,x,"y\nC2,z,w\n', r":2: a quote that is not closed"),
    "text behind a quote": ("sat-definitions", 'cui,name,definition\nC1,"x"y,z\n', r":2: a quote that is not closed"),
    "too few fields": ("sat-relations", "source,target,edge\na,b,c\n\na,b\n", r":4: 2 fields, but the header has 3"),
    "an empty name": ("sat-relations", "source,target,edge\na,,isa\n", r":2: no source, target or edge"),
    "an empty cui": ("sat-definitions", "cui,name,definition\n,a,b\n", r":2: no cui or no name"),
    "an empty definition": ("sat-definitions", "cui,name,definition\nC1,a, \n", r":2: empty text"),
    "an edge without letters": ("sat-relations", "source,target,edge\na,b,→\n", r":2: .*→"),
    "nothing": ("sat-relations", "", r": the file is empty"),
    "JSON for CSV": ("sat-relations", '{"a": {}}', r":1: "),
    "Latin-1": ("sat-definitions", b"cui,name,definition\nC1,caf\xe9,x\n", r":2: not UTF-8"),
    "no JSON": ("sat-json", '{"a": {"relations": []},\n"b": {]', r":2: no JSON"),
    "a list": ("sat-json", "[]", r":1: an object is expected"),
    "an entry that is a text": ("sat-json", '{\n"a": "text"}', r":2: 'a' is str, not an object"),
    "an entry of another format": (
        "sat-json",
        '{"graphs": {"nodes": []}}',
        r":1: 'graphs' has none of cleaned_definition",
    ),
    "a relation of three": (
        "sat-json",
        '{"a": {"relations": [["x", "y", "z"]]}}',
        r":1: 'a': the relation .* is not \[edge, target\]",
    ),
    "a definition of numbers": (
        "sat-json",
        '{"a": {"cleaned_definition": [1]}}',
        r":1: 'a': 'cleaned_definition' is neither",
    ),
    "an entry twice": ("sat-json", '{"a": {"relations": []},\n"a": {"relations": []}}', r":2: 'a' stands twice"),
    "an entry without name": ("sat-json", '{" ": {"relations": []}}', r":1: an entry without a name"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_by_file_and_line(read, name):
    kind, text, message = BAD_FILES[name]
    with pytest.raises(InputError, match=rf"test\.txt{message}"):
        read(kind, text)


def test_keeping_going_leaves_out_bad_rows_and_nothing_else(read):
    rows = read("sat-relations", "source,target,edge\na,b\na,,isa\na,b,isa\n", keep_going=True)
    assert rows["relations"] == {("NAME:a", "is_a", "NAME:b")}
    assert len(rows["rejects"]) == 2
