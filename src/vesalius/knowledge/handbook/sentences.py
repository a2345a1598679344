"""Ranges as sentences, so that numbers and words cannot drift apart."""

from __future__ import annotations

from vesalius.knowledge.handbook.entry import Interval
from vesalius.knowledge.handbook.expand import HandbookConcept

_UNITS = {"ml": "ml", "mm": "mm"}


def appearance_sentences(concept: HandbookConcept) -> list[str]:
    """Returns how a concept looks on ct and mr, a text a modality, with its densities; empty where nothing is written."""
    made = []
    for modality, seen in concept.body.appearance.items():
        parts = [seen.text] if seen.text else []
        if seen.density_hu is not None:
            parts.append(f"Its mean density on unenhanced CT is {_range(seen.density_hu)} HU.")
        if seen.enhanced_hu is not None:
            parts.append(f"After contrast medium it is {_range(seen.enhanced_hu)} HU.")
        assert parts, (concept.concept_id, modality)
        made.append(" ".join(parts))
    return made


def size_sentence(concept: HandbookConcept) -> list[str]:
    """Returns one sentence of a concept's size in adults; empty where no size is written."""
    if not concept.size:
        return []
    said = []
    for quantity, interval in concept.size.items():
        name, _, unit = quantity.rpartition("_")
        said.append(f"{name} {_range(interval)} {_UNITS[unit]}")
    return [f"Size in adults: {', '.join(said)}."]


def _range(interval: Interval) -> str:
    low, high = interval
    return f"{low:g} to {high:g}"
