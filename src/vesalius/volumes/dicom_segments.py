"""DICOM SEG: segments, which may overlap, as label maps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool
from pydicom import Dataset

from vesalius.arrays import Affine, Mask
from vesalius.errors import InputError
from vesalius.volumes.dicom_file import DAMAGED, damaged_dicom, frame_of, silently
from vesalius.volumes.dicom_image import Plane, frames_of, plane_affine, plane_of, shared_groups
from vesalius.volumes.image import Image, LabelMap, check_grid

_NEARLY_WHOLE = 0.1
"""Voxels. A stack none of whose voxels lies further than this from one of the image's is taken to lie on them."""


@silently()
def read_segments(dataset: Dataset, image: Image, *, labelling: str, where: str) -> list[LabelMap]:
    """Returns the segments of a SEG object: as few label maps as keep overlapping segments apart. Those of one name are one.

    Args:
        dataset: the whole object.
        image: that it was drawn on.
        labelling: of the label maps.
        where: what to name in an error.

    Returns:
        On the planes that the object holds, which may be fewer than the image's.

    Raises:
        InputError: the object is damaged, its frames lie unevenly, or a segment has no name.

    Source: DICOM PS3.3, C.8.20 (segmentation). A fractional segment is where its value is at least half the largest.
    """
    try:
        names = _names(dataset)
        shared = shared_groups(dataset)
        groups = frames_of(dataset)
        planes = [plane_of(dataset, shared, frame) for frame in groups]
        affine, indices = _stack(planes, image, where)
        shape = (int(dataset.Columns), int(dataset.Rows), max(indices) + 1)
        check_grid(shape, affine, where=where)
        _check_extent(shape, image, where)
        if str(dataset.get("SegmentationType", "BINARY")).upper() == "LABELMAP":
            return [_label_map(dataset, names, indices, shape, affine, labelling)]
        first_of: dict[str, int] = {}
        for number in sorted(names):
            first_of.setdefault(names[number], number)
        frames_by_name: dict[int, list[int]] = defaultdict(list)
        for number, frame in enumerate(groups):
            holder = frame if frame is not None and "SegmentIdentificationSequence" in frame else shared
            segment = int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            frames_by_name[first_of[names[segment]]].append(number)
        masks = ((value, _mask(dataset, frames, indices, shape)) for value, frames in sorted(frames_by_name.items()))
        layers: list[tuple[np.ndarray, dict[int, str]]] = []
        for value, mask in masks:
            _draw(layers, mask, value, names[value])
    except DAMAGED as error:
        raise damaged_dicom(where, error) from None
    return [LabelMap(data=data, affine=affine, labels=labels, labelling=labelling) for data, labels in layers]


def draw_masks(
    masks: Sequence[tuple[str, Mask]], affine: Affine, shape: tuple[int, int, int], *, labelling: str
) -> list[LabelMap]:
    """Returns masks of one grid as label maps, as few as keep overlapping ones apart. Masks of one name are one."""
    joined: dict[str, Mask] = {}
    for name, mask in masks:
        assert mask.shape == shape
        joined[name] = joined[name] | mask if name in joined else mask
    layers: list[tuple[np.ndarray, dict[int, str]]] = []
    for value, (name, mask) in enumerate(joined.items(), start=1):
        _draw(layers, mask, value, name)
    return [LabelMap(data=data, affine=affine, labels=labels, labelling=labelling) for data, labels in layers]


def _draw(layers: list[tuple[np.ndarray, dict[int, str]]], mask: Mask, value: int, name: str) -> None:
    for data, labels in layers:
        if not data[mask].any():
            data[mask] = value
            labels[value] = name
            return
    data = np.zeros(mask.shape, dtype=np.int32)
    data[mask] = value
    layers.append((data, {value: name}))


def _names(dataset: Dataset) -> dict[int, str]:
    """Returns segment number → name: its label, or what its codes mean."""
    names = {}
    for segment in dataset.SegmentSequence:
        label = str(segment.get("SegmentLabel", "")).strip()
        names[int(segment.SegmentNumber)] = label if any(map(str.isalpha, label)) else _coded_name(segment)
    return names


def _coded_name(segment: Any) -> str:
    words = []
    kind = segment.get("SegmentedPropertyTypeCodeSequence")
    region = segment.get("AnatomicRegionSequence")
    for held, modifier in (
        (kind, "SegmentedPropertyTypeModifierCodeSequence"),
        (region, "AnatomicRegionModifierSequence"),
    ):
        if held:
            sides = held[0].get(modifier) or segment.get(modifier)
            words += [str(sides[0].CodeMeaning)] if sides else []
            words.append(str(held[0].CodeMeaning))
            break
    return " ".join(words)


