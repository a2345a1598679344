from vesalius.corpus.batch import wholes
from vesalius.corpus.pairs import text_pairs
from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Concept, Definition, Scope, Synonym
from vesalius.knowledge.graph import Graph

KIDNEY, LIVER = ConceptId("UBERON:0002113"), ConceptId("UBERON:0002107")


def test_a_whole_and_its_side_are_neither_positive_nor_negative_and_two_sides_are_negatives():
    keys = [KIDNEY, f"{KIDNEY}/left", f"{KIDNEY}/right", LIVER]
    found = wholes([KIDNEY, KIDNEY, KIDNEY, LIVER], keys)
    assert found.tolist() == [
        [False, True, True, False],
        [True, False, False, False],
        [True, False, False, False],
        [False, False, False, False],
    ]


def test_texts_of_a_source_are_taken_whoever_gives_the_name():
    concept = Concept(
        concept_id=LIVER,
        name="liver",
        source="uberon",
        synonyms=(Synonym(text="hepar", scope=Scope.EXACT, source="handbook"),),
        definitions=(
            Definition(text="A gland.", source="uberon"),
            Definition(text="The largest gland.", source="handbook"),
        ),
    )
    found = text_pairs(Graph([concept], []), concepts={LIVER}, sources=("handbook",))
    assert [pair.text for pairs in found.values() for pair in pairs] == ["The largest gland.", "hepar"]
