"""How names are compared and read: spelling, and the side they speak of."""

from __future__ import annotations

import re
import unicodedata

from vesalius.ids import Laterality

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SEPARATORS = re.compile(r"[\s_\-/,.;:]+")
_SIDES: dict[str, Laterality] = {
    "left": "left", "right": "right", "l": "left", "r": "right",
    "lh": "left", "rh": "right", "lt": "left", "rt": "right", "sinister": "left", "dexter": "right",
}  # fmt: skip
_LONG_SIDES = frozenset({"left", "right"})
_WORD = re.compile(r"[^\W\d_]{3,}(?=\d)|[^\W_]+")
"""A word; digits behind three letters or more are one of their own ("rib01")."""

_AMERICAN = (
    ("oedem", "edem"), ("oesoph", "esoph"), ("haem", "hem"), ("aemi", "emi"), ("coeli", "celi"), ("caec", "cec"), ("foet", "fet"),
    ("tumour", "tumor"), ("fibre", "fiber"), ("grey", "gray"), ("disk", "disc"),
)  # fmt: skip
"""How a part of a word is spelled in British English, and how here."""

_SINGULARS = {
    "ganglia": "ganglion", "atria": "atrium", "testes": "testis", "phalanges": "phalanx", "metastases": "metastasis", "feet": "foot",
    "teeth": "tooth", "glnd": "gland", "nrv": "nerve",
}  # fmt: skip
"""Word → its singular where `_PLURALS` do not make it; and two words that lists of labels cut short."""

_PLURALS = (
    ("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("s", ""), ("ae", "a"), ("i", "us"),
)  # fmt: skip
"""Ending of a plural → that of its singular; what looks like one and is none ("callosi") is changed wherever it stands."""

_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth",
)  # fmt: skip
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii")
_NUMBERS = {word: str(number) for words in (_ORDINALS, _ROMAN) for number, word in enumerate(words, start=1)}
_NUMBERED = re.compile(r"(?P<letters>[a-z]{0,2})0*(?P<number>\d+)(?:st|nd|rd|th)?")
_IDLE = frozenset({"of", "the"})


def normalise(text: str) -> str:
    """Returns `text` as it is compared: Unicode NFKC, lower case, runs of white space and ``_-/,.;:`` as one blank.

    An empty text, or one of separators only, gives the empty string.
    """
    return _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", text)).strip().lower()


def split_laterality(label: str) -> tuple[str, Laterality | None]:
    """Takes the side out of a label as datasets write them.

    ``Left-Hippocampus``, ``hippocampus_left``, ``Hippocampus_L``, ``ctx-lh-cuneus`` and ``LeftHippocampus`` name a side;
    single letters, ``lh``/``rh`` and ``lt``/``rt`` count only as the first or last word, or behind ``ctx``.

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


def folded_words(text: str) -> tuple[str, ...]:
    """Returns the words of `text` brought to one spelling, in their order.

    Singular, in American English, numbers in digits without leading zeros (``viii``, ``7th``, ``05``), ``th5`` as ``t5``, a letter
    joined with the number behind it; without "of", "the" and punctuation. What comes out is for comparing, not for reading.
    """
    words: list[str] = []
    for word in _WORD.findall(normalise(text)):
        made = _folded_word(word)
        if made.isdigit() and words and (len(words[-1]) == 1 or words[-1] == "th"):
            words[-1] = words[-1][0] + made
        elif made not in _IDLE:
            words.append(made)
    return tuple(words)


def _folded_word(word: str) -> str:
    if word in _NUMBERS or word in _SINGULARS:
        return _NUMBERS.get(word) or _SINGULARS[word]
    numbered = _NUMBERED.fullmatch(word)
    if numbered is not None:
        return numbered["letters"].replace("th", "t") + numbered["number"]
    for british, american in _AMERICAN:
        word = word.replace(british, american)
    if len(word) > 3 and not word.endswith(("ss", "us", "is", "as")):
        for plural, singular in _PLURALS:
            if word.endswith(plural):
                return word.removesuffix(plural) + singular
    return word
