import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vesalius.folder import MANIFEST, sha256_of_folder
from vesalius.knowledge.components import components

KIDNEY = 'id: A:1\nname: kidney\nxref: B:7\ndef: "An organ." [PMID:1]'
REN = 'id: B:7\nname: ren\nsynonym: "nephros" RELATED []\ndef: "The filter of blood." []'


def test_concepts_that_xrefs_tie_become_one_under_the_earlier_source(bench):
    bench.obo("a", KIDNEY, "id: A:2\nname: urinary system")
    bench.obo("b", REN, "id: B:8\nname: renal pelvis\nrelationship: part_of B:7", "id: B:9\nname: body")
    built = bench.build()
    kidney = built.graph["A:1"]
    assert (kidney.name, kidney.source) == ("kidney", "a")
    assert {(s.text, str(s.scope), s.source) for s in kidney.synonyms} == {
        ("ren", "exact", "b"),
        ("nephros", "related", "b"),
    }
    assert {(d.text, d.source, d.references) for d in kidney.definitions} == {
        ("An organ.", "a", ("PMID:1",)),
        ("The filter of blood.", "b", ()),
    }
    assert "B:7" not in built.graph
    assert "B:7" in {xref.target for xref in kidney.xrefs}
    assert built.relations == {("B:8", "part_of", "A:1")}
    assert built.manifest["merged"]["tied_by_xref"] == 1


def test_a_target_that_both_name_ties_them_whatever_the_spelling_of_its_prefix(bench):
    bench.obo("a", "id: A:1\nname: kidney\nxref: SCTID:64033007")
    bench.obo("b", "id: B:1\nname: ren\nxref: SNOMEDCT_US:64033007")
    bench.obo("c", "id: C:1\nname: Niere\nxref: B:1")
    assert [concept.concept_id for concept in bench.build().graph] == ["A:1"]


def test_a_release_in_the_prefix_of_a_target_does_not_matter(bench):
    bench.obo("a", "id: A:1\nname: kidney\nxref: SNOMEDCT_US_2024_09_01:64033007")
    bench.obo("b", "id: B:1\nname: ren\nxref: SCTID:64033007", "id: B:2\nname: liver\nxref: X_2024_09_01:7")
    bench.obo("c", "id: C:1\nname: hepar\nxref: X:7", "id: C:2\nname: lien\nxref: X_2024_09:7")
    assert [concept.concept_id for concept in bench.build().graph] == ["A:1", "B:2", "C:2"]


def test_an_xref_claimed_by_two_of_one_source_ties_nothing_and_is_reported_with_its_place(bench):
    bench.obo("a", "id: A:1\nname: kidney\nxref: B:7", "id: A:2\nname: left kidney\nxref: B:7")
    bench.obo("b", REN)
    built = bench.build()
    assert len(built.graph) == 3
    assert built.conflicts == [("xref shared", "B:7", ["A:1", "A:2", "B:7"])]
    assert built.rows("conflicts", "file, line") == [("a.obo", 6)]


def test_a_chain_that_would_join_two_of_one_source_stays_apart_as_a_whole(bench):
    bench.obo(
        "a", "id: A:1\nname: kidney\nxref: B:1", "id: A:2\nname: ureter\nxref: D:5", "id: A:3\nname: liver\nxref: B:3"
    )
    bench.obo("b", "id: B:1\nname: ren\nxref: D:5", "id: B:3\nname: hepar")
    built = bench.build()
    assert {concept.concept_id for concept in built.graph} == {"A:1", "A:2", "A:3", "B:1"}
    assert {(kind, text) for kind, text, _ in built.conflicts} == {("xref chain", "B:1"), ("xref chain", "D:5")}


def test_pages_and_papers_tie_nothing(bench):
    bench.obo("a", "id: A:1\nname: kidney\nxref: Wikipedia:Kidney\nxref: PMID:1")
    bench.obo("b", "id: B:1\nname: renal capsule\nxref: Wikipedia:Kidney\nxref: PMID:1")
    built = bench.build()
    assert len(built.graph) == 2
    assert built.conflicts == []


def test_an_exact_name_ties_what_xrefs_left(bench):
    bench.obo("a", "id: A:1\nname: Urinary_Bladder")
    bench.obo("b", 'id: B:1\nname: bladder\nsynonym: "urinary bladder" EXACT []')
    built = bench.build()
    assert [concept.concept_id for concept in built.graph] == ["A:1"]
    assert built.manifest["merged"]["tied_by_name"] == 1


def test_names_beyond_ascii_tie_as_they_are_normalised_elsewhere(bench):
    bench.obo("a", "id: A:1\nname: ﬁbula Straße")
    bench.obo("b", "id: B:1\nname: FIBULA  STRAßE")
    assert len(bench.build().graph) == 1


def test_a_name_that_two_concepts_of_a_source_bear_ties_nothing(bench):
    bench.obo("a", "id: A:1\nname: neck")
    bench.obo(
        "b",
        'id: B:1\nname: neck of femur\nsynonym: "neck" EXACT []',
        'id: B:2\nname: neck of tooth\nsynonym: "neck" EXACT []',
    )
    built = bench.build()
    assert len(built.graph) == 3
    assert built.conflicts == [("name shared", "neck", ["A:1", "B:1", "B:2"])]


