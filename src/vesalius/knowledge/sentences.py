"""Relations as texts: the two published templates, and sentences of our own.

A relation says two things that can be asked for: its subject ("part of the urinary system" – which structure is?) and its object
("left kidney is part of" – of what?). A text names one end and leaves the other open; the name of the open end answers it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from vesalius.knowledge.predicates import words

RelationForm = Literal["published", "sentence"]
"""`published`: the templates of SAT-Pretrain; `sentence`: the ones written here."""

End = Literal["subject", "object"]
"""The end of a relation that a text leaves open."""

ARTICLE = "the "
"""What a name may begin with that templates write themselves."""

_PLACES = frozenset({
    "above", "along", "anterior", "anteroinferior", "anterolateral", "anteromedial", "anterosuperior", "at", "behind", "below",
    "beneath", "beside", "between", "caudal", "close", "continuous", "cranial", "deep", "distal", "dorsal", "in", "inferior",
    "inferolateral", "inferomedial", "lateral", "left", "medial", "near", "on", "over", "posterior", "posteroinferior",
    "posterolateral", "posteromedial", "posterosuperior", "proximal", "right", "rostral", "superficial", "superior",
    "superolateral", "superomedial", "under", "ventral", "within",
})  # fmt: skip
"""First words of predicates that say a place and no verb, such as FMA's ``continuous_distally_with`` and ``left_medial_to``."""

_HOLES = re.compile(r"(\{subject\}|\{object\})")


def published_text(predicate: str, named: str, *, asked: End) -> str:
    """Returns a relation's text as SAT-Pretrain writes it: ``edge target`` asks for the subject, ``source edge`` for the object.

    Args:
        predicate: in snake case; its words are what the published files call an edge.
        named: name of the end that is not asked for; lower-cased, as published.
        asked: the open end.
    """
    edge = predicate.replace("_", " ")
    return f"{edge} {named.lower()}" if asked == "subject" else f"{named.lower()} {edge}"


def sentences(predicate: str, *, asked: End) -> tuple[str, ...]:
    """Returns the templates that ask for one end of a relation, with ``{subject}`` and ``{object}`` to fill in.

    The ones that leave the asked end unnamed come first; the last of those for a subject names both, so that whole sentences
    stay near what they speak of. A predicate without templates of its own gets general ones made of its words.
    """
    written = _SUBJECT_SENTENCES if asked == "subject" else _OBJECT_SENTENCES
    if predicate in written:
        return written[predicate]
    says = _clause(predicate)
    if asked == "subject":
        return (f"It {says} {{object}}.", f"A structure that {says} {{object}}.", f"{{subject}} {says} {{object}}.")
    return (f"{{subject}} {says} it.", f"A structure that {{subject}} {says}.")


def _clause(predicate: str) -> str:
    """Returns the words of a predicate with a verb: ``situated_behind`` and ``inferior_to`` get their "is"."""
    says = words(predicate)
    first = says.split()[0]
    return f"is {says}" if first in _PLACES or first.endswith("ed") else says


def sentence(template: str, *, subject: str, object: str) -> str:  # noqa: A002  the word of the house
    """Returns `template` with names put in, its first letter a capital; an article that a name brings along is dropped."""
    names = {"{subject}": subject.removeprefix(ARTICLE), "{object}": object.removeprefix(ARTICLE)}
    return _capital("".join(names.get(part, part) for part in _HOLES.split(template)))


def sentence_parts(template: str) -> tuple[str, str, str, str, str]:
    """Returns what a template is made of: text, hole, text, hole, text; a hole is ``subject``, ``object`` or empty."""
    parts = [part.strip("{}") if place % 2 else part for place, part in enumerate(_HOLES.split(template))]
    before, one, between, other, after = [*parts, "", ""][:5]
    return before, one, between, other, after


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _subject(*phrases: str, whole: str) -> tuple[str, ...]:
    return (*phrases, whole)


