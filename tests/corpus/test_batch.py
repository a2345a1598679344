import random

from vesalius.corpus.batch import also_answering, relatives, same, wholes
from vesalius.corpus.pairs import OpenRelation, TextPair, text_pairs
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


def _concepts(num):
    return [ConceptId(f"UBERON:{number:07d}") for number in range(num)]


def test_equal_items_and_relatives_are_found_wherever_they_stand():
    rng = random.Random(0)
    known = _concepts(12)
    above = {concept: {other for other in known[:place] if rng.random() < 0.3} for place, concept in enumerate(known)}
    drawn = rng.choices(known, k=30)
    related = relatives(drawn, ancestors=above.__getitem__)
    assert related.tolist() == [[a in above[b] or b in above[a] for b in drawn] for a in drawn]
    assert related.any()
    assert same(drawn).tolist() == [[a == b for b in drawn] for a in drawn]
    assert relatives([], ancestors=above.__getitem__).shape == same([]).shape == (0, 0)


def test_what_also_answers_a_relation_is_found_wherever_it_stands():
    rng = random.Random(1)
    known = _concepts(12)
    above = {concept: {other for other in known[:place] if rng.random() < 0.3} for place, concept in enumerate(known)}
    filling = {concept: {other for other in known if rng.random() < 0.2} for concept in known}
    pairs = []
    for concept in rng.choices(known, k=30):
        named = rng.choice(known)
        relation = OpenRelation(predicate="part_of", named=named, asked="subject") if rng.random() < 0.5 else None
        pairs.append(TextPair(concept_id=concept, kind="relation", text="", name="", relation=relation))

    def fillers(relation, *, among):
        return filling[relation.named] & set(among)

    def answers(pair, other):
        if pair.relation is None:
            return False
        named = pair.relation.named
        return other in filling[named] | above[named] | {named} or named in above[other]

    found = also_answering(pairs, ancestors=above.__getitem__, fillers=fillers)
    assert found.tolist() == [[answers(pair, other.concept_id) for other in pairs] for pair in pairs]
    assert found.any()
