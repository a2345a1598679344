"""What the prefix of an id tells: which spellings are one, what its concepts are, which ids never tie concepts together."""

from __future__ import annotations

SAME_PREFIX: dict[str, str] = {
    "SCTID": "SNOMED", "SNOMEDCT": "SNOMED", "SNOMEDCT_US": "SNOMED", "SCT": "SNOMED",
    "NCIT": "NCI", "NCITHESAURUS": "NCI",
    "MSH": "MESH",
    "UMLS_CUI": "UMLS",
    "HPO": "HP",
    "ORPHA": "ORPHANET", "ORDO": "ORPHANET",
    "ICD-10-CM": "ICD10CM",
}  # fmt: skip
"""Prefix in upper case → the one spelling that xrefs are compared in."""

_ANATOMY = (
    "UBERON", "FMA", "CL", "EMAPA", "EMAPS", "MA", "ZFA", "XAO", "TAO", "VHOG", "AAO", "EHDAA", "EHDAA2", "BTO", "TA2", "AEO",
    "CARO", "HBA", "MBA", "DHBA", "BSPO", "RADLEX", "FBBT", "WBBT",
)  # fmt: skip
_DISEASE = ("MONDO", "DOID", "OMIM", "OMIMPS", "ORPHANET", "ICD10CM", "ICD9CM", "ICDO", "HP", "MEDGEN", "NORD")

DOMAINS: dict[str, str] = {**dict.fromkeys(_ANATOMY, "anatomy"), **dict.fromkeys(_DISEASE, "disease")}
"""Prefix in upper case → what its concepts are. A source may say it of each concept instead (`Staging.concept`)."""

NEVER_TIES = frozenset({
    "WIKIPEDIA", "WIKIPEDIACATEGORY", "HTTP", "HTTPS", "PMID", "PMC", "DOI", "ISBN", "ISBN10", "ISBN13", "ORCID",
    "GC_ID", "URL", "GITHUB", "SEMAPV",
})  # fmt: skip
"""Prefixes in upper case of pages and papers: two concepts that name the same page are not one."""
