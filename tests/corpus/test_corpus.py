import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vesalius.corpus.batch import relatives, text_batch
from vesalius.corpus.pairs import text_pairs
from vesalius.corpus.sampling import PairSampler
from vesalius.corpus.tokens import group_by_length
from vesalius.errors import SettingError
from vesalius.ids import ConceptId


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 200))
def test_grouping_keeps_every_token_once(lengths, max_tokens):
    texts = [list(range(1, length + 1)) for length in lengths]
    groups = group_by_length(texts, max_tokens=max_tokens)
    found = {}
    for group in groups:
        assert len(group.rows) == 1 or group.input_ids.numel() <= max_tokens
        assert list(group.lengths) == sorted(group.lengths)
        for ids, row in zip(group.input_ids.split(list(group.lengths)), group.rows, strict=True):
            found[int(row)] = ids.tolist()
    assert [found[row] for row in range(len(texts))] == texts


def test_groups_are_about_equally_large():
    groups = group_by_length([[1] * 5] * 21, max_tokens=100)
    assert [group.input_ids.numel() for group in groups] == [55, 50]
    assert group_by_length([], max_tokens=100) == []


def test_pairs_of_held_out_concepts_are_never_drawn(graph):
    concepts = {concept.concept_id for concept in graph if int(concept.concept_id[-2:]) % 2 == 0}
    sampler = PairSampler(text_pairs(graph, concepts=concepts), batch_size=8)
    for _ in range(20):
        assert {pair.concept_id for pair in sampler.draw()} <= concepts


def test_a_restored_sampler_goes_on_exactly(graph):
    pairs = text_pairs(graph, concepts={concept.concept_id for concept in graph})
    whole = PairSampler(pairs, batch_size=16, seed=3)
    drawn = [whole.draw() for _ in range(9)]
    first = PairSampler(pairs, batch_size=16, seed=3)
    for _ in range(4):
        first.draw()
    second = PairSampler(pairs, batch_size=16, seed=3)
    second.load_state_dict(first.state_dict())
    assert [second.draw() for _ in range(5)] == drawn[4:]


def test_a_step_draws_each_concept_once(graph):
    pairs = text_pairs(graph, concepts={concept.concept_id for concept in graph})
    for pair_batch in (PairSampler(pairs, batch_size=32, seed=seed).draw() for seed in range(5)):
        assert len({pair.concept_id for pair in pair_batch}) == 32


def test_a_batch_larger_than_the_knowledge_is_refused(graph):
    with pytest.raises(SettingError, match="only 60 concepts"):
        PairSampler(text_pairs(graph, concepts={c.concept_id for c in graph}), batch_size=61)


def test_relatives_are_ignored_and_never_positive(graph):
    ids = [ConceptId("UBERON:9999999"), ConceptId("UBERON:0000001"), ConceptId("UBERON:0000002")]
    related = relatives(ids, ancestors=graph.ancestors)
    assert related.tolist() == [[False, True, True], [True, False, False], [True, False, False]]
    batch = text_batch(text_pairs(graph, concepts=set(ids))["definition"], ancestors=graph.ancestors)
    assert torch.equal(batch.positives, torch.eye(2, dtype=torch.bool))
