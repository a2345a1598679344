from vesalius.corpus.batch import wholes
from vesalius.ids import ConceptId

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
