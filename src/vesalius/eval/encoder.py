"""The text encoder on concepts it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from vesalius.errors import InputError
from vesalius.eval.retrieval import (
    ANATOMY_SOURCE,
    Candidates,
    Queries,
    RetrievalScores,
    candidate_names,
    definition_queries,
    retrieval_ranks,
    retrieval_scores,
    synonym_queries,
)
from vesalius.ids import ConceptId, Split
from vesalius.knowledge.graph import Graph
from vesalius.model.text_encoder import TextEncoder
from vesalius.predict.embed import embed_texts

MAX_LENGTH = 128
"""Tokens of a text at evaluation; a longer one is cut."""

NUM_VALIDATION_QUERIES = 300
"""Queries of each kind at a validation during training: enough to choose, few enough to wait for."""


@dataclass(frozen=True, kw_only=True)
class EncoderScores:
    """Retrieval on held-out concepts.

    Attributes:
        tasks: ``definition_to_name`` and ``synonym_to_name``.
        num_candidates: how many texts a query chooses among.
        names: the candidates' texts.
        embeddings: `m d` the candidates' embeddings, for pictures.
    """

    tasks: dict[str, RetrievalScores]
    num_candidates: int
    names: list[str]
    embeddings: Float32[np.ndarray, "m d"]


def evaluate_encoder(
    encoder: TextEncoder,
    graph: Graph,
    *,
    concepts: Collection[ConceptId],
    candidates: Candidates = "anatomy",
    max_length: int = MAX_LENGTH,
    advance: Callable[[int], None] | None = None,
) -> EncoderScores:
    """Measures definition → name and synonym → name.

    Args:
        encoder: what is measured.
        graph: where queries and candidates come from.
        concepts: whose texts ask: the test side of the split.
        candidates: what they choose among. With ``all``, a synonym's own text is no candidate for it.
        max_length: longer texts are cut to this many tokens.
        advance: told the number of texts embedded.

    Raises:
        ValueError: the concepts have neither definitions nor synonyms.
    """
    names, owners = candidate_names(graph, candidates)
    embedded = embed_texts(encoder, names, max_length=max_length, advance=advance)
    tasks = {}
    for task, queries in _tasks(graph, concepts).items():
        asked = embed_texts(encoder, queries.texts, max_length=max_length, advance=advance)
        own = _own_texts(queries, names, owners) if candidates == "all" else None
        ranks = retrieval_ranks(asked, embedded, answers=queries.answers, owners=owners, excluded=own)
        tasks[task] = retrieval_scores(ranks, num_candidates=len(names))
    return EncoderScores(tasks=tasks, num_candidates=len(names), names=names, embeddings=embedded)


def num_texts(graph: Graph, concepts: Collection[ConceptId], candidates: Candidates = "anatomy") -> int:
    """Returns how many texts `evaluate_encoder` embeds, for a progress bar."""
    asked = sum(len(queries.texts) for queries in _tasks(graph, concepts).values())
    return asked + len(candidate_names(graph, candidates)[0])


def validation_scores(
    encoder: TextEncoder,
    graph: Graph,
    *,
    sides: Mapping[ConceptId, Split],
    max_length: int,
    sources: Collection[str] = (ANATOMY_SOURCE,),
) -> tuple[float, dict[str, float]]:
    """Returns the mean MRR over the tasks, and each one's, on validation concepts among validation names: quick, to choose by.

    Args:
        encoder: what is measured.
        graph: where queries and candidates come from.
        sides: concept → side of the split.
        max_length: longer texts are cut to this many tokens.
        sources: the sources whose concepts ask and are chosen among.
    """
    concepts = {concept for concept, side in sides.items() if side == "validation"}
    names, owners = candidate_names(graph, "anatomy", sources=sources)
    kept = [place for place, owner in enumerate(owners) if owner in concepts]
    names, owners = [names[place] for place in kept], [owners[place] for place in kept]
    embedded = embed_texts(encoder, names, max_length=max_length)
    numbers = {}
    for task, queries in _tasks(graph, concepts, sources=sources).items():
        some = _every_nth(queries, num=NUM_VALIDATION_QUERIES)
        asked = embed_texts(encoder, some.texts, max_length=max_length)
        ranks = retrieval_ranks(asked, embedded, answers=some.answers, owners=owners)
        numbers[f"{task}_mrr"] = float((1 / ranks).mean())
    return float(np.mean(list(numbers.values()))), numbers


def _tasks(
    graph: Graph, concepts: Collection[ConceptId], *, sources: Collection[str] = (ANATOMY_SOURCE,)
) -> dict[str, Queries]:
    """Returns the tasks that have queries.

    Raises:
        InputError: there is none.
    """
    tasks = {
        "definition_to_name": definition_queries(graph, concepts, sources=sources),
        "synonym_to_name": synonym_queries(graph, concepts, sources=sources),
    }
    asked = {task: queries for task, queries in tasks.items() if queries.texts}
    if not asked:
        raise InputError(
            f"no definitions or synonyms of held-out concepts of {', '.join(sources)}",
            remedy=f"build the graph with {', '.join(sources)}",
        )
    return asked


def _own_texts(queries: Queries, names: list[str], owners: list[ConceptId]) -> list[int]:
    places = {(text, owner): place for place, (text, owner) in enumerate(zip(names, owners, strict=True))}
    return [places.get(asked, -1) for asked in zip(queries.texts, queries.answers, strict=True)]


def _every_nth(queries: Queries, *, num: int) -> Queries:
    stride = max(1, len(queries.texts) // num)
    return Queries(texts=queries.texts[::stride][:num], answers=queries.answers[::stride][:num])
