from vesalius.ids import ConceptId, ResolvedLabel
from vesalius.knowledge.concept import Concept, Relation
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.predicates import IS_A_OR_PART_OF
from vesalius.knowledge.wholes import Wholes

NAMES = {"T:1": "kidney", "T:2": "left kidney", "T:3": "right kidney", "T:4": "area 4", "T:5": "left lung"}


def tied(concept, laterality=None):
    name = NAMES.get(concept, "x")
    said = f"{laterality} {name}" if laterality else name
    return ResolvedLabel(concept_id=ConceptId(concept), laterality=laterality, name=said, tied_by="name")


def wholes(relations=(("T:2", "T:1"), ("T:3", "T:1"))):
    concepts = [Concept(concept_id=ConceptId(one), name=name, source="t") for one, name in NAMES.items()]
    related = [
        Relation(subject=ConceptId(a), predicate=IS_A_OR_PART_OF, object=ConceptId(b), source="t") for a, b in relations
    ]
    return Wholes(Graph(concepts, related))


def test_two_concepts_of_one_side_each_make_the_ancestor_that_bears_their_name():
    (one,) = wholes()([tied("T:3"), tied("T:2")])
    assert (one.whole.concept_id, one.whole.name, one.whole.tied_by) == ("T:1", "kidney", "parts")
    assert [part.concept_id for part in one.parts] == ["T:2", "T:3"]


def test_one_concept_on_both_sides_makes_the_concept():
    (one,) = wholes()([tied("T:4", "left"), tied("T:4", "right")])
    assert (one.whole.concept_id, one.whole.laterality, one.whole.name) == ("T:4", None, "area 4")
    assert [part.laterality for part in one.parts] == ["left", "right"]


def test_nothing_is_made_of_one_side_of_unknown_concepts_or_without_the_graphs_word():
    assert wholes()([tied("T:2"), tied("T:4", "left")]) == []
    assert wholes()([tied("LABEL:x", "left"), tied("LABEL:x", "right")]) == []
    assert wholes(relations=())([tied("T:2"), tied("T:3")]) == []
    assert wholes()([tied("T:5"), tied("T:3")]) == []
    assert wholes()([]) == []


def test_a_whole_that_labels_name_differently_is_made_once():
    one = tied("T:4", "left")
    other = ResolvedLabel(concept_id=one.concept_id, laterality="right", name="right fourth area", tied_by="synonym")
    (made,) = wholes()([one, other])
    assert (made.whole.key, made.whole.name, made.parts) == ("T:4", "area 4", (one, other))
    both = wholes(relations=(("T:2", "T:1"), ("T:3", "T:1")))([tied("T:1", "left"), tied("T:3"), tied("T:1", "right")])
    assert [one.whole.key for one in both] == ["T:1"]
