import json

import pytest

from vesalius.errors import InputError
from vesalius.knowledge.handbook.parse import parse_line


def test_an_entry_is_read_with_all_it_holds(line):
    entry = parse_line(
        line(
            "UBERON:0002107", "liver",
            latin=["hepar"], synonyms=[{"text": "hepatic organ", "scope": "related"}],
            spellings=[{"text": "Liver", "dataset": ["A/one", "B"], "scope": "broad"}],
            appearance={"ct": {"text": "Grey.", "density_hu": [25, 72]}}, size={"volume_ml": [850, 2400]},
            relations=[["is_a", "UBERON:0000062"]],
        ),
        where="a.jsonl:7",
    )  # fmt: skip
    assert (entry.concept_id, entry.name, entry.where) == ("UBERON:0002107", "liver", "a.jsonl:7")
    assert entry.body.appearance["ct"].density_hu == (25, 72)
    assert entry.body.spellings[0].datasets == ("A/one", "B")
    assert entry.body.relations == (("is_a", "UBERON:0000062"),)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"colour": "red"}, "colour is not a key"),
        ({"latin": []}, "latin is empty"),
        ({"latin": "hepar"}, "latin is str, not a list"),
        ({"latin": ["hepar", "hepar"]}, "holds 'hepar' twice"),
        ({"name": " liver"}, "white space"),
        ({"definition": "no sentence"}, "does not start with a capital"),
        ({"definition": "It measures 60 HU."}, "speaks of HU"),
        ({"region": "torso"}, "region is 'torso'"),
        ({"laterality": "middle"}, "laterality is 'middle'"),
        ({"number": -1}, "not a whole number"),
        ({"number": True}, "not a whole number"),
        ({"size": {"volume_ml": [2400, 850]}}, "not rising"),
        ({"size": {"volume_ml": [850, float("nan")]}}, "not rising"),
        ({"size": {"volume_ml": [850, float("inf")]}}, "not rising"),
        ({"size": {"volume_l": [1, 2]}}, "not a key"),
        ({"size": {"volume_ml": 850}}, "not two numbers"),
        ({"appearance": {"ct": {"density_hu": [-2000, 0]}}}, "outside -1100"),
        ({"appearance": {"mr": {"density_hu": [0, 1]}}}, "not a key"),
        ({"synonyms": [{"text": "x", "scope": "near"}]}, "scope is 'near'"),
        ({"spellings": [{"text": "x"}]}, "dataset is missing"),
        ({"relations": [["touches", "UBERON:0000062"]]}, "known: is_a"),
        ({"relations": [["mirror_of", "UBERON:0000062"]]}, "known: is_a"),
        ({"relations": [["{side}_of", "UBERON:0000062"]]}, "known: is_a"),
        ({"relations": [["is_a", "the liver"]]}, "not a target"),
        ({"relations": [["is_a"]]}, r"not \[predicate, target\]"),
        ({"parent": "UBERON:0000062"}, "parent belongs to every VES"),
        ({"words": {"a b": "x"}}, "no placeholder"),
        ({"sides": {"middle": {}}}, "middle is not a key"),
        ({"series": {"kind": "rib", "template": {"name": "rib {number}"}, "members": []}}, "members is empty"),
        (
            {"series": {"kind": "rib", "template": {"name": "rib", "definition": "A."}, "members": [{"number": 2}, {"number": 1}]}},
            "do not rise",
        ),
        ({"reviewed": {"references": ["a book"]}}, "read is missing"),
        ({"since": "first"}, "not a version"),
    ],
)  # fmt: skip
def test_what_breaks_the_schema_is_refused_with_its_line_and_key(line, more, complaint):
    with pytest.raises(InputError, match=complaint) as refused:
        parse_line(line("UBERON:0002107", **{"name": "liver", **more}), where="a.jsonl:7")
    assert str(refused.value).startswith("a.jsonl:7: ")


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '"liver"', "{}", "null", '{"name": "a", "name": "b"}'])
def test_what_is_no_entry_is_refused(text):
    with pytest.raises(InputError, match=r"a\.jsonl:7"):
        parse_line(text, where="a.jsonl:7")


def test_keys_out_of_order_are_refused(line):
    entry = json.loads(line("UBERON:0002107", "liver"))
    swapped = json.dumps({"name": entry.pop("name"), **entry})
    with pytest.raises(InputError, match="another order"):
        parse_line(swapped, where="a.jsonl:7")


def test_a_concept_of_our_own_needs_a_parent(line):
    entry = json.loads(line("VES:liver", "liver"))
    del entry["parent"]
    with pytest.raises(InputError, match="parent belongs to every VES"):
        parse_line(json.dumps(entry), where="a.jsonl:7")
