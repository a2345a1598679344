"""Which structures are a left and a right one together, as far as the graph says so."""

from __future__ import annotations

from collections.abc import Sequence

from vesalius.ids import ConceptId, Laterality, ResolvedLabel, ResolvedWhole
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.names import split_laterality


class Wholes:
    """Finds the pairs of left and right among what the labels of a case stand for.

    A concept that a label gives a side to (Brodmann area 4, left) is the whole of its two sides. A concept that is of
    one side itself (left kidney) belongs to the ancestor that bears its name without the side (kidney), if there is
    exactly one; so nothing is made of labels that tie to no concept.

    Args:
        graph: the graph the labels are tied to.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __call__(self, told: Sequence[ResolvedLabel]) -> list[ResolvedWhole]:
        """Returns the wholes whose left and right are both among `told`, in its order, each once; none for an empty one."""
        sides: dict[ConceptId, dict[Laterality, ResolvedLabel]] = {}
        names: dict[ConceptId, str] = {}
        for tied in told:
            found = self._whole_of(tied)
            if found is not None:
                whole, name, laterality = found
                names.setdefault(whole, name)
                sides.setdefault(whole, {}).setdefault(laterality, tied)
        return [
            ResolvedWhole(
                whole=ResolvedLabel(concept_id=concept_id, laterality=None, name=names[concept_id], tied_by="parts"),
                parts=(pair["left"], pair["right"]),
            )
            for concept_id, pair in sides.items()
            if len(pair) == 2
        ]

    def _whole_of(self, tied: ResolvedLabel) -> tuple[ConceptId, str, Laterality] | None:
        """Returns concept and name of what `tied` is one side of, and the side."""
        if tied.concept_id not in self._graph:
            return None
        if tied.laterality is not None:
            name, _ = split_laterality(tied.name)
            return tied.concept_id, name, tied.laterality
        name, laterality = split_laterality(self._graph[tied.concept_id].name)
        if laterality is None:
            return None
        above = self._graph.ancestors(tied.concept_id)
        bearers = [concept.concept_id for concept in self._graph.named(name) if concept.concept_id in above]
        return (bearers[0], name, laterality) if len(bearers) == 1 else None
