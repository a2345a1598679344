"""What stands around the network: which texts belong together, the loss of a large batch, and the retrieval metric.

As published, the matrix of equal ids compares all pairs of strings, and retrieval sorts every row of the similarity matrix, both ways.
The second is written here from its cost (ANCHORS §4); its ties fall as they fall, so that the recalls agree to a thousandth.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from cases import Case, Context, Goal, Side, Work, memory_share, speed_up
from torch import Tensor

from vesalius.corpus.batch import relatives, same
from vesalius.eval.retrieval import retrieval_ranks
from vesalius.ids import ConceptId
from vesalius.model.loss import contrastive_loss

NUM_IDS, NUM_PAIRS, NUM_ROWS, WIDTH = 8192, 8192, 10_000, 384
QUICK = 8


def _num(full: int, context: Context) -> int:
    return full // QUICK if context.quick else full


def concept_ids(num: int) -> list[ConceptId]:
    """Returns ids of which some stand several times."""
    rng = random.Random(0)  # noqa: S311
    return [ConceptId(f"UBERON:{rng.randrange(num):07d}") for _ in range(num)]


def compared_strings(context: Context) -> Work:
    """Compares all pairs of strings."""
    ids = concept_ids(_num(NUM_IDS, context))
    return _of_matrix(lambda: torch.from_numpy(np.array(ids)[:, None] == np.array(ids)[None, :]))


def equal_ids(context: Context) -> Work:
    """Gives each id a number and compares numbers."""
    ids = concept_ids(_num(NUM_IDS, context))
    return _of_matrix(lambda: same(ids))


def related_ids(context: Context) -> Work:
    """Finds ancestors and descendants; a concept has 50 ancestors, of which a dozen are in the batch, as with concepts of UBERON."""
    ids = concept_ids(_num(NUM_IDS, context))
    rng = random.Random(1)  # noqa: S311
    above = {
        concept: frozenset(ConceptId(f"UBERON:{number:07d}") for number in rng.sample(range(4 * len(ids)), 50))
        for concept in ids
    }
    return Work(step=lambda: relatives(ids, ancestors=above.__getitem__))


def _of_matrix(make: Callable[[], Tensor]) -> Work:
    return Work(step=make, outcome=lambda: {"equal": make().float()})


def loss_of_a_large_batch(contrast: Callable[..., Tensor]) -> Callable[[Context], Work]:
    """Returns the loss of many pairs and its gradients."""

    def prepare(context: Context) -> Work:
        num = _num(NUM_PAIRS, context)
        generator = torch.Generator().manual_seed(0)
        sides = [F.normalize(torch.randn(num, WIDTH, generator=generator), dim=-1) for _ in range(2)]
        inputs = [side.to(context.device).requires_grad_() for side in sides]
        scale = torch.tensor(1 / 0.07, device=context.device, requires_grad=True)
        positives = same(concept_ids(num)).to(context.device)
        ignored = torch.zeros_like(positives)

        def gradients() -> dict[str, Tensor]:
            loss = contrast(*inputs, logit_scale=scale, positives=positives, ignored=ignored)
            found = torch.autograd.grad(loss, [*inputs, scale])
            return {"loss": loss.detach(), **{f"gradient {at}": value for at, value in enumerate(found)}}

        return Work(step=gradients, units=num, outcome=gradients)

    return prepare


def all_logits(left: Tensor, right: Tensor, *, logit_scale: Tensor, positives: Tensor, ignored: Tensor) -> Tensor:
    """Returns the loss by its definition, all logits at once."""
    logits = (logit_scale * left @ right.T).masked_fill(ignored, -torch.inf)
    losses = [
        values.logsumexp(1) - values.masked_fill(~right_ones, -torch.inf).logsumexp(1)
        for values, right_ones in ((logits, positives), (logits.T, positives.T))
    ]
    return (losses[0].mean() + losses[1].mean()) / 2


def retrieval(recalls: Callable[[np.ndarray, np.ndarray], dict[str, float]]) -> Callable[[Context], Work]:
    """Returns recall at 1, 5 and 10 of rows that each have one partner, asked both ways."""

    def prepare(context: Context) -> Work:
        num = _num(NUM_ROWS, context)
        rng = np.random.default_rng(0)
        left = rng.standard_normal((num, WIDTH), dtype=np.float32)
        right = left + 4 * rng.standard_normal((num, WIDTH), dtype=np.float32)
        left, right = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (left, right))

        def outcome() -> Mapping[str, Tensor]:
            return {name: torch.tensor(value) for name, value in recalls(left, right).items()}

        return Work(step=lambda: recalls(left, right), units=num, outcome=outcome)

    return prepare


def sorted_recalls(left: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Sorts every row of the similarities, and every column."""
    scores = torch.from_numpy(left) @ torch.from_numpy(right).T
    own = torch.arange(len(scores))[:, None]
    orders = [side.argsort(dim=1, descending=True) for side in (scores, scores.T)]
    places = [(order == own).nonzero()[:, 1] for order in orders]
    return _recalls([place.numpy() for place in places])