_SUBJECT_SENTENCES: Mapping[str, tuple[str, ...]] = {
    "is_a": _subject(
        "A kind of {object}.", "It is a {object}.", "One of the things called {object}.",
        whole="{subject} is a kind of {object}.",
    ),
    "part_of": _subject(
        "A part of the {object}.", "This structure is part of the {object}.", "It belongs to the {object}.",
        whole="The {subject} is part of the {object}.",
    ),
    "is_a_or_part_of": _subject(
        "A kind or part of {object}.", "It is a {object} or a part of one.",
        whole="{subject} is a kind or part of {object}.",
    ),
    "has_part": _subject(
        "The {object} is part of it.", "This structure contains the {object}.",
        whole="The {subject} contains the {object}.",
    ),
    "located_in": _subject(
        "It lies in the {object}.", "A structure located in the {object}.",
        whole="The {subject} lies in the {object}.",
    ),
    "adjacent_to": _subject(
        "It lies next to the {object}.", "A neighbour of the {object}.",
        whole="The {subject} lies next to the {object}.",
    ),
    "continuous_with": _subject(
        "It continues as the {object}.", "A structure continuous with the {object}.",
        whole="The {subject} is continuous with the {object}.",
    ),
    "connected_to": _subject(
        "It is connected to the {object}.", "A structure that connects to the {object}.",
        whole="The {subject} is connected to the {object}.",
    ),
    "develops_from": _subject(
        "It develops from the {object}.", "The {object} gives rise to it.",
        whole="The {subject} develops from the {object}.",
    ),
    "supplies": _subject(
        "It supplies the {object} with blood.", "An artery of the {object}.",
        whole="The {subject} supplies the {object} with blood.",
    ),
    "drains": _subject(
        "It drains the {object}.", "A vessel that takes up what flows from the {object}.",
        whole="The {subject} drains the {object}.",
    ),
    "innervates": _subject(
        "It innervates the {object}.", "A nerve of the {object}.",
        whole="The {subject} innervates the {object}.",
    ),
    "innervated_by": _subject(
        "The {object} innervates it.", "A structure whose nerve is the {object}.",
        whole="The {subject} is innervated by the {object}.",
    ),
    "attached_to": _subject(
        "It is attached to the {object}.", "A structure fixed to the {object}.",
        whole="The {subject} is attached to the {object}.",
    ),
    "connects": _subject(
        "It connects to the {object}.", "One of the structures that the {object} is joined to.",
        whole="The {subject} connects to the {object}.",
    ),
    "branch_of": _subject(
        "A branch of the {object}.", "It branches off the {object}.",
        whole="The {subject} is a branch of the {object}.",
    ),
    "branching_part_of": _subject(
        "A branch of the {object}.", "It branches off as part of the {object}.",
        whole="The {subject} is a branching part of the {object}.",
    ),
    "tributary_of": _subject(
        "A tributary of the {object}.", "It flows into the {object}.",
        whole="The {subject} is a tributary of the {object}.",
    ),
    "has_muscle_origin": _subject(
        "A muscle that arises from the {object}.", "Its origin is on the {object}.",
        whole="The {subject} arises from the {object}.",
    ),
    "has_muscle_insertion": _subject(
        "A muscle that inserts on the {object}.", "Its insertion is on the {object}.",
        whole="The {subject} inserts on the {object}.",
    ),
    "surrounds": _subject(
        "It surrounds the {object}.", "The {object} lies within it.",
        whole="The {subject} surrounds the {object}.",
    ),
    "surrounded_by": _subject(
        "It lies within the {object}.", "The {object} surrounds it.",
        whole="The {subject} is surrounded by the {object}.",
    ),
}  # fmt: skip

_OBJECT_SENTENCES: Mapping[str, tuple[str, ...]] = {
    "is_a": ("{subject} is a kind of it.", "What {subject} is.", "{subject} is an example."),
    "part_of": (
        "The {subject} is part of it.", "The {subject} belongs to this structure.",
        "This structure contains the {subject}.",
    ),
    "is_a_or_part_of": ("{subject} is a kind or part of it.", "{subject} belongs here."),
    "has_part": ("A part of the {subject}.", "The {subject} contains it."),
    "located_in": ("The {subject} lies in it.", "Here the {subject} is found."),
    "adjacent_to": ("The {subject} lies next to it.", "It has the {subject} as its neighbour."),
    "continuous_with": ("The {subject} continues as it.", "It is where the {subject} leads."),
    "connected_to": ("The {subject} is connected to it.", "What the {subject} connects to."),
    "develops_from": ("The {subject} develops from it.", "It gives rise to the {subject}."),
    "supplies": ("The {subject} supplies it with blood.", "It receives blood from the {subject}."),
    "drains": ("The {subject} drains it.", "What the {subject} drains."),
    "innervates": ("The {subject} innervates it.", "Its nerve is the {subject}."),
    "innervated_by": ("It innervates the {subject}.", "The nerve of the {subject}."),
    "attached_to": ("The {subject} is attached to it.", "It gives attachment to the {subject}."),
    "connects": ("The {subject} connects to it.", "One of the structures that the {subject} joins."),
    "branch_of": ("The {subject} is a branch of it.", "It gives off the {subject}."),
    "branching_part_of": ("The {subject} is a branching part of it.", "It gives off the {subject}."),
    "tributary_of": ("The {subject} is a tributary of it.", "It takes up the {subject}."),
    "has_muscle_origin": ("The {subject} arises from it.", "The origin of the {subject}."),
    "has_muscle_insertion": ("The {subject} inserts on it.", "The insertion of the {subject}."),
    "surrounds": ("The {subject} surrounds it.", "It lies within the {subject}."),
    "surrounded_by": ("The {subject} is surrounded by it.", "It surrounds the {subject}."),
}  # fmt: skip
