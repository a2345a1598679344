"""What a property of an ontology is called as a predicate."""

from __future__ import annotations

from vesalius.knowledge.sources.iris import local_part

WELL_KNOWN: dict[str, str] = {
    "BFO:0000050": "part_of",
    "BFO:0000051": "has_part",
    "BFO:0000062": "preceded_by",
    "BFO:0000063": "precedes",
    "BFO:0000066": "occurs_in",
    "RO:0001015": "location_of",
    "RO:0001025": "located_in",
    "RO:0002005": "innervated_by",
    "RO:0002131": "overlaps",
    "RO:0002134": "innervates",
    "RO:0002150": "continuous_with",
    "RO:0002170": "connected_to",
    "RO:0002176": "connects",
    "RO:0002178": "supplies",
    "RO:0002179": "drains",
    "RO:0002202": "develops_from",
    "RO:0002203": "develops_into",
    "RO:0002219": "surrounded_by",
    "RO:0002220": "adjacent_to",
    "RO:0002221": "surrounds",
    "RO:0002225": "develops_from_part_of",
    "RO:0002254": "has_developmental_contribution_from",
    "RO:0002371": "attached_to",
    "RO:0002372": "has_muscle_origin",
    "RO:0002373": "has_muscle_insertion",
    "RO:0002376": "tributary_of",
    "RO:0002380": "branching_part_of",
    "RO:0002433": "contributes_to_morphology_of",
    "RO:0002473": "composed_primarily_of",
    "RO:0002494": "transformation_of",
    "RO:0002495": "immediate_transformation_of",
    "RO:0002551": "has_skeleton",
    "RO:0002571": "lumen_of",
    "RO:0002572": "luminal_space_of",
}
"""Properties of the Relation Ontology whose label a file may lack (it uses them without declaring them)."""

_SAME = {"isa": "is_a", "subclass of": "is_a", "subclassof": "is_a"}


def predicate_name(identifier: str, label: str | None) -> str:
    """Returns the words a property is known by: its label, else its entry in `WELL_KNOWN`, else the last part of its id.

    ``isa`` is ``is_a``. The caller's staging makes snake_case of it.

    Args:
        identifier: CURIE, IRI or short name (``part_of``).
        label: its name in the file, or None.
    """
    found = (label or "").strip() or WELL_KNOWN.get(identifier)
    if found is None:
        found = identifier if ":" in identifier and "/" not in identifier else local_part(identifier)
    return _SAME.get(found.lower(), found)