def _stack(planes: Sequence[Plane], image: Image, where: str) -> tuple[Affine, list[int]]:
    """Returns the affine of the stack that the frames lie in, and the place of each frame along k."""
    first = planes[0]
    if any(np.abs(plane.axes - first.axes).max() > 1e-3 for plane in planes):
        raise InputError("frames of several orientations", where=where, remedy="export the segments again")
    heights = np.array([plane.position @ first.normal for plane in planes])
    step = _step(heights, first, image)
    places = (heights - heights.min()) / step
    indices = np.rint(places).astype(int)
    if np.abs(places - indices).max() > 0.2:
        raise InputError("frames at uneven distances", where=where, remedy="export the segments again")
    low, high = int(heights.argmin()), int(heights.argmax())
    if indices[high] > indices[low]:
        across = (planes[high].position - planes[low].position) / (indices[high] - indices[low])
    else:
        along = image.affine[:3, 2] * (-1, -1, 1)
        parallel = abs(abs(along @ first.normal) / np.linalg.norm(along) - 1) < 1e-3
        across = along * np.sign(along @ first.normal) if parallel else first.normal * step
    lowest = planes[low]
    # Frames of one plane may differ in their position within it only if they are no stack.
    for plane, index in zip(planes, indices, strict=True):
        if np.abs(lowest.position + across * index - plane.position).max() > 0.2 * min(*first.spacing_mm, step) + 1e-2:
            raise InputError("frames that do not lie one behind the other", where=where, remedy="export them again")
    return _snapped(plane_affine(lowest, across), image), indices.tolist()


def _step(heights: np.ndarray, first: Plane, image: Image) -> float:
    """Returns the distance of neighbouring slices: the image's, where the frames lie on its slices, else their own."""
    distinct = np.unique(np.round(heights, 3))
    gaps = np.diff(distinct)
    own = abs(float((image.affine[:3, 2] * (-1, -1, 1)) @ first.normal))
    if own > 0 and (not len(gaps) or np.abs(gaps / own - np.rint(gaps / own)).max() < 0.1):
        return own
    return float(gaps.min()) if len(gaps) else first.thickness_mm or 1.0


def _snapped(affine: Affine, image: Image) -> Affine:
    """Returns `affine` exactly on the image's voxels where it lies on them up to rounding."""
    transform = np.linalg.inv(image.affine) @ affine
    whole = np.rint(transform)
    turned = np.abs(whole[:3, :3])
    fits = (turned.sum(axis=0) == 1).all() and (turned.sum(axis=1) == 1).all()
    off = np.abs(transform - whole)
    furthest = (off[:3, :3] @ np.array(image.data.shape) + off[:3, 3]).max()
    if fits and furthest < _NEARLY_WHOLE:
        return image.affine @ whole
    return affine


def _check_extent(shape: tuple[int, int, int], image: Image, where: str) -> None:
    """Refuses a stack many times larger than its image: positions that lie would ask for any memory."""
    if np.prod(shape, dtype=float) > 64 * image.data.size + 2**20:
        raise InputError(
            f"a stack of {shape} voxels for an image of {image.data.shape}", where=where, remedy="export it again"
        )


def _mask(dataset: Dataset, frames: Sequence[int], indices: Sequence[int], shape: tuple[int, int, int]) -> Mask:
    largest = int(dataset.get("MaximumFractionalValue", 255))
    fractional = str(dataset.get("SegmentationType", "BINARY")).upper() == "FRACTIONAL"
    mask = np.zeros(shape, dtype=bool)
    for number in frames:
        stored = frame_of(dataset, number)
        drawn: Bool[np.ndarray, "rows columns"] = 2 * stored.astype(np.int32) >= largest if fractional else stored > 0
        mask[:, :, indices[number]] |= drawn.T
    return mask


def _label_map(
    dataset: Dataset,
    names: Mapping[int, str],
    indices: Sequence[int],
    shape: tuple[int, int, int],
    affine: Affine,
    labelling: str,
) -> LabelMap:
    data = np.zeros(shape, dtype=np.int32)
    for number, index in enumerate(indices):
        data[:, :, index] = frame_of(dataset, number).T
    return LabelMap(
        data=data, affine=affine, labels={value: name for value, name in names.items() if value}, labelling=labelling
    )
