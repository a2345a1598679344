"""Regions: where a structure lies in a case, and how large it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer
from scipy import ndimage

from vesalius.arrays import Affine, Box, BoxMask, LabelVoxels
from vesalius.ids import CaseId, ConceptId, Laterality, ResolvedLabel, TiedBy
from vesalius.volumes.image import LabelMap


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """A concept's occurrence in a case.

    Attributes:
        case_id: the case.
        concept_id: the concept, or ``LABEL:…`` where the graph holds none.
        laterality: the side, where the label names one that `concept_id` does not imply.
        name: how to say it in a prompt.
        label: the dataset's own text.
        tied_by: how the label was tied to its concept: ``name``, ``synonym``, ``spelling`` or ``none``; ``parts`` where the
            region was made of its left and its right one.
        start: first voxel of its box, i j k.
        stop: voxel behind the last of its box, i j k.
        num_voxels: voxels inside; never 0.
        volume_mm3: their volume.
        centroid_mm: their mean, x y z in RAS+.
        touches_border: whether it reaches the edge of the field of view, where it may be cut off.
    """

    case_id: CaseId
    concept_id: ConceptId
    laterality: Laterality | None
    name: str
    label: str
    tied_by: TiedBy
    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    num_voxels: int
    volume_mm3: float
    centroid_mm: tuple[float, float, float]
    touches_border: bool

    @property
    def key(self) -> str:
        """What makes two regions the same structure: the concept and its side. No two regions of a case share it."""
        return f"{self.concept_id}/{self.laterality}" if self.laterality else str(self.concept_id)

    @property
    def box(self) -> Box:
        """Start and stop of its box."""
        return self.start, self.stop


def find_regions(label_map: LabelMap, *, case_id: CaseId, resolved: Mapping[str, ResolvedLabel]) -> list[Region]:
    """Returns the region of every label of `resolved` that has a voxel, in the order of `resolved`.

    Args:
        label_map: all values of one label text are one region.
        case_id: the case it belongs to.
        resolved: label text → what it stands for; other texts are left out.
    """
    texts = list(resolved)
    numbers = _numbered(label_map, texts)
    inside = np.flatnonzero(numbers)
    members = numbers.ravel()[inside]
    num_voxels = np.bincount(members, minlength=len(texts) + 1)
    indices = np.unravel_index(inside, numbers.shape)
    sums = np.stack([np.bincount(members, weights=axis, minlength=len(texts) + 1) for axis in indices], axis=1)
    voxel_mm3 = abs(float(np.linalg.det(label_map.affine[:3, :3])))
    regions = []
    for number, box in enumerate(ndimage.find_objects(numbers, max_label=len(texts)), start=1):
        if box is None:
            continue
        label = texts[number - 1]
        tied = resolved[label]
        mean = sums[number] / num_voxels[number]
        x, y, z = (label_map.affine[:3, :3] @ mean + label_map.affine[:3, 3]).tolist()
        regions.append(
            Region(
                case_id=case_id,
                concept_id=tied.concept_id,
                laterality=tied.laterality,
                name=tied.name,
                label=label,
                tied_by=tied.tied_by,
                start=(box[0].start, box[1].start, box[2].start),
                stop=(box[0].stop, box[1].stop, box[2].stop),
                num_voxels=int(num_voxels[number]),
                volume_mm3=int(num_voxels[number]) * voxel_mm3,
                centroid_mm=(x, y, z),
                touches_border=any(s.start == 0 or s.stop == n for s, n in zip(box, numbers.shape, strict=True)),
            )
        )
    return regions


def region_mask(label_map: LabelMap, region: Region) -> BoxMask:
    """Returns the voxels of a region in its own box, `i j k`."""
    values = [value for value, text in label_map.labels.items() if text == region.label]
    window = label_map.data[tuple(slice(start, stop) for start, stop in zip(region.start, region.stop, strict=True))]
    return np.isin(window, values)


def join_regions(
    parts: Sequence[tuple[Region, BoxMask]], whole: ResolvedLabel, affine: Affine
) -> tuple[Region, BoxMask]:
    """Returns the region that holds every voxel of `parts`, and its mask in its own box.

    Args:
        parts: regions of one case with their masks, at least one.
        whole: what the joined region stands for.
        affine: of the grid that the boxes count voxels of.
    """
    starts = np.array([region.start for region, _ in parts])
    stops = np.array([region.stop for region, _ in parts])
    start, stop = starts.min(axis=0), stops.max(axis=0)
    mask = np.zeros(stop - start, dtype=bool)
    for region, part in parts:
        window = tuple(slice(a, b) for a, b in zip(region.start - start, region.stop - start, strict=True))
        mask[window] |= part
    inside = np.argwhere(mask)
    x, y, z = (affine[:3, :3] @ (inside.mean(axis=0) + start) + affine[:3, 3]).tolist()
    (i, j, k), (a, b, c) = start.tolist(), stop.tolist()
    region = Region(
        case_id=parts[0][0].case_id,
        concept_id=whole.concept_id,
        laterality=whole.laterality,
        name=whole.name,
        label=joined_label(region.label for region, _ in parts),
        tied_by=whole.tied_by,
        start=(i, j, k),
        stop=(a, b, c),
        num_voxels=len(inside),
        volume_mm3=len(inside) * abs(float(np.linalg.det(affine[:3, :3]))),
        centroid_mm=(x, y, z),
        touches_border=any(region.touches_border for region, _ in parts),
    )
    return region, mask


def joined_label(labels: Iterable[str]) -> str:
    """Returns the label of a region that was made of those with `labels`."""
    return " + ".join(labels)


def values_in(data: LabelVoxels) -> list[int]:
    """Returns the label values that have a voxel, ascending, without the background."""
    countable = data.min() >= 0 and data.max() < 2**20  # counting is many times faster than sorting all voxels
    values = np.flatnonzero(np.bincount(data.ravel())) if countable else np.unique(data)
    return [value for value in values.tolist() if value != 0]


def _numbered(label_map: LabelMap, texts: list[str]) -> Integer[np.ndarray, "i j k"]:
    """Returns the voxels numbered by their label's place in `texts`, from 1; 0 elsewhere."""
    number_of = {text: number for number, text in enumerate(texts, start=1)}
    pairs = sorted((value, number_of[text]) for value, text in label_map.labels.items() if text in number_of and value)
    numbers = np.zeros(label_map.data.shape, dtype=np.int32)
    if not pairs:
        return numbers
    values, targets = (np.array(column) for column in zip(*pairs, strict=True))
    inside = np.flatnonzero(label_map.data)
    found = label_map.data.ravel()[inside]
    place = np.minimum(np.searchsorted(values, found), len(values) - 1)
    known = values[place] == found
    numbers.ravel()[inside[known]] = targets[place[known]]
    return numbers
