"""What relations say: open snake_case words, and how each reads inside a sentence."""

from __future__ import annotations

import re
from typing import NewType

from vesalius.errors import InputError

Predicate = NewType("Predicate", str)
"""What a relation says, as a snake_case word such as ``part_of``. Open: a source brings its own."""

IS_A = Predicate("is_a")
PART_OF = Predicate("part_of")
IS_A_OR_PART_OF = Predicate("is_a_or_part_of")
"""For sources that do not say which of the two it is."""

CHILD_OF = Predicate("child_of")
NARROWER_THAN = Predicate("narrower_than")
"""What the Metathesaurus says where a vocabulary's hierarchy is not told to be "is a"."""

HIERARCHICAL = (IS_A, PART_OF, IS_A_OR_PART_OF, CHILD_OF, NARROWER_THAN)
"""Predicates whose object stands above their subject: the two are never contrasted."""

WORDS: dict[Predicate, str] = {
    Predicate(predicate): words
    for predicate, words in {
        "is_a": "is a",
        "part_of": "is part of",
        "has_part": "has as part",
        "is_a_or_part_of": "is a kind or part of",
        "adjacent_to": "is adjacent to",
        "continuous_with": "is continuous with",
        "surrounds": "surrounds",
        "surrounded_by": "is surrounded by",
        "located_in": "is located in",
        "connected_to": "is connected to",
        "develops_from": "develops from",
        "child_of": "is a child of",
        "narrower_than": "is narrower than",
        "related_to": "is related to",
        "sibling_of": "is a sibling of",
        "similar_to": "is similar to",
        "member_of": "is a member of",
        "branch_of": "is a branch of",
        "tributary_of": "is a tributary of",
        "finding_site_of": "is the finding site of",
        "regional_part": "has as regional part",
        "constitutional_part": "has as constitutional part",
        "systemic_part": "has as systemic part",
        "branch": "has as branch",
        "tributary": "has as tributary",
        "member": "has as member",
        "arterial_supply": "has its arterial supply from",
        "nerve_supply": "has its nerve supply from",
        "venous_drainage": "has its venous drainage by",
        "lymphatic_drainage": "has its lymphatic drainage by",
        "composed_primarily_of": "is composed primarily of",
        "in_left_side_of": "is in the left side of",
        "in_right_side_of": "is in the right side of",
        "left_of": "lies left of",
        "right_of": "lies right of",
        "superior_to": "lies above",
        "inferior_to": "lies below",
        "anterior_to": "lies in front of",
        "posterior_to": "lies behind",
        "mirror_of": "is the mirror image of",
        "next_in_series": "is followed in its series by",
    }.items()
}
"""Predicate → its words, where they are not simply its own with blanks. FMA's ``regional_part`` is ``regional_part_of`` turned."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_BLANKS = re.compile(r"[\s_]+")
_PARTICIPLE = re.compile(r"(.*(?:ed|en)_(?:by|to|in|with|from|at|on|of)|.*_of)")


def predicate(text: str) -> Predicate:
    """Returns `text` as a predicate: ``attachesTo``, ``attaches to`` and ``Attaches_To`` are all ``attaches_to``.

    Other characters stay, so that an edge such as ``connects to (via the stalk)`` can be written again as it was.

    Raises:
        InputError: `text` holds no letter or digit.
    """
    made = _BLANKS.sub("_", _CAMEL.sub("_", text).lower()).strip("_")
    if not any(letter.isalnum() for letter in made):
        raise InputError(f"{text!r} is no predicate", remedy="write a word such as part_of")
    return Predicate(made)


def words(predicate: str) -> str:
    """Returns `predicate` as it reads between subject and object of a sentence.

    A predicate without entry in `WORDS` is read as its own words (``attaches_to``: "attaches to"), behind "is" where it is
    a participle or a noun with its preposition (``innervated_by``, ``part_of``) and has no verb of its own.
    """
    if predicate in WORDS:
        return WORDS[Predicate(predicate)]
    plain = predicate.replace("_", " ")
    if _PARTICIPLE.fullmatch(predicate) and not plain.startswith(("is ", "has ", "was ", "are ")):
        return f"is {plain}"
    return plain
