"""Does a text find its concept, a region its name?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Int

from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.definitions import statement
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.names import normalise

Candidates = Literal["anatomy", "all"]
"""`anatomy`: the preferred names of all live anatomy concepts. `all`: names and exact synonyms of every concept."""

ANATOMY_SOURCE = "uberon"
NUM_RESAMPLES = 1000
_CHUNK = 512
_TIE = 1e-6
"""Cosine similarities closer than this are equal: one text scores differently in two passes by rounding."""


@dataclass(frozen=True, kw_only=True)
class Queries:
    """Texts, and for each the candidates that are right.

    Attributes:
        texts: `n` texts that ask.
        answers: `n` the concept each belongs to.
    """

    texts: list[str]
    answers: list[ConceptId]


@dataclass(frozen=True, kw_only=True)
class RetrievalScores:
    """How often, and how far up, the right answer was found.

    Attributes:
        num: number of queries.
        recall_at_1: share of queries whose right answer comes first, 0 to 1; likewise at 5 and 10.
        mrr: mean of 1 / rank.
        recall_at_1_interval: 95 % bootstrap interval over queries; likewise for `mrr`.
        chance_at_1: expected recall at 1 of a random order.
    """

    num: int
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    mrr: float
    recall_at_1_interval: tuple[float, float]
    mrr_interval: tuple[float, float]
    chance_at_1: float

    def as_json(self) -> dict[str, object]:
        """Returns the scores as they stand in ``report.json``."""
        return asdict(self)


def definition_queries(
    graph: Graph, concepts: Collection[ConceptId], *, sources: Collection[str] = (ANATOMY_SOURCE,)
) -> Queries:
    """Returns the definitions that `sources`, by default anatomy, give those of `concepts` that are theirs."""
    found = [
        (statement(definition.text), concept.concept_id)
        for concept in graph
        if concept.concept_id in concepts and concept.source in sources
        for definition in concept.definitions
        if definition.source in sources
    ]
    return Queries(texts=[text for text, _ in found], answers=[answer for _, answer in found])


def synonym_queries(
    graph: Graph, concepts: Collection[ConceptId], *, sources: Collection[str] = (ANATOMY_SOURCE,)
) -> Queries:
    """Returns the exact synonyms, lower-cased, that `sources` give those of `concepts` that are theirs, but for the name itself."""
    found = [
        (synonym.text.lower(), concept.concept_id)
        for concept in graph
        if concept.concept_id in concepts and concept.source in sources
        for synonym in concept.synonyms
        if synonym.scope is Scope.EXACT
        and synonym.source in sources
        and normalise(synonym.text) != normalise(concept.name)
    ]
    return Queries(texts=[text for text, _ in found], answers=[answer for _, answer in found])


def candidate_names(
    graph: Graph, candidates: Candidates, *, sources: Collection[str] = (ANATOMY_SOURCE,)
) -> tuple[list[str], list[ConceptId]]:
    """Returns the texts to choose among, lower-cased, and the concept of each; anatomy is what is of `sources`."""
    if candidates == "anatomy":
        found = [(concept.name.lower(), concept.concept_id) for concept in graph if concept.source in sources]
    else:
        found = [(text.lower(), concept.concept_id) for concept in graph for text in concept.exact_names()]
    return [text for text, _ in found], [concept_id for _, concept_id in found]


def retrieval_ranks(
    queries: Float32[np.ndarray, "n d"],
    candidates: Float32[np.ndarray, "m d"],
    *,
    answers: Sequence[str],
    owners: Sequence[str],
    excluded: Sequence[int] | None = None,
) -> Int[np.ndarray, " n"]:
    """Returns the rank (from 1) of the best right candidate of each query.

    A wrong candidate that scores as much as the right one counts as ranked before it: ties count against us.

    Args:
        queries: embeddings that ask.
        candidates: embeddings to choose among.
        answers: what each query belongs to.
        owners: what each candidate belongs to; candidates of the query's own answer never count against it.
        excluded: for each query a candidate that takes no part (itself), or -1.

    Raises:
        ValueError: a query has no right candidate.
    """
    codes = {owner: code for code, owner in enumerate(dict.fromkeys(owners))}
    missing = [answer for answer in answers if answer not in codes]
    if missing:
        raise ValueError(f"no candidate belongs to {missing[0]!r}, the answer of a query")
    owner_codes = np.array([codes[owner] for owner in owners])
    answer_codes = np.array([codes[answer] for answer in answers])
    ranks = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        scores = queries[chunk] @ candidates.T
        right = answer_codes[chunk, None] == owner_codes[None, :]
        if excluded is not None:
            rows, columns = np.arange(len(scores)), np.asarray(excluded[chunk])
            scores[rows[columns >= 0], columns[columns >= 0]] = -np.inf
        best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
        ranks[chunk] = 1 + ((scores >= best - _TIE) & ~right).sum(axis=1)
    return ranks


def retrieval_scores(ranks: Int[np.ndarray, " n"], *, num_candidates: int, seed: int = 0) -> RetrievalScores:
    """Summarises ranks.

    Args:
        ranks: rank of the right answer of each query, from 1.
        num_candidates: how many candidates a query chooses among, for chance.
        seed: of the bootstrap.

    Raises:
        ValueError: there are no ranks.
    """
    if len(ranks) == 0:
        raise ValueError("no queries, so no scores")
    hits, reciprocal = ranks == 1, 1 / ranks
    return RetrievalScores(
        num=len(ranks),
        recall_at_1=float(hits.mean()),
        recall_at_5=float((ranks <= 5).mean()),
        recall_at_10=float((ranks <= 10).mean()),
        mrr=float(reciprocal.mean()),
        recall_at_1_interval=bootstrap_interval(hits.astype(np.float64), seed=seed),
        mrr_interval=bootstrap_interval(reciprocal, seed=seed),
        chance_at_1=1 / num_candidates,
    )


def bootstrap_interval(values: Float[np.ndarray, " n"], *, seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % percentile bootstrap interval of the mean (Efron and Tibshirani 1993, chapter 13; 1,000 resamples)."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(NUM_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
