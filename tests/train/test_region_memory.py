"""Laws of the memory of regions."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from vesalius.errors import SettingError
from vesalius.ids import ConceptId
from vesalius.model.loss import contrastive_loss
from vesalius.train.region_memory import RegionMemory, RegionMemorySettings, own_pairs, structure_pairs

KEYS = ["A:1", "A:2", "A:1", "A:3 left", "A:3"]
CONCEPTS = [ConceptId(key.split()[0]) for key in KEYS]


def above(concept):
    return {"A:9"} if concept == "A:2" else set()


def unit(num, seed=0):
    return F.normalize(torch.randn(num, 6, generator=torch.Generator().manual_seed(seed)), dim=-1)


def loss_with(memory, regions, texts, pairs=structure_pairs):
    keys, concepts = [*KEYS, *memory.keys], [*CONCEPTS, *memory.concept_ids]
    if pairs is structure_pairs:
        positives, ignored = structure_pairs(keys, concepts, num=len(KEYS), ancestors=above)
    else:
        positives, ignored = own_pairs(keys, num=len(KEYS))
    return contrastive_loss(
        torch.cat([regions, memory.embeddings]), texts, logit_scale=torch.tensor(5.0),
        positives=positives, ignored=ignored, num_asking=len(KEYS),
    )  # fmt: skip


def filled(embeddings, keys, concepts, size=100):
    memory = RegionMemory(RegionMemorySettings(size=size), width=6)
    memory.add(embeddings, keys, concepts)
    return memory


def empty(**settings):
    return RegionMemory(RegionMemorySettings(**settings), width=6)


def test_a_memory_of_size_0_remembers_nothing_and_leaves_the_plain_loss():
    memory = empty()
    memory.add(unit(5), KEYS, CONCEPTS)
    assert len(memory.embeddings) == len(memory.keys) == 0
    regions, texts = unit(5), unit(5, seed=1)
    positives, ignored = structure_pairs(KEYS, CONCEPTS, num=5, ancestors=above)
    plain = contrastive_loss(regions, texts, logit_scale=torch.tensor(5.0), positives=positives, ignored=ignored)
    assert torch.equal(loss_with(memory, regions, texts), plain)


def test_a_memory_of_the_batch_itself_changes_neither_the_loss_nor_the_gradient_of_the_prompts():
    regions, texts = unit(5), unit(5, seed=1).requires_grad_()
    plain = loss_with(empty(), regions, texts)
    doubled = loss_with(filled(regions, KEYS, CONCEPTS), regions, texts)
    torch.testing.assert_close(doubled, plain)
    torch.testing.assert_close(*(torch.autograd.grad(loss, texts)[0] for loss in (doubled, plain)))


def test_no_gradient_reaches_what_is_remembered_and_it_stays_as_it_was():
    regions = unit(5).requires_grad_()
    memory = filled(2 * regions, KEYS, CONCEPTS)
    before = memory.embeddings.clone()
    loss_with(memory, regions, unit(5, seed=1)).backward()
    with torch.no_grad():
        regions += 1
    assert not memory.embeddings.requires_grad
    assert torch.equal(memory.embeddings, before)


def test_other_structures_make_it_harder_and_relatives_are_left_out_for_their_relatives_alone():
    regions, texts = unit(5), unit(5, seed=1)
    plain = loss_with(empty(), regions, texts)
    assert loss_with(filled(unit(40, seed=2), ["A:5"] * 40, [ConceptId("A:5")] * 40), regions, texts) > plain + 0.1
    # A:9 lies above A:2 alone; a half of A:3 is neither to the whole, and the whole neither to its half.
    everything = [("A:9", "A:2"), ("A:3 left", "A:3"), ("A:3", "A:3 left")]
    for remembered, related in everything:
        positives, ignored = structure_pairs(
            [*KEYS, remembered], [*CONCEPTS, ConceptId(remembered.split()[0])], num=5, ancestors=above
        )
        assert [key for key, neither in zip(KEYS, ignored[5], strict=True) if neither] == [related]
        assert [key for key, is_it in zip(KEYS, positives[5], strict=True) if is_it] == (
            [] if remembered == "A:9" else [remembered]
        )


def test_the_oldest_are_forgotten_first_and_nothing_is_remembered_before_the_beginning():
    memory = empty(size=3, begin_after=1)
    rows = unit(6)
    for step in range(3):
        memory.add(rows[2 * step : 2 * step + 2], [f"k{2 * step}", f"k{2 * step + 1}"], [ConceptId("A:1")] * 2)
        assert len(memory.embeddings) == [0, 2, 3][step]
    assert memory.keys == ["k3", "k4", "k5"]
    assert torch.equal(memory.embeddings, rows[3:])
    memory.add(unit(9), list("abcdefghi"), [ConceptId("A:1")] * 9)
    assert memory.keys == list("ghi")


def test_a_memory_goes_on_from_a_checkpoint(tmp_path):
    one = empty(size=7, begin_after=1)
    for step in range(3):
        one.add(unit(3, seed=step), ["a", "b", "c"], [ConceptId("A:1")] * 3)
    torch.save(one.state_dict(), tmp_path / "state.pt")
    other = empty(size=7, begin_after=1)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for memory in (one, other):
        memory.add(unit(3, seed=9), ["d", "e", "f"], [ConceptId("A:2")] * 3)
    assert torch.equal(one.embeddings, other.embeddings)
    assert (one.keys, one.concept_ids) == (other.keys, other.concept_ids)


def test_the_published_pairs_are_one_positive_each_and_nothing_of_the_same_structure_against_it():
    positives, ignored = own_pairs([*KEYS, "A:1", "A:7"], num=5)
    assert torch.equal(positives[:5], torch.eye(5, dtype=torch.bool))
    assert not positives[5:].any()
    assert ignored.nonzero().tolist() == [[0, 2], [2, 0], [5, 0], [5, 2]]


def test_the_published_loss_is_that_of_its_formula():
    regions, texts = unit(5), unit(5, seed=1)
    logits = 5.0 * regions @ texts.T
    same = torch.tensor([[a == b for b in KEYS] for a in KEYS]) & ~torch.eye(5, dtype=torch.bool)
    kept = logits.masked_fill(same, -torch.inf)
    expected = (F.cross_entropy(kept, torch.arange(5)) + F.cross_entropy(kept.T, torch.arange(5))) / 2
    torch.testing.assert_close(loss_with(empty(), regions, texts, pairs=own_pairs), expected)


def test_shares_of_processes_add_up_with_a_memory():
    regions, texts = unit(5), unit(5, seed=1)
    memory = filled(unit(30, seed=2), ["A:5", "A:1", "A:2"] * 10, [ConceptId("A:5")] * 30)
    positives, ignored = structure_pairs(
        [*KEYS, *memory.keys], [*CONCEPTS, *memory.concept_ids], num=5, ancestors=above
    )
    shares = [
        contrastive_loss(
            torch.cat([regions, memory.embeddings]), texts, logit_scale=torch.tensor(5.0),
            positives=positives, ignored=ignored, num_asking=5, share=(rank, 3),
        )
        for rank in range(3)
    ]  # fmt: skip
    torch.testing.assert_close(sum(shares), loss_with(memory, regions, texts))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"size": -1}, "size of the memory is -1"), ({"size": 4, "begin_after": -2}, "begin_after of the memory is -2"),
     ({"begin_after": 5}, "no effect without a memory")],
)  # fmt: skip
def test_senseless_memories_are_refused(wrong, words):
    with pytest.raises(SettingError, match=words):
        replace(RegionMemorySettings(), **wrong)
