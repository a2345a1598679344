import json

import pytest

from vesalius.errors import InputError
from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Concept, Relation, Scope, Synonym
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.handbook.check import (
    check_against,
    check_ids,
    check_names,
    check_places,
    check_relations,
    check_wording,
    find_circle,
    read_all,
    read_decisions,
)
from vesalius.knowledge.handbook.files import read_entries, tidy
from vesalius.knowledge.predicates import IS_A_OR_PART_OF


def told(problems):
    return [problem.what for problem in problems]


def ontology(*concepts, relations=()):
    return Graph(
        [
            Concept(
                concept_id=ConceptId(concept), name=name, source="uberon",
                synonyms=tuple(Synonym(text=text, scope=Scope.EXACT, source="uberon") for text in synonyms),
            )
            for concept, name, *synonyms in concepts
        ],
        [
            Relation(subject=ConceptId(a), predicate=IS_A_OR_PART_OF, object=ConceptId(b), source="uberon")
            for a, b in relations
        ],
    )  # fmt: skip


def test_a_sound_handbook_has_no_problem(handbook, line):
    book = handbook(line("UBERON:1", "kidney", sides={}, relations=[["is_a", "UBERON:0000062"]]))
    assert told([*check_names(book), *check_relations(book)]) == []


@pytest.mark.parametrize("predicate", ["superior_to", "left_of", "anterior_to", "part_of", "is_a"])
def test_relations_that_run_in_a_circle_are_found(handbook, line, predicate):
    book = handbook(
        line("UBERON:1", "a", relations=[[predicate, "UBERON:2"]]),
        line("UBERON:2", "b", relations=[[predicate, "UBERON:3"]]),
        line("UBERON:3", "c", relations=[[predicate, "UBERON:1"]]),
    )
    assert told(check_relations(book)) == [f"a circle: a {predicate} b {predicate} c {predicate} a"]


def test_a_relation_and_its_opposite_are_a_circle(handbook, line):
    book = handbook(
        line("UBERON:1", "a", relations=[["superior_to", "UBERON:2"]]),
        line("UBERON:2", "b", relations=[["superior_to", "UBERON:1"]]),
    )
    assert told(check_relations(book)) == ["a circle: a superior_to b superior_to a"]
    agreeing = handbook(
        line("UBERON:1", "a", relations=[["superior_to", "UBERON:2"]]),
        line("UBERON:2", "b", relations=[["inferior_to", "UBERON:1"]]),
    )
    assert told(check_relations(agreeing)) == []


def test_circles_are_found_in_large_graphs_and_only_there():
    chain = {ConceptId(f"X:{n}"): [ConceptId(f"X:{n + 1}")] for n in range(5000)}
    assert find_circle(chain) == []
    assert len(find_circle({**chain, ConceptId("X:5000"): [ConceptId("X:10")]})) == 4992


def test_sides_of_different_measures_do_not_mirror_each_other(handbook, line):
    book = handbook(line("UBERON:1", "kidney", sides={"left": {"size": {"volume_ml": [90, 260]}}}))
    assert "left kidney and right kidney do not mirror each other" in told(check_relations(book))


def test_a_name_that_two_concepts_prefer_is_found(handbook, line):
    assert told(check_names(handbook(line("UBERON:1", "Kidney"), line("UBERON:2", "kidney")))) == [
        "UBERON:1, UBERON:2 all prefer the name 'kidney'"
    ]


def test_an_id_of_no_ontology_and_a_text_that_is_no_sentence_are_found(handbook, line):
    book = handbook(
        line("FMA:7203", "kidney"), line("UBERON:1", "a", definition="{word}", words={"word": "no sentence"})
    )
    assert told(check_names(book)) == [
        "FMA:7203 is an id of none of VES, UBERON, MONDO",
        "UBERON:1: no sentence: 'no sentence'",
    ]


def test_what_an_ontology_says_otherwise_is_found_unless_decided(handbook, line):
    book = handbook(
        line("UBERON:1", "kidney", relations=[["part_of", "UBERON:3"]]),
        line("UBERON:2", "gone"),
        line("UBERON:3", "belly", synonyms=[{"text": "abdomen", "scope": "exact"}]),
    )
    theirs = ontology(("UBERON:1", "spleen"), ("UBERON:3", "Abdomen"), ("UBERON:0000062", "organ"))
    assert told(check_against(book, theirs, {})) == [
        "UBERON:1 (kidney) is called 'spleen' there: make it a synonym or mend the id",
        "UBERON:1 (kidney) part_of UBERON:3 (belly): not so there",
        "UBERON:2 (gone) is no live concept",
    ]
    decided = {("UBERON:1", "name", "spleen"): "why", ("UBERON:1", "part_of", "UBERON:3"): "why"}
    assert told(check_against(book, theirs, decided)) == ["UBERON:2 (gone) is no live concept"]
    agreeing = ontology(
        ("UBERON:1", "kidney"), ("UBERON:2", "gone"), ("UBERON:3", "abdomen"), ("UBERON:4", "x"), ("UBERON:0000062", "organ"),
        relations=[("UBERON:1", "UBERON:4"), ("UBERON:4", "UBERON:3")],
    )  # fmt: skip
    assert told(check_against(book, agreeing, {})) == []


