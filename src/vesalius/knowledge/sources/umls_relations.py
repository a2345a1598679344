"""What relations of the Metathesaurus say, each once and in one direction."""

from __future__ import annotations

from vesalius.knowledge.predicates import Predicate, predicate
from vesalius.knowledge.sources.rrf import RrfReader

REL = {
    "CHD": ("child_of", "as read"), "PAR": ("child_of", "turned"),
    "RN": ("narrower_than", "as read"), "RB": ("narrower_than", "turned"),
    "AQ": ("qualifier_of", "as read"), "QB": ("qualifier_of", "turned"),
    "RO": ("related_to", "both ways"), "RU": ("related_to", "both ways"), "RQ": ("possibly_same_as", "both ways"),
    "RL": ("similar_to", "both ways"), "SY": ("same_as", "both ways"), "SIB": ("sibling_of", "both ways"),
}  # fmt: skip
"""REL → predicate where RELA is empty, and how *CUI2 REL CUI1* reads as one. XR and DEL say that there is no relation."""

TURNED = {
    "caused_by": "causes", "cause_of": "causes", "contains": "contained_in", "diagnosed_by": "diagnoses",
    "innervated_by": "innervates", "mapped_from": "mapped_to", "prevented_by": "prevents",
    "receives_drainage_from": "drains_into", "see_from": "see", "supplied_by": "supplies", "surrounds": "surrounded_by",
    "treated_by": "treats", "used_by": "uses",
}  # fmt: skip
"""RELA → the word for the same relation from its other end, which is kept. Beside these, ``has_X`` becomes ``X_of``, and
``inverse_X`` becomes ``X``."""

SAME_BOTH_WAYS = frozenset({
    "adjacent_to", "alias_of", "articulates_with", "clinically_similar", "connected_to", "continuous_with", "co-occurs_with",
    "possibly_equivalent_to", "related_to", "same_as", "sib_in_branch_of", "sib_in_isa", "sib_in_part_of", "sib_in_tributary_of",
})  # fmt: skip
"""RELA that says the same from both ends: the smaller CUI becomes the subject."""

_ONE_WORD = {"isa": "is_a"}
"""RELA → the word that other sources use."""

NO_PREDICATE = "rela IS NOT NULL AND NOT regexp_matches(rela, '[\\p{L}\\p{N}]')"
"""Of a row of ``read_relations``: its RELA says nothing."""

RELATIONS_IN_SQL = """
    SELECT 'UMLS:' || CASE how WHEN 'as read' THEN cui2 WHEN 'turned' THEN cui1 ELSE least(cui1, cui2) END AS subject, predicate,
        'UMLS:' || CASE how WHEN 'as read' THEN cui1 WHEN 'turned' THEN cui2 ELSE greatest(cui1, cui2) END AS object, sab, line
    FROM read_relations
    JOIN predicates ON predicates.rel = read_relations.rel AND predicates.rela IS NOT DISTINCT FROM read_relations.rela
    LEFT JOIN known AS ones ON ones.cui = cui1 LEFT JOIN known AS others ON others.cui = cui2
    WHERE coalesce(ones.is_taken, true) AND coalesce(others.is_taken, true)
"""
"""Staged relations from ``read_relations`` (cui1, cui2, rel, rela, sab, line), ``predicates`` and ``known``."""


def load_predicates(reader: RrfReader) -> None:
    """Makes ``predicates`` (rel, rela, predicate, how), one row a pair of ``read_relations``."""
    found = reader.rows("SELECT DISTINCT rel, rela FROM read_relations WHERE rel NOT IN ('XR', 'DEL')")
    schema = {"rel": "VARCHAR", "rela": "VARCHAR", "predicate": "VARCHAR", "how": "VARCHAR"}
    reader.load("predicates", schema, ((rel, rela, *reading(rel, rela)) for rel, rela in sorted(found, key=str)))


def reading(rel: str, rela: str | None) -> tuple[Predicate, str]:
    """Returns the predicate of *CUI2 RELA CUI1* and how it is taken: ``as read``, ``turned`` or ``both ways``."""
    if rela is None:
        said, how = REL.get(rel, ("related_to", "both ways"))
        return predicate(said), how
    word = rela.lower()
    if word in SAME_BOTH_WAYS:
        return predicate(word), "both ways"
    how = "as read"
    if word in TURNED:
        word, how = TURNED[word], "turned"
    elif word.startswith("inverse_"):
        word, how = word.removeprefix("inverse_"), "turned"
    elif word.startswith("has_"):
        word, how = word.removeprefix("has_") + "_of", "turned"
    return predicate(_ONE_WORD.get(word, word)), how
