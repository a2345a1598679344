"""Which concepts are trained on, and which are held out."""

from __future__ import annotations

import hashlib
from collections import defaultdict

from vesalius.ids import ConceptId, Split
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.names import normalise

TRAIN_SHARE = 0.8
VALIDATION_SHARE = 0.1


def split_concepts(graph: Graph) -> dict[ConceptId, Split]:
    """Puts every concept, with all its texts, on one side: 80 % train, 10 % validation, 10 % test.

    Concepts that share an xref, name each other as xref, or share an exact name (normalised) form a group; a group's side
    is decided by a hash of its smallest id alone. So no text of a held-out concept is trained on under another id, and the
    side of a concept does not change when others are added, unless they join it.
    """
    leader: dict[str, str] = {}

    def find(item: str) -> str:
        while leader.setdefault(item, item) != item:
            leader[item] = leader[leader[item]]
            item = leader[item]
        return item

    for concept in graph:
        mine = find(f"id {concept.concept_id}")
        joined = [f"name {normalise(text)}" for text in concept.exact_names()]
        joined += [f"id {xref.target}" for xref in concept.xrefs]
        for item in joined:
            leader[find(item)] = mine

    groups: dict[str, list[ConceptId]] = defaultdict(list)
    for concept in graph:
        groups[find(f"id {concept.concept_id}")].append(concept.concept_id)
    sides: dict[ConceptId, Split] = {}
    for members in groups.values():
        side = _side(min(members))
        sides.update(dict.fromkeys(members, side))
    return sides


def _side(concept_id: ConceptId) -> Split:
    share = int.from_bytes(hashlib.sha256(concept_id.encode()).digest()[:8], "big") / 2**64
    if share < TRAIN_SHARE:
        return "train"
    return "validation" if share < TRAIN_SHARE + VALIDATION_SHARE else "test"
