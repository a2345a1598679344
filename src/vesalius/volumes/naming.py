"""Naming: what each label of a case stands for, so that no two regions of a case are the same structure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vesalius.ids import CaseId, ResolvedLabel, local_concept_id
from vesalius.volumes.case import Unresolved, UnresolvedLabel
from vesalius.volumes.image import LabelMap
from vesalius.volumes.regions import values_in

Resolver = Callable[[str], ResolvedLabel]
"""Label text → what it stands for."""

_READABLE = re.compile(r"[A-Za-z0-9]")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a label map of a case names, and what was left of it on the prepared grid.

    Attributes:
        labelling: who drew it.
        value_of: label text → its lowest value, of the labels that have a voxel.
        nameless: value → text or None, of the values that have a voxel but no name.
        empty: text → value of all labels, where the whole label map holds no voxel.
        left: the texts that have a voxel on the prepared grid.
        undrawn: the texts that the dataset lists but that no value is known to draw.
    """

    labelling: str
    value_of: Mapping[str, int]
    nameless: Mapping[int, str | None]
    empty: Mapping[str, int]
    left: frozenset[str]
    undrawn: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What the labels of a case stand for.

    Attributes:
        chosen: of each label map, label text → what its region stands for.
        resolved: label text → what the resolver said, for every label with a voxel.
        unresolved: labels that did not become a region of a concept.
    """

    chosen: tuple[dict[str, ResolvedLabel], ...]
    resolved: dict[str, ResolvedLabel]
    unresolved: tuple[UnresolvedLabel, ...]


def look_at(label_map: LabelMap, moved: LabelMap) -> Seen:
    """Returns what a label map names.

    Args:
        label_map: as its dataset gives it.
        moved: the same on the prepared grid.
    """
    value_of: dict[str, int] = {}
    nameless: dict[int, str | None] = {}
    values = values_in(label_map.data)
    for value in values:
        text = label_map.labels.get(value)
        if value in label_map.ignored:
            continue
        if text is not None and _READABLE.search(text):
            value_of.setdefault(text, value)
        else:
            nameless[value] = text
    return Seen(
        labelling=label_map.labelling,
        value_of=value_of,
        nameless=nameless,
        empty={} if values else {text: value for value, text in label_map.labels.items() if _READABLE.search(text)},
        left=frozenset(moved.labels[value] for value in values_in(moved.data) if value in moved.labels),
        undrawn=label_map.undrawn,
    )


def name_labels(seen: Sequence[Seen], resolver: Resolver, *, case_id: CaseId) -> Naming:
    """Resolves the labels that have a voxel and gives every region of the case its own key.

    Labels of one labelling that stand for the same structure are parts or variants of it, and none is the whole: each
    falls back to its own local id, but for the one that bears the concept's own name, if it is the only one. A
    structure that several labellings of a case draw (two atlases) is taken from the first of them; so is a text that
    several label maps of one labelling name.

    Args:
        seen: what each label map of the case names.
        resolver: label text → what it stands for.
        case_id: the case.
    """
    resolved = {text: resolver(text) for text in dict.fromkeys(text for one in seen for text in one.value_of)}
    told_by: dict[str, dict[str, ResolvedLabel]] = defaultdict(dict)
    for one in seen:
        told_by[one.labelling] |= {text: resolved[text] for text in one.value_of if text in one.left}
    own: dict[str, dict[str, ResolvedLabel]] = {}
    taken: set[str] = set()
    for labelling, told in told_by.items():
        named = _with_own_keys(told)
        own[labelling] = {text: tied for text, tied in named.items() if tied.key not in taken}
        taken |= {tied.key for tied in own[labelling].values()}
    chosen: list[dict[str, ResolvedLabel]] = []
    unresolved: list[UnresolvedLabel] = []
    for one in seen:
        free = own[one.labelling]
        chosen.append({text: free[text] for text in one.value_of if text in one.left and text in free})
        reasons = _reasons(one, chosen[-1], resolved)
        unresolved += [
            UnresolvedLabel(case_id=case_id, value=value, label=text, reason=reason) for value, text, reason in reasons
        ]
        own[one.labelling] = {text: tied for text, tied in free.items() if text not in chosen[-1]}
    return Naming(chosen=tuple(chosen), resolved=resolved, unresolved=tuple(unresolved))


def _reasons(
    one: Seen, chosen: Mapping[str, ResolvedLabel], resolved: Mapping[str, ResolvedLabel]
) -> Iterator[tuple[int, str | None, Unresolved]]:
    """Yields value, text and reason of each label that did not become a region of a concept."""
    for value, text in one.nameless.items():
        yield value, text, "no name"
    for text, value in one.empty.items():
        yield value, text, "no voxel"
    for text in sorted(one.undrawn):
        yield 0, text, "not drawn"
    for text, value in one.value_of.items():
        if text not in one.left:
            yield value, text, "no voxel left"
        elif text not in chosen:
            yield value, text, "drawn twice"
        elif chosen[text].tied_by == "none":
            yield value, text, "no concept" if resolved[text].tied_by == "none" else "shared concept"


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
