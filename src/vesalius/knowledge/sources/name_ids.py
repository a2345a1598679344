"""Ids of concepts that a source knows by their name alone."""

from __future__ import annotations

import hashlib

from vesalius.errors import InputError
from vesalius.ids import slug

PREFIX = "NAME"
"""CURIE prefix of an id made from a name."""

_MAX_SLUG = 60


def name_id(name: str) -> str:
    """Returns the id of the concept called `name`, the same in every file: ``left kidney`` is ``NAME:left-kidney``.

    Where the slug says less than the name (other characters than a–z, 0–9 and single blanks, or more than 60 of them), eight digits
    of the SHA-256 of the name follow. Names that differ in case or in blanks have the same id.
    """
    key = folded(name)
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    try:
        short = slug(key)
    except InputError:  # no letter or digit of a–z and 0–9
        return f"{PREFIX}:{digest[:16]}"
    if short.replace("-", " ") == key and len(short) <= _MAX_SLUG:
        return f"{PREFIX}:{short}"
    return f"{PREFIX}:{short[:_MAX_SLUG].strip('-')}-{digest[:8]}"


def folded(name: str) -> str:
    """Returns `name` in lower case, its runs of white space as one blank."""
    return " ".join(name.lower().split())
