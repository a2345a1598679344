import hashlib
from collections import Counter

import numpy as np
import pytest
import torch

from vesalius.corpus.batch import text_batch
from vesalius.corpus.pairs import OpenRelation, RelationPairs, TextPair, graph_fillers, text_pairs
from vesalius.corpus.sampling import PairSampler
from vesalius.errors import SettingError
from vesalius.folder import Origin
from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Concept, Relation, Scope, Synonym
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.predicates import Predicate

NAMES = ("urinary system", "left kidney", "right kidney", "nephron", "liver", "spleen", "thorax", "diaphragm")
ID = {name: ConceptId(f"X:{place}") for place, name in enumerate(NAMES)}
RELATIONS = (
    ("left kidney", "part_of", "urinary system"),
    ("right kidney", "part_of", "urinary system"),
    ("nephron", "part_of", "left kidney"),
    ("liver", "adjacent_to", "diaphragm"),
    ("spleen", "adjacent_to", "diaphragm"),
    ("diaphragm", "part_of", "thorax"),
)


@pytest.fixture
def body() -> Graph:
    """Eight structures; two kidneys share what they are part of, two organs what they lie beside."""
    concepts = [
        Concept(
            concept_id=ID[name],
            name=name.title(),
            source="x",
            synonyms=(
                Synonym(text=f"{name} exactly", scope=Scope.EXACT, source="x"),
                Synonym(text=f"{name} roughly", scope=Scope.RELATED, source="x"),
                Synonym(text=f"{name} and more", scope=Scope.BROAD, source="x"),
                Synonym(text=f"{name} in part", scope=Scope.NARROW, source="x"),
            ),
        )
        for name in NAMES
    ]
    relations = [
        Relation(subject=ID[subject], predicate=Predicate(predicate), object=ID[object_], source="x")
        for subject, predicate, object_ in RELATIONS
    ]
    return Graph(concepts, relations, [Origin(name="x", version="1", licence="CC0-1.0", attribution="tests")])


def asking(predicate, named, asked, answer):
    """A pair whose text leaves one end of a relation open."""
    relation = OpenRelation(predicate=predicate, named=ID[named], asked=asked)
    text = f"{predicate} {named} {asked}"
    return TextPair(concept_id=ID[answer], kind="relation", text=text, name=answer, relation=relation)


def test_a_relation_pair_is_answered_by_the_end_it_leaves_open(body):
    pairs = RelationPairs(body, concepts=set(ID.values()))
    rng = np.random.default_rng(0)
    held = {(subject, predicate, object_) for subject, predicate, object_ in RELATIONS}
    name_of = {identifier: name for name, identifier in ID.items()}
    for concept in pairs.concepts():
        for _ in range(12):
            pair = pairs.draw(concept, rng)
            own, named = name_of[concept], name_of[pair.relation.named]
            ends = (own, named) if pair.relation.asked == "subject" else (named, own)
            assert (ends[0], pair.relation.predicate, ends[1]) in held
            assert pair.name == own
            assert named in pair.text.lower()


def test_the_two_published_templates_are_drawn_equally_often_and_word_for_word(body):
    pairs = RelationPairs(body, concepts=set(ID.values()), forms=["published"])
    rng = np.random.default_rng(1)
    texts = Counter(pairs.draw(ID["left kidney"], rng).text for _ in range(4000))
    assert set(texts) == {"part of urinary system", "nephron part of"}
    assert abs(texts["nephron part of"] - 2000) < 4.5 * np.sqrt(1000)


def test_a_relation_to_a_held_out_concept_is_never_said(body):
    kept = {ID[name] for name in NAMES if name not in ("left kidney", "diaphragm")}
    pairs = RelationPairs(body, concepts=kept)
    assert set(pairs.concepts()) == {ID["right kidney"], ID["urinary system"]}
    assert pairs.num_relations == 1
    sampler = PairSampler(text_pairs(body, concepts=kept), batch_size=6, relations=pairs, relation_share=0.9, seed=2)
    for _ in range(30):
        for pair in sampler.draw():
            assert "left kidney" not in pair.text.lower()
            assert "diaphragm" not in pair.text.lower()
            assert {pair.concept_id} | ({pair.relation.named} if pair.relation else set()) <= kept


