import pytest

from vesalius.errors import InputError
from vesalius.ids import ConceptId


def kidney(line, **more):
    sides = {"left": {"concept_id": "UBERON:0004538"}, **more.pop("sides", {})}
    return line("UBERON:0002113", "kidney", sides=sides, **more)


def relations(handbook, concept):
    return {(predicate, str(target)) for predicate, target in handbook[ConceptId(concept)].relations}


def test_what_is_paired_is_written_once_and_stands_three_times(handbook, line):
    book = handbook(kidney(line, synonyms=[{"text": "ren", "scope": "exact"}], size={"volume_ml": [90, 260]}))
    left, right = book[ConceptId("UBERON:0004538")], book[ConceptId("VES:right-kidney")]
    assert (left.name, right.name) == ("left kidney", "right kidney")
    assert (left.laterality, right.laterality) == ("left", "right")
    assert left.definition == "The kidney of the patient's left side. What is called kidney."
    assert [synonym.text for synonym in left.body.synonyms] == ["left ren"]
    assert left.size == right.size == {"volume_ml": (90, 260)}
    assert left.parent == "UBERON:0002113"


def test_the_sides_mirror_each_other_and_the_left_one_is_on_the_left(handbook, line):
    book = handbook(kidney(line))
    left, right = "UBERON:0004538", "VES:right-kidney"
    assert relations(book, left) == {("is_a", "UBERON:0002113"), ("mirror_of", right), ("left_of", right)}
    assert relations(book, right) == {("is_a", "UBERON:0002113"), ("mirror_of", left)}


def test_a_side_speaks_of_the_same_side_of_what_is_paired(handbook, line):
    adrenal = line("UBERON:0002369", "adrenal gland", sides={})
    book = handbook(kidney(line, relations=[["inferior_to", "UBERON:0002369"]]), adrenal)
    assert ("superior_to", "UBERON:0004538") in relations(book, "VES:left-adrenal-gland")
    assert ("superior_to", "VES:right-kidney") in relations(book, "VES:right-adrenal-gland")
    assert ("superior_to", "UBERON:0002113") in relations(book, "UBERON:0002369")


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("UBERON:0002369@other", "VES:right-adrenal-gland"),
        ("UBERON:0002369@left", "VES:left-adrenal-gland"),
        ("UBERON:0002369@unsided", "UBERON:0002369"),
    ],
)
def test_a_target_may_name_its_side(handbook, line, target, meant):
    adrenal = line("UBERON:0002369", "adrenal gland", sides={})
    book = handbook(kidney(line, sides={"left": {"relations": [["anterior_to", target]]}}), adrenal)
    assert ("anterior_to", meant) in relations(book, "VES:left-kidney")


def test_lateral_and_medial_of_the_midline_are_left_and_right(handbook, line):
    spine, muscle = line("UBERON:0001130", "spine"), line("UBERON:0001298", "psoas", sides={})
    told = [["{side}_of", "UBERON:0001130"], ["{other_side}_of", "UBERON:0002113"]]
    book = handbook(spine, kidney(line), line("UBERON:0001298", "psoas", sides={"relations": told}))
    assert muscle
    assert ("left_of", "UBERON:0001130") in relations(book, "VES:left-psoas")
    assert ("left_of", "VES:right-psoas") in relations(book, "UBERON:0001130")
    assert ("left_of", "VES:left-psoas") in relations(book, "UBERON:0004538")
    assert ("left_of", "VES:right-kidney") in relations(book, "VES:right-psoas")


def vertebrae(line, **more):
    members = [{"number": n, "words": {"special": f"It is {{ordinal}} and {n}."}} for n in (1, 2, 3)]
    series = {
        "kind": "vertebra", "axis": "inferior", "before": "UBERON:0004616",
        "template": {
            "name": "thoracic vertebra {number}", "abbreviations": ["T{number}"],
            "definition": "The {ordinal} ({roman}), below {previous}. {special}",
            "relations": [["adjacent_to", "{next}"]],
        },
        "members": members, **more,
    }  # fmt: skip
    return line("UBERON:0002347", "thoracic vertebra", series=series)


