"""Identifiers: what names a concept, a case and a region."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NewType, get_args

from vesalius.errors import InputError

ConceptId = NewType("ConceptId", str)
"""A CURIE such as ``UBERON:0002107``."""

CaseId = NewType("CaseId", str)
"""Names a case within a store; safe as a file name."""

Laterality = Literal["left", "right"]
"""The patient's side, never the viewer's."""

Modality = Literal["ct", "mr", "us", "pet", "microscopy"]
"""Imaging modality of a case, in the order of the published modality embedding (ct 0 … microscopy 4)."""

MODALITIES: tuple[Modality, ...] = get_args(Modality)

Split = Literal["train", "validation", "test"]
"""Side of a split. Training reads train, choices read validation, reports read test."""

SPLITS: tuple[Split, ...] = get_args(Split)

TiedBy = Literal["name", "synonym", "spelling", "parts", "none"]
"""How a label was tied to its concept."""

LOCAL_PREFIX = "LABEL"
"""CURIE prefix of a label that no concept of the graph was found for."""

_CURIE = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*:[^\s:][^\s]*")
_UNSAFE = re.compile(r"[^a-z0-9]+")


def concept_id(text: str) -> ConceptId:
    """Returns `text` as a concept id.

    Raises:
        InputError: `text` is not a CURIE (``PREFIX:LOCAL`` without white space).
    """
    if not _CURIE.fullmatch(text):
        raise InputError(f"{text!r} is not a concept id", remedy="write a CURIE such as UBERON:0002107")
    return ConceptId(text)


def local_concept_id(label: str) -> ConceptId:
    """Returns the id of a label that ties to no concept: the same for every spelling that differs in case or punctuation."""
    return ConceptId(f"{LOCAL_PREFIX}:{slug(label)}")


def case_id(text: str) -> CaseId:
    """Returns a case id made from `text`: lower case, safe as a file name."""
    return CaseId(slug(text))


def slug(text: str) -> str:
    """Returns `text` in lower case with every run of other characters than a–z and 0–9 as one hyphen.

    Raises:
        InputError: nothing is left.
    """
    made = _UNSAFE.sub("-", text.lower()).strip("-")
    if not made:
        raise InputError(
            f"{text!r} holds no letter or digit to make a name from", remedy="give it a name in a–z and 0–9"
        )
    return made


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedLabel:
    """What a dataset's label stands for.

    Attributes:
        concept_id: the concept, or ``LABEL:…`` where the graph holds none.
        laterality: the side, where the label names one that `concept_id` does not imply.
        name: how to say it in a prompt: readable words, with the side.
        tied_by: ``name``, ``synonym``, ``spelling`` (of a dataset), ``parts`` (made of its left and its right), or ``none`` (tied to no
            concept).
    """

    concept_id: ConceptId
    laterality: Laterality | None
    name: str
    tied_by: TiedBy

    @property
    def key(self) -> str:
        """What makes two regions the same structure: the concept and its side."""
        return f"{self.concept_id}/{self.laterality}" if self.laterality else str(self.concept_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedWhole:
    """A structure that is its left and its right one together, such as the kidneys.

    Attributes:
        whole: what the two make up; tied by ``parts``.
        parts: the left one, then the right one.
    """

    whole: ResolvedLabel
    parts: tuple[ResolvedLabel, ResolvedLabel]
