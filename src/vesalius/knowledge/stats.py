"""Counts of a graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from vesalius.knowledge.stored import StoredGraph


@dataclass(frozen=True, kw_only=True)
class GraphStats:
    """How much a graph holds.

    Attributes:
        counts: source → table → rows.
        scopes: source → scope → synonyms.
        predicates: predicate → source → relations, the most frequent first.
        conflicts: kind → ties that were not let join.
        rejects: rows that were refused.
    """

    counts: Mapping[str, Mapping[str, int]]
    scopes: Mapping[str, Mapping[str, int]]
    predicates: Mapping[str, Mapping[str, int]]
    conflicts: Mapping[str, int]
    rejects: int


def graph_stats(graph: StoredGraph) -> GraphStats:
    """Counts the rows of a graph by source, scope and predicate; reads two columns of its relations."""
    scopes: dict[str, dict[str, int]] = defaultdict(dict)
    for draw in graph.draws:
        if draw.scope is not None:
            scopes[draw.source][str(draw.scope)] = draw.num
    predicates: dict[str, dict[str, int]] = defaultdict(dict)
    for predicate, source, num in graph.count_by("relations", "predicate", "source"):
        predicates[predicate][source] = num
    order = sorted(predicates, key=lambda predicate: (-sum(predicates[predicate].values()), predicate))
    return GraphStats(
        counts=graph.manifest["counts"],
        scopes=dict(scopes),
        predicates={predicate: predicates[predicate] for predicate in order},
        conflicts=dict(graph.count_by("conflicts", "kind")),
        rejects=graph.num_rows("rejects"),
    )
