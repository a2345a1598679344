"""Naming: what each label of a case stands for, so that no two regions of a case are the same structure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vesalius.ids import CaseId, ResolvedLabel, local_concept_id
from vesalius.volumes.case import UnresolvedLabel
from vesalius.volumes.image import LabelMap
from vesalius.volumes.regions import values_in

Resolver = Callable[[str], ResolvedLabel]
"""Label text → what it stands for."""

_READABLE = re.compile(r"[A-Za-z0-9]")


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What the labels of a case stand for.

    Attributes:
        resolved_by_map: of each label map, label text → what its region stands for.
        resolved: label text → what the resolver said, for every label with a voxel.
        unresolved: labels that did not become a region of a concept.
    """

    resolved_by_map: tuple[dict[str, ResolvedLabel], ...]
    resolved: dict[str, ResolvedLabel]
    unresolved: tuple[UnresolvedLabel, ...]


def name_labels(
    label_maps: Sequence[LabelMap], resampled: Sequence[LabelMap], resolver: Resolver, *, case_id: CaseId
) -> Naming:
    """Resolves the labels that have a voxel and gives every region of the case its own key.

    Labels of one label map that stand for the same structure are parts or variants of it, and none is the whole: each
    falls back to its own local id, but for the one that bears the concept's own name, if it is the only one. A
    structure that several label maps of a case draw (two atlases) is taken from the first of them.

    Args:
        label_maps: of the case, as its dataset gives them.
        resampled: the same on the prepared grid.
        resolver: label text → what it stands for.
        case_id: the case.
    """
    resolved: dict[str, ResolvedLabel] = {}
    by_map: list[dict[str, ResolvedLabel]] = []
    unresolved: list[UnresolvedLabel] = []
    taken: set[str] = set()
    for label_map, moved in zip(label_maps, resampled, strict=True):
        value_of, nameless = _present(label_map)
        unresolved += [
            UnresolvedLabel(case_id=case_id, value=value, label=label_map.labels.get(value), reason="no name")
            for value in nameless
        ]
        left = {moved.labels.get(value) for value in values_in(moved.data)}
        told = {text: resolver(text) for text in value_of}
        resolved |= told
        chosen: dict[str, ResolvedLabel] = {}
        for text, tied in _with_own_keys({text: tied for text, tied in told.items() if text in left}).items():
            if tied.key in taken:
                reason = "drawn twice"
            else:
                chosen[text] = tied
                reason = (
                    None
                    if tied.tied_by != "none"
                    else "no concept"
                    if told[text].tied_by == "none"
                    else "shared concept"
                )
            if reason is not None:
                unresolved.append(UnresolvedLabel(case_id=case_id, value=value_of[text], label=text, reason=reason))
        unresolved += [
            UnresolvedLabel(case_id=case_id, value=value, label=text, reason="no voxel left")
            for text, value in value_of.items()
            if text not in left
        ]
        taken |= {tied.key for tied in chosen.values()}
        by_map.append(chosen)
    return Naming(resolved_by_map=tuple(by_map), resolved=resolved, unresolved=tuple(unresolved))


def _present(label_map: LabelMap) -> tuple[dict[str, int], list[int]]:
    """Returns label text → lowest value, of the labels that have a voxel; and the values that have no name."""
    value_of: dict[str, int] = {}
    nameless = []
    for value in values_in(label_map.data):
        text = label_map.labels.get(value, "")
        if _READABLE.search(text):
            value_of.setdefault(text, value)
        else:
            nameless.append(value)
    return value_of, nameless


def _with_own_keys(told: Mapping[str, ResolvedLabel]) -> dict[str, ResolvedLabel]:
    texts_of: dict[str, list[str]] = defaultdict(list)
    for text, tied in told.items():
        texts_of[tied.key].append(text)
    own: dict[str, ResolvedLabel] = {}
    for text, tied in told.items():
        rivals = texts_of[tied.key]
        named = [rival for rival in rivals if told[rival].tied_by == "name"]
        own[text] = tied if len(rivals) == 1 or named == [text] else _local(text, taken={o.key for o in own.values()})
    return own


def _local(text: str, *, taken: set[str]) -> ResolvedLabel:
    concept_id, number = local_concept_id(text), 1
    while concept_id in taken:  # texts that differ in punctuation only, such as T+ and T-
        number += 1
        concept_id = local_concept_id(f"{text} {number}")
    return ResolvedLabel(
        concept_id=concept_id, laterality=None, name=" ".join(text.replace("_", " ").split()), tied_by="none"
    )
