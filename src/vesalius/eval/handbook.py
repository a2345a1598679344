"""The handbook against real scans: what it says of place, contact, size and density, and what label maps measure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from vesalius.arrays import Box, Mask
from vesalius.ids import CaseId, ConceptId
from vesalius.knowledge.handbook.entry import SPATIAL, Interval
from vesalius.knowledge.handbook.expand import Handbook, HandbookConcept
from vesalius.volumes.regions import Region
from vesalius.volumes.store import CaseStore

CONTACT_MM = 5.0
"""Two regions touch where they come this near: masks leave the fat between organs out."""

ENHANCED_HU = 90.0
"""A ct was taken after contrast medium where a large vessel is denser than this on average."""

BLOOD = ("aorta", "inferior vena cava", "heart", "portal and splenic vein", "left ventricle", "pulmonary artery")
"""Names of the structures that tell whether there is contrast medium in the blood."""

_AXIS = {"left_of": (0, -1), "superior_to": (2, 1), "anterior_to": (1, 1)}
"""Predicate → world axis (x y z in RAS+) and the sign of subject minus object along it."""

Kind = Literal["left_of", "superior_to", "anterior_to", "adjacent_to", "volume_ml", "density_hu"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One statement of the handbook, measured in one case.

    Attributes:
        kind: predicate, or the quantity.
        case_id: the case.
        subject: name of the concept.
        object: name of the other concept, or the stated range.
        measured: offset or distance in mm, volume in ml, density in HU.
        agrees: whether the statement holds.
        stated: False for what only follows by transitivity.
    """

    kind: Kind
    case_id: CaseId
    subject: str
    object: str
    measured: float
    agrees: bool
    stated: bool = True


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How the handbook agrees with the scans of a store.

    Attributes:
        findings: every statement that could be measured, in every case.
        num_cases: cases with a region of the handbook.
        num_cut: regions left out because the border of the image may cut them.
        unmeasured: stated relations between concepts that never were in one case together.
    """

    findings: tuple[Finding, ...]
    num_cases: int
    num_cut: int
    unmeasured: int

    def table(self) -> list[dict[str, Any]]:
        """Returns a row a kind: statements measured and agreeing, stated ones alone, and how many differ."""
        rows = []
        for kind in (*SPATIAL, "adjacent_to", "volume_ml", "density_hu"):
            found = [finding for finding in self.findings if finding.kind == kind]
            stated = [finding for finding in found if finding.stated]
            rows.append(
                {
                    "kind": kind,
                    "num": len(found),
                    "agree": sum(finding.agrees for finding in found),
                    "num_stated": len(stated),
                    "agree_stated": sum(finding.agrees for finding in stated),
                    "num_statements": len({(finding.subject, finding.object) for finding in found}),
                }
            )
        return rows

    def as_json(self) -> dict[str, Any]:
        """Returns the table and every disagreement, ready for `json.dump`."""
        return {
            "num_cases": self.num_cases,
            "num_cut": self.num_cut,
            "unmeasured": self.unmeasured,
            "table": self.table(),
            "disagreements": [asdict(finding) for finding in self.findings if not finding.agrees],
        }


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """A region of a case that the handbook knows, and that lies whole in the image."""

    concept: HandbookConcept
    region: Region


def evaluate_handbook(
    handbook: Handbook, store: CaseStore, *, advance: Callable[[CaseId], None] = lambda _: None
) -> Agreement:
    """Compares the handbook with every case of `store`, whose regions must be tied to the handbook's concepts.

    Place is compared by centroids in world space: of every pair of whole regions for which a relation is stated, or follows
    from stated ones by transitivity. Contact is compared by the smallest distance of two regions. A region that
    touches the border of the image is left out, but for contact that is there all the same. Volume and density are those of one
    structure, so that a region of both sides together is left out; densities only of ct, where no more than a
    twentieth of the voxels was clipped in preparation. Cut vessels serve to tell whether there is contrast medium.

    Args:
        handbook: all concepts.
        store: cases prepared with the handbook in the graph.
        advance: told of each case once it is done.

    Raises:
        FolderError: a case of the store is damaged.
    """
    closures = {predicate: _closure(handbook, predicate) for predicate in SPATIAL}
    adjacent = [
        (concept.concept_id, target)
        for concept in handbook
        for predicate, target in concept.relations
        if predicate == "adjacent_to"
    ]
    findings: list[Finding] = []
    num_cases = num_cut = 0
    seen: set[tuple[ConceptId, ConceptId]] = set()
    for row in store.cases:
        known = [
            _Measured(concept=handbook[region.concept_id], region=region)
            for region in store.regions(row.case_id)
            if region.concept_id in handbook and region.laterality is None
        ]
        whole = {item.concept.concept_id: item for item in known if not item.region.touches_border}
        num_cases += bool(known)
        num_cut += len(known) - len(whole)
        findings += _places(handbook, whole, closures)
        findings += _contacts(store, {item.concept.concept_id: item for item in known}, adjacent)
        findings += _volumes(handbook, whole)
        if row.modality == "ct":
            findings += _densities(store, known)
        seen |= {(first, second) for first in whole for second in whole}
        advance(row.case_id)
    stated = [(c.concept_id, target) for c in handbook for predicate, target in c.relations if predicate in SPATIAL]
    return Agreement(
        findings=tuple(findings),
        num_cases=num_cases,
        num_cut=num_cut,
        unmeasured=sum(pair not in seen for pair in stated),
    )


def _closure(handbook: Handbook, predicate: str) -> dict[ConceptId, dict[ConceptId, bool]]:
    """Returns subject → object → whether it is stated (or only follows), for what `predicate` says by transitivity."""
    stated: dict[ConceptId, set[ConceptId]] = defaultdict(set)
    for concept in handbook:
        for said, target in concept.relations:
            if said == predicate:
                stated[concept.concept_id].add(target)
    reached: dict[ConceptId, dict[ConceptId, bool]] = {}
    for subject, objects in stated.items():
        found: set[ConceptId] = set()
        waiting = list(objects)
        while waiting:
            target = waiting.pop()
            if target not in found:
                found.add(target)
                waiting += stated.get(target, ())
        reached[subject] = {target: target in objects for target in found}
    return reached


def _places(
    handbook: Handbook,
    whole: Mapping[ConceptId, _Measured],
    closures: Mapping[str, Mapping[ConceptId, Mapping[ConceptId, bool]]],
) -> Iterator[Finding]:
    for predicate, (axis, sign) in _AXIS.items():
        for subject, item in whole.items():
            for target, stated in closures[predicate].get(subject, {}).items():
                if target in whole:
                    other = whole[target].region
                    offset = sign * (item.region.centroid_mm[axis] - other.centroid_mm[axis])
                    yield Finding(
                        kind=predicate,  # pyright: ignore[reportArgumentType]
                        case_id=item.region.case_id,
                        subject=item.concept.name,
                        object=handbook[target].name,
                        measured=round(offset, 1),
                        agrees=offset > 0,
                        stated=stated,
                    )


def _contacts(
    store: CaseStore, known: Mapping[ConceptId, _Measured], adjacent: Iterable[tuple[ConceptId, ConceptId]]
) -> Iterator[Finding]:
    for first, second in adjacent:
        if first not in known or second not in known:
            continue
        one, other = known[first], known[second]
        distance = distance_mm(store, one.region, other.region)
        cut = one.region.touches_border or other.region.touches_border
        if cut and distance > CONTACT_MM:
            continue
        yield Finding(
            kind="adjacent_to",
            case_id=one.region.case_id,
            subject=one.concept.name,
            object=other.concept.name,
            measured=round(distance, 1),
            agrees=distance <= CONTACT_MM,
        )


def distance_mm(store: CaseStore, one: Region, other: Region) -> float:
    """Returns the smallest distance of two regions of a case, voxel centre to voxel centre; 0 where they overlap.

    Distances beyond some centimetres are not told apart: infinity.
    """
    spacing = np.array(store.case(one.case_id).spacing_mm)
    margin = np.ceil(3 * CONTACT_MM / spacing).astype(int)
    start = np.maximum(np.maximum(one.start, other.start) - margin, 0)
    stop = np.minimum(np.minimum(one.stop, other.stop) + margin, store.case(one.case_id).shape)
    if (start >= stop).any():
        return math.inf
    box: Box = (_triple(start), _triple(stop))
    here, there = store.read_mask(one, box), store.read_mask(other, box)
    if not here.any() or not there.any():
        return math.inf
    distances = ndimage.distance_transform_edt(~here, sampling=spacing)
    assert isinstance(distances, np.ndarray)
    return float(distances[there].min())


def _volumes(handbook: Handbook, whole: Mapping[ConceptId, _Measured]) -> Iterator[Finding]:
    for concept_id, item in whole.items():
        stated = item.concept.size.get("volume_ml")
        if stated is not None and not handbook.sides_of(concept_id) and not handbook.members_of(concept_id):
            measured = item.region.volume_mm3 / 1000
            yield _in_range("volume_ml", item, measured, stated)


def _densities(store: CaseStore, known: Sequence[_Measured]) -> Iterator[Finding]:
    means = {item.concept.concept_id: _mean_hu(store, item.region) for item in known}
    blood = [
        mean for item in known if item.concept.name in BLOOD and (mean := means[item.concept.concept_id]) is not None
    ]
    enhanced = max(blood) > ENHANCED_HU if blood else None
    for item in known:
        seen = item.concept.body.appearance.get("ct")
        mean = means[item.concept.concept_id]
        if seen is None or mean is None or item.region.touches_border:
            continue
        stated = _expected(seen.density_hu, seen.enhanced_hu, enhanced)
        if stated is not None:
            yield _in_range("density_hu", item, mean, stated)


def _expected(plain: Interval | None, enhanced: Interval | None, with_contrast: bool | None) -> Interval | None:
    """Returns the range a density must lie in: of its phase, or of either where the phase is not known."""
    if with_contrast is None:
        known = [interval for interval in (plain, enhanced) if interval is not None]
        return (min(low for low, _ in known), max(high for _, high in known)) if known else None
    return enhanced if with_contrast else plain


def _mean_hu(store: CaseStore, region: Region) -> float | None:
    """Returns the mean density of a region, or None where more than a twentieth of it was clipped."""
    unit = store.own_unit(region.case_id)
    mask: Mask = store.read_mask(region, region.box)
    values = store.read_image(region.case_id, region.box)[mask] * unit.std + unit.mean
    slack = (unit.high - unit.low) * 1e-4
    clipped = np.count_nonzero((values <= unit.low + slack) | (values >= unit.high - slack))
    return None if clipped * 20 > values.size else float(values.mean(dtype=np.float64))


def _in_range(kind: Literal["volume_ml", "density_hu"], item: _Measured, measured: float, stated: Interval) -> Finding:
    return Finding(
        kind=kind,
        case_id=item.region.case_id,
        subject=item.concept.name,
        object=f"{stated[0]:g} to {stated[1]:g}",
        measured=round(measured, 1),
        agrees=stated[0] <= measured <= stated[1],
    )


def _triple(values: np.ndarray) -> tuple[int, int, int]:
    i, j, k = values.tolist()
    return i, j, k
