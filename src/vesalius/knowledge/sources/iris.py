"""Between the addresses that OWL and OBO Graph JSON write and the CURIEs of the graph.

Source: https://obofoundry.org/principles/fp-003-uris.html: ``http://purl.obolibrary.org/obo/UBERON_0002107`` is ``UBERON:0002107``.
"""

from __future__ import annotations

import re

_PURL = re.compile(
    r"https?://purl\.obolibrary\.org/obo/([A-Za-z][A-Za-z0-9._\-]*)_([A-Za-z0-9.\-]*[0-9][A-Za-z0-9.\-]*)"
)
"""Prefix, up to the last underscore, and a local part that holds a digit."""

PREFIXES: dict[str, str] = {
    "http://purl.org/sig/ont/fma/fma": "FMA",
    "http://snomed.info/id/": "SCTID",
    "http://www.snomed.info/id/": "SCTID",
    "http://snomed.info/sct/": "SCTID",
    "http://www.ebi.ac.uk/efo/EFO_": "EFO",
    "http://www.orpha.net/ORDO/Orphanet_": "Orphanet",
    "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl#": "NCIT",
    "http://id.nlm.nih.gov/mesh/": "MESH",
    "http://identifiers.org/mesh/": "MESH",
    "http://linkedlifedata.com/resource/umls/id/": "UMLS",
    "http://www.radlex.org/RID/": "RADLEX",
    "http://radlex.org/RID/": "RADLEX",
    "http://identifiers.org/hgnc/": "HGNC",
    "http://uri.interlex.org/base/ilx_": "ILX",
}
"""Beginning of an address → CURIE prefix, for ids outside the OBO library."""


def curie_of(iri: str) -> str:
    """Returns the CURIE of an address: by the rule of OBO PURLs, else by `PREFIXES`; an address that neither knows is its own id.

    What is no address (a CURIE already) comes back as it is.
    """
    if not iri.startswith("http"):
        return iri
    purl = _PURL.fullmatch(iri)
    if purl is not None:
        return f"{purl[1]}:{purl[2]}"
    for beginning, prefix in PREFIXES.items():
        if iri.startswith(beginning) and len(iri) > len(beginning):
            return f"{prefix}:{iri[len(beginning) :]}"
    return iri


def local_part(iri: str) -> str:
    """Returns what stands behind the last ``#`` or ``/`` of an address."""
    return re.split(r"[#/]", iri)[-1] or iri