def test_a_series_is_made_of_a_template(handbook, line):
    book = handbook(vertebrae(line), line("UBERON:0004616", "last neck vertebra"))
    assert [book[concept].number for concept in book.members_of(ConceptId("UBERON:0002347")).values()] == [1, 2, 3]
    second = book[ConceptId("VES:thoracic-vertebra-2")]
    assert second.definition == "The second (II), below thoracic vertebra 1. It is second and 2."
    assert book[ConceptId("VES:thoracic-vertebra-1")].definition.startswith("The first (I), below last neck vertebra.")
    assert relations(book, second.concept_id) == {
        ("is_a", "UBERON:0002347"), ("next_in_series", "VES:thoracic-vertebra-3"),
        ("superior_to", "VES:thoracic-vertebra-3"), ("adjacent_to", "VES:thoracic-vertebra-3"),
    }  # fmt: skip
    assert relations(book, "VES:thoracic-vertebra-3") == {("is_a", "UBERON:0002347")}


def test_a_member_may_be_paired(handbook, line):
    template = {
        "name": "rib {number}",
        "definition": "A {ordinal} rib.",
        "sides": {"definition": "A {side} {ordinal} rib."},
    }
    series = {"kind": "rib", "axis": "inferior", "template": template, "members": [{"number": 1}, {"number": 2}]}
    book = handbook(line("UBERON:0002228", "rib", sides={}, series=series))
    assert book[ConceptId("VES:left-rib-2")].definition == "A left second rib."
    assert relations(book, "VES:left-rib-1") == {
        ("is_a", "VES:rib-1"), ("is_a", "VES:left-rib"), ("mirror_of", "VES:right-rib-1"), ("left_of", "VES:right-rib-1"),
        ("next_in_series", "VES:left-rib-2"), ("superior_to", "VES:left-rib-2"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([("UBERON:1", {"relations": [["is_a", "UBERON:2"]]})], "UBERON:2 is no entry"),
        ([("UBERON:1", {}), ("UBERON:1", {})], "UBERON:1 is made here and at"),
        ([("UBERON:1", {"definition": "An {odd} one."})], r"nothing stands for the placeholder \{odd\}"),
        ([("UBERON:1", {"relations": [["is_a", "UBERON:0000062#4"]]})], "has no member 4"),
        ([("UBERON:1", {"relations": [["is_a", "UBERON:0000062@left"]]})], "has no sides"),
        ([("UBERON:1", {"relations": [["is_a", "UBERON:0000062@other"]]})], "the subject has no side"),
    ],
)
def test_what_cannot_be_made_is_refused_with_its_line(handbook, line, entries, complaint):
    with pytest.raises(InputError, match=complaint) as refused:
        handbook(*(line(concept, f"name {n}", **more) for n, (concept, more) in enumerate(entries)))
    assert str(refused.value).startswith("a.jsonl:")


def test_whoever_notes_faults_gets_the_rest(handbook, line):
    noted = []
    book = handbook(
        line("UBERON:1", "one", relations=[["is_a", "UBERON:2"], ["part_of", "UBERON:0000062"]]), refuse=noted.append
    )
    assert [error.where for error in noted] == ["a.jsonl:2"]
    assert relations(book, "UBERON:1") == {("part_of", "UBERON:0000062")}


def test_the_side_of_a_member_takes_its_id_from_a_word(handbook, line):
    series = {
        "kind": "tooth",
        "template": {
            "name": "tooth {number}",
            "definition": "Tooth {number}.",
            "sides": {"left": {"concept_id": "UBERON:{left_id}"}},
        },
        "members": [{"number": 1, "words": {"left_id": "8490033"}}, {"number": 2, "words": {"left_id": "8490032"}}],
    }
    book = handbook(line("UBERON:1", "tooth", series=series))
    assert book["UBERON:8490033"].name == "left tooth 1"
    assert book["UBERON:8490032"].name == "left tooth 2"
    assert book["VES:right-tooth-2"].laterality == "right"