def test_only_exact_synonyms_are_equals(body):
    texts = [pair.text for pair in text_pairs(body, concepts=set(ID.values()))["synonym"]]
    assert texts == [f"{name} exactly" for name in NAMES]


def test_other_fillers_of_a_relation_are_masked_and_the_rest_are_negatives(body):
    pairs = [
        asking("part_of", "urinary system", "subject", "left kidney"),
        TextPair(concept_id=ID["right kidney"], kind="synonym", text="r", name="right kidney"),
        TextPair(concept_id=ID["urinary system"], kind="synonym", text="u", name="urinary system"),
        TextPair(concept_id=ID["nephron"], kind="synonym", text="n", name="nephron"),
        asking("adjacent_to", "diaphragm", "subject", "spleen"),
        TextPair(concept_id=ID["liver"], kind="synonym", text="l", name="liver"),
        TextPair(concept_id=ID["thorax"], kind="synonym", text="t", name="thorax"),
    ]
    batch = text_batch(pairs, ancestors=body.ancestors, fillers=graph_fillers(body))
    assert torch.equal(batch.positives, torch.eye(7, dtype=torch.bool))
    # "part of the urinary system": right kidney fills it too, the system is named, the nephron is part of a part of it.
    assert batch.ignored[0].tolist() == [False, True, True, True, False, False, False]
    # "adjacent to the diaphragm": the liver is, too; the thorax is above what is named; kidneys are wrong.
    assert batch.ignored[4].tolist() == [False, False, False, False, False, True, True]
    assert not (batch.ignored & batch.positives).any()


def test_the_object_of_a_relation_is_asked_for_and_masked_the_other_way_round(body):
    pairs = [
        asking("part_of", "nephron", "object", "left kidney"),
        TextPair(concept_id=ID["urinary system"], kind="synonym", text="u", name="urinary system"),
        TextPair(concept_id=ID["nephron"], kind="synonym", text="n", name="nephron"),
        TextPair(concept_id=ID["right kidney"], kind="synonym", text="r", name="right kidney"),
    ]
    batch = text_batch(pairs, ancestors=body.ancestors, fillers=graph_fillers(body))
    assert batch.ignored[0].tolist() == [False, True, True, False]


def test_a_synonym_and_a_relation_that_one_concept_answers_are_positives(body):
    pairs = [
        asking("part_of", "urinary system", "subject", "left kidney"),
        TextPair(concept_id=ID["left kidney"], kind="synonym", text="l", name="left kidney"),
    ]
    batch = text_batch(pairs, ancestors=body.ancestors, fillers=graph_fillers(body))
    assert batch.positives.all()
    assert not batch.ignored.any()


def test_relations_without_what_fills_them_are_a_defect(body):
    with pytest.raises(AssertionError, match="what else answers"):
        text_batch([asking("part_of", "thorax", "subject", "diaphragm")], ancestors=body.ancestors)


def test_relations_come_in_their_share(body):
    everything = set(ID.values())
    sampler = PairSampler(
        text_pairs(body, concepts=everything),
        batch_size=8,
        relations=RelationPairs(body, concepts=everything),
        relation_share=0.25,
    )
    drawn = [pair.kind for _ in range(500) for pair in sampler.draw()]
    assert abs(drawn.count("relation") - 1000) < 4.5 * np.sqrt(4000 * 0.25 * 0.75)
    with pytest.raises(SettingError, match=r"relation_share is 2\.0"):
        PairSampler({}, batch_size=1, relations=RelationPairs(body, concepts=everything), relation_share=2.0)


def test_without_relations_the_same_seed_draws_what_it_always_drew(graph):
    concepts = {concept.concept_id for concept in graph}
    near = {concept: sorted(concepts - {concept})[:9] for concept in concepts}
    sampler = PairSampler(
        text_pairs(graph, concepts=concepts), batch_size=16, neighbours=near, neighbourhood_size=4, seed=7
    )
    drawn = "\n".join(f"{pair.concept_id} {pair.kind}" for _ in range(8) for pair in sampler.draw())
    assert hashlib.sha256(drawn.encode()).hexdigest()[:16] == "7392a3494f1cd025"