def counted_recalls(left: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Counts what scores at least as much as the right one."""
    owners = [str(row) for row in range(len(left))]
    ranks = [retrieval_ranks(a, b, answers=owners, owners=owners) for a, b in ((left, right), (right, left))]
    return _recalls([rank - 1 for rank in ranks])


def _recalls(places: list[np.ndarray]) -> dict[str, float]:
    return {
        f"{way} at {k}": float((place < k).mean())
        for way, place in zip(("forth", "back"), places, strict=True)
        for k in (1, 5, 10)
    }


CASES = (
    Case(
        name="ids",
        title=f"Which of {NUM_IDS:,} concepts are equal, and which relatives",
        unit="matrices",
        sides={
            "as published, strings": Side(prepare=compared_strings),
            "vesalius, equal": Side(prepare=equal_ids),
            "vesalius, relatives": Side(prepare=related_ids),
        },
        goals=(
            Goal(
                work=f"equal ids, {NUM_IDS:,}", says="≤ 0.2 s", at_most=0.2, shows="{:.2f} s",
                value=lambda measured: measured["vesalius, equal"].seconds,
            ),
            Goal(
                work=f"relatives, {NUM_IDS:,}", says="≤ 0.2 s", at_most=0.2, shows="{:.2f} s",
                value=lambda measured: measured["vesalius, relatives"].seconds,
            ),
        ),
        steps=5,
    ),
    Case(
        name="loss",
        title=f"Contrastive loss and its gradients, {NUM_PAIRS:,} pairs of {WIDTH}",
        unit="pairs",
        sides={
            "all logits at once": Side(prepare=loss_of_a_large_batch(all_logits)),
            "vesalius": Side(prepare=loss_of_a_large_batch(contrastive_loss)),
        },
        goals=(
            Goal(
                work=f"loss of {NUM_PAIRS:,} pairs", says="≤ 1/2 of the memory of all logits at once", at_most=0.5,
                value=memory_share("vesalius", "all logits at once"),
            ),
        ),
    ),
    Case(
        name="retrieval",
        title=f"Retrieval metric, {NUM_ROWS:,} rows",
        unit="rows",
        sides={
            "as published, sorted": Side(prepare=retrieval(sorted_recalls), devices=("cpu",)),
            "vesalius": Side(prepare=retrieval(counted_recalls), devices=("cpu",)),
        },
        goals=(
            Goal(
                work=f"retrieval metric, {NUM_ROWS:,} rows", says="faster than sorting", at_least=1.0,
                value=speed_up("vesalius", "as published, sorted"),
            ),
            Goal(
                work=f"retrieval metric, {NUM_ROWS:,} rows", says="≤ 1/2 of its memory", at_most=0.5,
                value=memory_share("vesalius", "as published, sorted"),
            ),
        ),
        tolerance=1e-3,
    ),
)  # fmt: skip
