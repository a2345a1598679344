"""From a dataset's label to a concept of the graph: by name, by synonym, by the written table `labels.tsv`."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

from vesalius.ids import ConceptId, Laterality, ResolvedLabel, local_concept_id
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.names import normalise, split_laterality


class Resolver:
    """Ties labels, as datasets write them, to concepts.

    A label is looked up whole first, then as side and rest ("kidney_left": "left kidney" is a concept of UBERON), then as the
    rest alone with the side beside it. At each of the three, a row of
    the written table wins over a preferred name, and that over an exact synonym; a name that several concepts bear,
    none of them as its preferred one, ties to nothing. What ties to nothing keeps its own words as its name.

    Args:
        graph: the graph to look in; rows of the table whose concept it lacks serve for their name alone.
        prefer: sources whose concepts win where concepts of several sources bear a name.
    """

    def __init__(self, graph: Graph, *, prefer: tuple[str, ...] = ("uberon",)) -> None:
        self._graph = graph
        self._prefer = prefer
        self._table = _written_table()

    def __call__(self, label: str) -> ResolvedLabel:
        """Returns what `label` stands for.

        Raises:
            InputError: `label` holds no letter or digit.
        """
        whole = self._find(normalise(label), None)
        if whole is not None:
            return whole
        rest, laterality = split_laterality(label)
        if laterality is not None:
            sided = self._find(f"{laterality} {rest}", None)
            if sided is not None:
                return sided
        found = self._find(rest, laterality)
        if found is not None:
            return found
        name = self._table[rest][0] if rest in self._table else rest
        name = f"{laterality} {name}" if laterality else name
        return ResolvedLabel(concept_id=local_concept_id(name), laterality=None, name=name, tied_by="none")

    def _find(self, text: str, laterality: Laterality | None) -> ResolvedLabel | None:
        side = f"{laterality} " if laterality else ""
        if text in self._table:
            name, written = self._table[text]
            if written is None or written not in self._graph:
                return None
            return ResolvedLabel(concept_id=written, laterality=laterality, name=f"{side}{name}", tied_by="table")
        bearers = self._graph.named(text)
        preferring = [concept for concept in bearers if normalise(concept.name) == text]
        for candidates in (preferring, bearers):
            chosen = [concept for concept in candidates if concept.source in self._prefer] or candidates
            if len(chosen) == 1:
                return ResolvedLabel(
                    concept_id=chosen[0].concept_id,
                    laterality=laterality,
                    name=f"{side}{text}",
                    tied_by="name" if candidates is preferring else "synonym",
                )
        return None


@cache
def _written_table() -> dict[str, tuple[str, ConceptId | None]]:
    """Returns normalised label without its side → (name to prompt with, concept or None)."""
    text = resources.files("vesalius.knowledge").joinpath("labels.tsv").read_text(encoding="utf-8")
    return {
        row["label"]: (row["name"], ConceptId(row["concept_id"]) if row["concept_id"] else None)
        for row in csv.DictReader(text.splitlines(), delimiter="\t")
    }
