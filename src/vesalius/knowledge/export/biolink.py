"""Our words in those of the Biolink model.

Source: Biolink model 4.4.4 (https://github.com/biolink/biolink-model), slots below ``related to`` and classes below ``named thing``.
"""

from __future__ import annotations

FALLBACK_PREDICATE = "biolink:related_to"
FALLBACK_CATEGORY = "biolink:NamedThing"

PREDICATES: dict[str, str] = {
    "is_a": "biolink:subclass_of",
    "part_of": "biolink:part_of",
    "has_part": "biolink:has_part",
    "branching_part_of": "biolink:part_of",
    "subdivision_of": "biolink:part_of",
    "member_of": "biolink:member_of",
    "located_in": "biolink:located_in",
    "location_of": "biolink:location_of",
    "develops_from": "biolink:develops_from",
    "develops_into": "biolink:develops_into",
    "overlaps": "biolink:overlaps",
    "composed_primarily_of": "biolink:composed_primarily_of",
    "lacks_part": "biolink:lacks_part",
    "present_in_taxon": "biolink:in_taxon",
    "in_taxon": "biolink:in_taxon",
    "capable_of": "biolink:capable_of",
    "produces": "biolink:produces",
    "produced_by": "biolink:produced_by",
    "precedes": "biolink:precedes",
    "preceded_by": "biolink:preceded_by",
    "occurs_in": "biolink:occurs_in",
    "has_participant": "biolink:has_participant",
    "expressed_in": "biolink:expressed_in",
    "causes": "biolink:causes",
    "has_phenotype": "biolink:has_phenotype",
    "manifestation_of": "biolink:manifestation_of",
    "disease_has_location": "biolink:disease_has_location",
}
"""Predicate → Biolink predicate. What is not here becomes `FALLBACK_PREDICATE`; the original is always given beside it."""

CATEGORIES: dict[str, str] = {
    "UBERON": "biolink:AnatomicalEntity",
    "FMA": "biolink:AnatomicalEntity",
    "EMAPA": "biolink:AnatomicalEntity",
    "MA": "biolink:AnatomicalEntity",
    "BSPO": "biolink:AnatomicalEntity",
    "SAT": "biolink:AnatomicalEntity",
    "CL": "biolink:Cell",
    "MONDO": "biolink:Disease",
    "DOID": "biolink:Disease",
    "HP": "biolink:PhenotypicFeature",
    "CHEBI": "biolink:ChemicalEntity",
    "NCBITaxon": "biolink:OrganismTaxon",
}
"""Prefix of a concept id → Biolink category. What is not here is a `FALLBACK_CATEGORY`: a UMLS id says nothing of its kind."""

CURATED = frozenset({"uberon", "mondo", "obo", "owl", "obograph", "umls"})
"""Sources whose relations people wrote down: knowledge assertions of manual agents. Of others it is not provided."""
