"""From a dataset's label to a concept of the graph: by the handbook's spellings and names, then by the names of the graph."""

from __future__ import annotations

import difflib

from vesalius.errors import SettingError
from vesalius.ids import ConceptId, Laterality, ResolvedLabel, local_concept_id
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.handbook.spellings import LabelIndex, Match, shipped_index
from vesalius.knowledge.names import folded_words, normalise, split_laterality

_SHORT = 3
"""Characters of an abbreviation."""


class Resolver:
    """Ties labels, as datasets write them, to concepts.

    A label is looked up in the handbook as its `SCHEMA.md` says. What it means exactly there is its concept, where the
    graph holds it; where the graph lacks the left or right one (it was built without the handbook), the unsided one with
    the side beside it. What the handbook does not know is looked up among the names of the graph: whole first, then as
    side and rest ("kidney_left": "left kidney" is a concept of UBERON), then as the rest alone with the side beside it, and at
    last so with its words in the singular and in American English; a preferred name wins over an exact synonym, and a name
    that several concepts bear, none of them as its preferred one, ties to nothing. A synonym of three characters counts only
    of concepts of `prefer`, and a shorter one of none: such abbreviations mean many things ("CM" is a skin disease of MONDO).
    What ties to nothing keeps its own words as its name; so does a label that is only a part of a concept.

    Args:
        graph: the graph to look in.
        dataset: the dataset whose labels are read, as the handbook's spellings name it (``SAT-DS/HAN_Seg``).
        prefer: sources whose concepts win where concepts of several sources bear a name.

    Raises:
        SettingError: the handbook knows no spelling of `dataset`, so that naming it has no effect.
    """

    def __init__(
        self, graph: Graph, *, dataset: str | None = None, prefer: tuple[str, ...] = ("handbook", "uberon")
    ) -> None:
        self._graph = graph
        self._dataset = dataset
        self._prefer = prefer
        known = self._index.datasets
        if dataset is not None and not {dataset, dataset.partition("/")[0]} & set(known):
            near = difflib.get_close_matches(dataset, known, n=3, cutoff=0.4)
            raise SettingError(
                f"the handbook knows no spelling of a dataset {dataset!r}",
                remedy=f"did you mean: {', '.join(near)}" if near else "leave it out",
            )

    @property
    def _index(self) -> LabelIndex:
        return shipped_index()  # asked for each time, so that a resolver goes to worker processes without it

    def __call__(self, label: str) -> ResolvedLabel:
        """Returns what `label` stands for.

        Raises:
            InputError: `label` holds no letter or digit.
        """
        match = self._index.find(label, self._dataset)
        if match is not None and match.scope is Scope.EXACT:
            tied = self._of_handbook(match)
            if tied is not None:
                return tied
        found = None if match is not None else self._of_graph(label)
        if found is not None:
            return found
        if match is not None and match.scope is Scope.EXACT:
            name = self._index.handbook[match.concept_id].name
        else:
            rest, laterality = split_laterality(label)
            name = f"{laterality} {rest}" if laterality else rest
        return ResolvedLabel(concept_id=local_concept_id(name), laterality=None, name=name, tied_by="none")

    def _of_handbook(self, match: Match) -> ResolvedLabel | None:
        concept = self._index.handbook[match.concept_id]
        ids: tuple[tuple[ConceptId | None, Laterality | None], ...] = (
            (concept.concept_id, None),
            (concept.unsided, concept.laterality),
        )
        for concept_id, laterality in ids:
            if concept_id is not None and concept_id in self._graph:
                return ResolvedLabel(
                    concept_id=concept_id, laterality=laterality, name=concept.name, tied_by=match.tied_by
                )
        return None

    def _of_graph(self, label: str) -> ResolvedLabel | None:
        rest, laterality = split_laterality(label)
        found = self._find(normalise(label), None)
        for text in (rest, " ".join(folded_words(rest))):
            if found is None and laterality is not None:
                found = self._find(f"{laterality} {text}", None)
            if found is None:
                found = self._find(text, laterality)
        return found

    def _find(self, text: str, laterality: Laterality | None) -> ResolvedLabel | None:
        side = f"{laterality} " if laterality else ""
        bearers = self._graph.named(text)
        preferring = [concept for concept in bearers if normalise(concept.name) == text]
        for candidates in (preferring, bearers if len(text) >= _SHORT else []):
            chosen = [concept for concept in candidates if concept.source in self._prefer]
            if not chosen and not (candidates is bearers and len(text) == _SHORT):
                chosen = candidates
            if len(chosen) == 1:
                concept_id, beside = self._of_side(chosen[0].concept_id, laterality)
                return ResolvedLabel(
                    concept_id=concept_id,
                    laterality=beside,
                    name=f"{side}{text}",
                    tied_by="name" if candidates is preferring else "synonym",
                )
        return None

    def _of_side(self, concept_id: ConceptId, laterality: Laterality | None) -> tuple[ConceptId, Laterality | None]:
        """Returns the left or right one where handbook and graph have it, else the concept with the side beside it."""
        handbook = self._index.handbook
        sided = handbook.sides_of(concept_id).get(laterality) if laterality is not None else None
        return (sided, None) if sided is not None and sided in self._graph else (concept_id, laterality)
