from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Scope


def test_it_makes_a_graph_of_its_own(handbook_graph):
    assert len(handbook_graph) > 1500
    (origin,) = handbook_graph.origins
    assert (origin.name, origin.licence, origin.attribution) == ("handbook", "CC-BY-4.0", "The Vesalius handbook")
    assert {"abdomen.jsonl", "brain.jsonl", "thorax.jsonl"} <= set(origin.sha256)


def test_names_texts_and_relations_arrive(handbook_graph):
    left = handbook_graph[ConceptId("UBERON:0004538")]
    assert left.name == "left kidney"
    assert len(left.definitions) >= 3
    said = {(relation.predicate, relation.object) for relation in handbook_graph.relations_of(left.concept_id)}
    assert {("is_a", "UBERON:0002113"), ("mirror_of", "UBERON:0004539"), ("adjacent_to", "UBERON:0002106")} <= said
    liver = handbook_graph[ConceptId("UBERON:0002107")]
    assert ("hepar", Scope.EXACT) in {(synonym.text, synonym.scope) for synonym in liver.synonyms}


def test_both_directions_of_a_relation_are_told(handbook_graph):
    opposites = {
        "left_of": "right_of",
        "superior_to": "inferior_to",
        "anterior_to": "posterior_to",
        "adjacent_to": "adjacent_to",
    }
    told = {(relation.subject, relation.predicate, relation.object) for relation in handbook_graph.relations}
    kept = [triple for triple in told if triple[1] in opposites]
    assert kept
    assert all((target, opposites[predicate], subject) in told for subject, predicate, target in kept)


def test_only_is_a_and_part_of_stand_above(handbook_graph):
    kidney = ConceptId("UBERON:0004538")
    assert ConceptId("UBERON:0002106") not in handbook_graph.ancestors(kidney)
    assert ConceptId("UBERON:0002113") in handbook_graph.ancestors(kidney)
