"""How names are compared and read: spelling, and the side they speak of."""

from __future__ import annotations

import re
import unicodedata

from vesalius.ids import Laterality

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SEPARATORS = re.compile(r"[\s_\-/,.;:]+")
_SIDES: dict[str, Laterality] = {
    "left": "left", "right": "right", "l": "left", "r": "right",
    "lh": "left", "rh": "right", "sinister": "left", "dexter": "right",
}  # fmt: skip
_LONG_SIDES = frozenset({"left", "right"})


def normalise(text: str) -> str:
    """Returns `text` as it is compared: Unicode NFKC, lower case, runs of white space and ``_-/,.;:`` as one blank.

    An empty text, or one of separators only, gives the empty string.
    """
    return _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", text)).strip().lower()


def split_laterality(label: str) -> tuple[str, Laterality | None]:
    """Takes the side out of a label as datasets write them.

    ``Left-Hippocampus``, ``hippocampus_left``, ``Hippocampus_L``, ``ctx-lh-cuneus`` and ``LeftHippocampus`` name a side;
    single letters and ``lh``/``rh`` count only as the first or last word, or behind ``ctx``.

    Returns:
        The normalised rest and the side, or the normalised label and None where it names no side, or both sides.
    """
    words = normalise(_CAMEL.sub(" ", label)).split()
    if words[:1] == ["ctx"]:
        words = words[1:]
    found = [
        index
        for index, word in enumerate(words)
        if word in _LONG_SIDES or (word in _SIDES and index in (0, len(words) - 1))
    ]
    if len(found) != 1 or len(words) == 1:
        return " ".join(words), None
    (index,) = found
    return " ".join(words[:index] + words[index + 1 :]), _SIDES[words[index]]