def test_an_abbreviation_that_none_prefers_ties_nothing(bench):
    bench.obo("a", 'id: A:1\nname: left ventricle\nsynonym: "LV" EXACT []')
    bench.obo("b", 'id: B:1\nname: lumbar vertebra\nsynonym: "LV" EXACT []')
    assert len(bench.build().graph) == 2


def test_a_related_name_ties_nothing(bench):
    bench.obo("a", "id: A:1\nname: kidney")
    bench.obo("b", 'id: B:1\nname: renal region\nsynonym: "kidney" RELATED []')
    assert len(bench.build().graph) == 2


def test_a_disease_and_a_structure_of_one_name_stay_two(bench):
    bench.obo("a", "id: UBERON:1\nname: iris")
    bench.obo("b", "id: MONDO:1\nname: iris")
    bench.obo("c", "id: X:1\nname: iris")
    built = bench.build()
    assert len(built.graph) == 3
    assert built.conflicts == [("name shared", "iris", ["MONDO:1", "UBERON:1", "X:1"])]


def test_the_same_id_in_two_sources_is_one_concept_and_repeats_fall_away(bench):
    bench.obo("a", 'id: A:1\nname: kidney\nsynonym: "ren" EXACT []\nis_a: A:2', "id: A:2\nname: organ")
    bench.obo("b", 'id: A:1\nname: Kidney\nsynonym: "ren" RELATED []\nis_a: A:2', "id: A:2\nname: organ")
    built = bench.build()
    assert {(s.text, str(s.scope), s.source) for s in built.graph["A:1"].synonyms} == {
        ("ren", "exact", "a"),
        ("Kidney", "exact", "b"),
    }
    assert [relation.source for relation in built.graph.relations] == ["a"]
    assert built.graph["A:1"].xrefs == ()


def test_a_vague_predicate_yields_to_one_that_says_which(bench):
    organ = "id: A:2\nname: organ"
    bench.obo("a", "id: A:1\nname: kidney\nrelationship: is_a_or_part_of A:2", organ)
    bench.obo("b", "id: A:1\nname: kidney\nis_a: A:2", organ)
    assert bench.build().relations == {("A:1", "is_a", "A:2")}


def test_a_relation_that_joining_makes_a_loop_falls_away(bench):
    bench.obo("a", "id: A:1\nname: kidney\nxref: B:7")
    bench.obo("b", REN, "id: B:9\nname: right ren\nxref: A:1\nrelationship: part_of B:7")
    built = bench.build()
    assert built.conflicts
    bench.sources.clear()
    bench.obo("c", "id: C:1\nname: kidney\nrelationship: adjacent_to B:7")
    bench.obo("b", REN + "\nxref: C:1")
    assert bench.build().relations == set()


def test_the_same_sources_give_the_same_bytes(bench):
    bench.obo("a", KIDNEY, "id: A:2\nname: urinary system")
    bench.obo("b", REN, "id: B:8\nname: renal pelvis\nrelationship: part_of B:7")
    first, second = (sha256_of_folder(bench.build().folder) for _ in range(2))
    assert first == second
    assert (bench.folder / "graph" / MANIFEST).is_file()


def test_an_excluded_licence_is_left_out_before_anything_is_merged(bench):
    bench.obo(
        "a",
        "id: A:1\nname: ren",
        "id: A:2\nname: liver\nis_obsolete: true",
        licence="Proprietary-terms",
        version="2026-01-01",
    )
    bench.obo("b", "id: A:1\nname: kidney", "id: A:2\nname: liver", licence="CC-BY-4.0", version="2020-01-01")
    built = bench.build(exclude_licences=("proprietary*",))
    assert {concept.name for concept in built.graph} == {"kidney", "liver"}
    assert [source["name"] for source in built.manifest["sources"]] == ["b"]
    assert [(source["name"], source["licence"]) for source in built.manifest["excluded"]] == [
        ("a", "Proprietary-terms")
    ]
    assert "ren" not in json.dumps([list(row) for row in built.rows("synonyms")])


@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=12))
def test_components_are_the_smallest_reachable_member(num, pairs):
    pairs = [(one % num, other % num) for one, other in pairs]
    reached = {item: {item} for item in range(num)}
    for _ in range(num):
        for one, other in pairs:
            reached[one] = reached[other] = reached[one] | reached[other]
    for item in range(num):
        for other in list(reached[item]):
            reached[item] |= reached[other]
    assert list(components(num, pairs)) == [min(reached[item]) for item in range(num)]


@pytest.mark.parametrize("weaker", ["BROAD", "NARROW", "RELATED"])
def test_of_a_synonym_that_one_source_states_twice_the_stronger_scope_stays(bench, weaker):
    bench.obo("a", f'id: A:1\nname: kidney\nsynonym: "ren" {weaker} []\nsynonym: "ren" EXACT []')
    built = bench.build()
    assert [(s.text, str(s.scope)) for s in built.graph["A:1"].synonyms] == [("ren", "exact")]
    assert [concept.concept_id for concept in built.graph.named("ren")] == ["A:1"]


def test_a_name_is_exact_however_early_the_same_source_states_it_weaker(bench):
    bench.obo("a", "id: A:1\nname: kidney\nxref: B:1")
    bench.obo("b", "id: B:0\nname: x", 'id: B:1\nname: ren\nsynonym: "ren" RELATED []')
    assert [(s.text, str(s.scope)) for s in bench.build().graph["A:1"].synonyms] == [("ren", "exact")]