def test_an_id_that_an_ontology_has_is_asked_for(handbook, line):
    book = handbook(line("VES:kidney", "kidney"))
    theirs = ontology(("UBERON:1", "ren", "kidney"))
    assert told(check_ids(book, theirs, {})) == ["VES:kidney, 'kidney', is UBERON:1 (ren) there: take that id"]
    assert told(check_ids(book, theirs, {("VES:kidney", "name", "ren"): "why"})) == []
    assert told(check_ids(book, ontology(("UBERON:1", "a", "kidney"), ("UBERON:2", "b", "kidney")), {})) == []


def test_an_id_is_asked_for_by_exact_synonyms_and_latin_too_but_not_by_others(handbook, line):
    theirs = ontology(("UBERON:1", "bulb of aorta", "aortic root"), ("UBERON:2", "neural spine", "processus spinosus"))
    exact = line("VES:root", "root of the aorta", synonyms=[{"text": "aortic root", "scope": "exact"}])
    latin = line("VES:spine", "spinous process", latin=["processus spinosus"])
    assert told(check_ids(handbook(exact, latin), theirs, {})) == [
        "VES:root, 'aortic root', is UBERON:1 (bulb of aorta) there: take that id",
        "VES:spine, 'processus spinosus', is UBERON:2 (neural spine) there: take that id",
    ]
    related = line("VES:root", "root of the aorta", synonyms=[{"text": "aortic root", "scope": "related"}])
    assert told(check_ids(handbook(related), theirs, {})) == []
    taken = line("UBERON:1", "root")
    assert told(check_ids(handbook(exact, taken), theirs, {})) == []


def test_what_an_ontology_has_inside_a_thing_does_not_lie_beside_it(handbook, line):
    theirs = ontology(("UBERON:1", "thigh"), ("UBERON:2", "leg"), relations=[("UBERON:1", "UBERON:2")])
    thigh, leg = line("UBERON:1", "thigh", relations=[["superior_to", "UBERON:2"]]), line("UBERON:2", "lower leg")
    assert told(check_places(handbook(thigh, leg), theirs, {})) == [
        "thigh superior_to lower leg, but UBERON:1 (thigh) is in UBERON:2 (lower leg) there: mend an id or the place"
    ]
    assert told(check_places(handbook(thigh, leg), theirs, {("UBERON:1", "superior_to", "UBERON:2"): "why"})) == []
    inside = line("UBERON:1", "auricle", relations=[["part_of", "UBERON:2"], ["superior_to", "UBERON:2"]])
    assert told(check_places(handbook(inside, leg), theirs, {})) == []


def test_eight_words_in_a_row_of_another_work_are_found(handbook, line):
    ours = line("UBERON:1", "a", definition="One, two three four FIVE six seven eight, and more.")
    eight, seven = "Says one two three four five six seven eight.", "Says one two three four five six seven and eight."
    assert [what for what in told(check_wording(handbook(ours), [("theirs", eight)])) if "theirs" in what]
    assert told(check_wording(handbook(ours), [("theirs", seven)])) == []


def test_every_fault_of_a_folder_is_told_with_its_line(line, tmp_path):
    lines = [line("UBERON:2", "b"), "{", line("UBERON:1", "a", relations=[["is_a", "UBERON:9"]])]
    (tmp_path / "x.jsonl").write_text("\n".join(lines) + "\n")
    book, problems = read_all(tmp_path)
    assert len(book) == 2
    assert [problem.where for problem in problems] == ["x.jsonl:2", "x.jsonl:3", "x.jsonl:3"]
    assert "stands after UBERON:2" in problems[1].what
    assert "UBERON:9 is no entry" in problems[2].what


def test_a_folder_without_a_handbook_is_refused(tmp_path):
    with pytest.raises(InputError, match="no file of the handbook"):
        read_all(tmp_path)
    (tmp_path / "x.jsonl").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        read_all(tmp_path)


def test_tidying_sorts_and_orders_and_changes_nothing_twice(line, tmp_path):
    shuffled = json.loads(line("UBERON:2", "b", latin=["b"]))
    shuffled = {
        "since": shuffled.pop("since"),
        "synonyms": [],
        **shuffled,
        "sides": {"right": {}, "definition": "A {side} one."},
    }
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(shuffled) + "\n\n" + line("UBERON:1", "ä") + "\n", encoding="utf-8")
    assert tidy(path)
    assert not tidy(path)
    assert [entry.name for entry in read_entries(tmp_path)] == ["ä", "b"]
    assert read_all(tmp_path)[1] == []


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, '{"name": "x"}'])
def test_tidying_leaves_what_is_no_entry_alone(tmp_path, text):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.jsonl:1"):
        tidy(path)
    assert path.read_text() == text


def test_a_decision_without_a_reason_is_refused(tmp_path):
    path = tmp_path / "decisions.tsv"
    path.write_text("subject\tpredicate\tobject\tdecision\nUBERON:1\tis_a\tUBERON:2\t\n")
    with pytest.raises(InputError, match=r"decisions\.tsv:2"):
        read_decisions(path)
