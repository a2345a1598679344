"""DICOM RTSTRUCT: contours, filled on the planes of their image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from pydicom import Dataset

from vesalius.arrays import Mask
from vesalius.errors import InputError
from vesalius.volumes.dicom_file import DAMAGED, damaged_dicom, silently
from vesalius.volumes.dicom_segments import draw_masks
from vesalius.volumes.image import Image, LabelMap

_CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"})
_FLAT = 0.1
"""Voxels that the points of a contour, and contours of one plane, may differ along k."""

Contour = Float[np.ndarray, "n 3"]


@silently()
def read_contours(dataset: Dataset, image: Image, *, labelling: str, where: str) -> list[LabelMap]:
    """Returns the closed contours of an RTSTRUCT object, filled: as few label maps as keep overlapping ones apart.

    A voxel is inside where its centre is. Contours of one structure on one plane are combined by parity: one within
    another is a hole, as is the inside of a keyhole. Structures of points or open lines have no voxel and are left out. One
    whose contours are not in planes of the image, all lie outside, or are drawn on every second plane or fewer is not
    drawn, and said to be so; where all are such, the first of them is the error.

    Args:
        dataset: the whole object.
        image: that it was drawn on.
        labelling: of the label maps.
        where: what to name in an error.

    Raises:
        InputError: the object is damaged, or no structure can be drawn.

    Source: DICOM PS3.3, C.8.8.6 (ROI contour): inner and outer contours.
    """
    try:
        names = {int(item.ROINumber): str(item.get("ROIName", "")).strip() for item in dataset.StructureSetROISequence}
        drawn: list[tuple[str, Mask]] = []
        refused: dict[str, InputError] = {}
        for number, item in enumerate(dataset.get("ROIContourSequence") or [], start=1):
            contours = list(_contours(item, image))
            if not contours:
                continue
            name = names[int(item.ReferencedROINumber)]
            try:
                drawn.append((name, _filled(contours, image, f"{where}, structure {number}")))
            except InputError as error:
                refused.setdefault(name, error)
    except DAMAGED as error:
        raise damaged_dicom(where, error) from None
    if not drawn:
        nothing = InputError("no closed contour", where=where, remedy="leave the object out")
        raise next(iter(refused.values()), nothing)
    i, j, k = image.data.shape
    first, *more = draw_masks(drawn, image.affine, (i, j, k), labelling=labelling)
    return [replace(first, undrawn=frozenset(refused).difference(name for name, _ in drawn)), *more]


def fill(contours: Sequence[Float[np.ndarray, "n 2"]], shape: tuple[int, int]) -> Bool[np.ndarray, "i j"]:
    """Returns the voxels whose centres lie inside an odd number of closed contours.

    Centres are at whole numbers. One exactly on an edge belongs to the side of higher i or j, so that contours that
    share an edge share no voxel.

    Args:
        contours: points, i and j in voxels; the last is joined to the first.
        shape: of the plane, i and j.
    """
    toggles = np.zeros((shape[1], shape[0] + 1), dtype=np.int32)
    for contour in contours:
        start, stop = contour, np.roll(contour, -1, axis=0)
        low = np.maximum(np.ceil(np.minimum(start[:, 1], stop[:, 1])), 0).astype(int)
        high = np.minimum(np.ceil(np.maximum(start[:, 1], stop[:, 1])), shape[1]).astype(int)
        counts = np.maximum(high - low, 0)
        edges = np.repeat(np.arange(len(contour)), counts)
        rows = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts) + low[edges]
        (x0, y0), (x1, y1) = start[edges].T, stop[edges].T
        crossed = x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
        np.add.at(toggles, (rows, np.clip(np.ceil(crossed), 0, shape[0]).astype(int)), 1)
    return (np.cumsum(toggles, axis=1)[:, : shape[0]] % 2 == 1).T


def _contours(item: Dataset, image: Image) -> Iterator[Contour]:
    """Yields the closed contours of a structure, in voxels of the image; repeated ones once."""
    to_voxels = np.linalg.inv(image.affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    seen: set[bytes] = set()
    for contour in item.get("ContourSequence") or []:
        if str(contour.get("ContourGeometricType", "")).upper() not in _CLOSED:
            continue
        points = np.array([float(number) for number in contour.get("ContourData") or ()]).reshape(-1, 3)
        if len(points) < 3:
            continue
        if not np.isfinite(points).all():
            raise ValueError("points that are no numbers")
        if points.tobytes() not in seen:
            seen.add(points.tobytes())
            yield points @ to_voxels[:3, :3].T + to_voxels[:3, 3]


def _filled(contours: Sequence[Contour], image: Image, where: str) -> Mask:
    i, j, k = image.data.shape
    by_plane: dict[int, list[tuple[float, Contour]]] = defaultdict(list)
    for contour in contours:
        heights = contour[:, 2]
        if heights.max() - heights.min() > _FLAT:
            raise InputError("a contour across the planes of its image", where=where, remedy="draw it on the planes")
        height = float(heights.mean())
        if -0.5 <= height < k - 0.5:
            by_plane[round(height)].append((height, contour))
    if not by_plane:
        raise InputError("all contours lie outside the image", where=where, remedy="check which series it belongs to")
    gaps = np.diff(sorted(by_plane))
    if len(gaps) >= 2 and gaps.min() > 1:
        raise InputError(
            f"contours on every {gaps.min()}th plane only", where=where, remedy="interpolate them in between"
        )
    mask = np.zeros((i, j, k), dtype=bool)
    for plane, found in by_plane.items():
        nearest = min((height for height, _ in found), key=lambda height: abs(height - plane))
        # Contours of one plane are written with heights that rounding has moved apart.
        of_one = [contour[:, :2] for height, contour in found if abs(height - nearest) < _FLAT]
        mask[:, :, plane] = fill(of_one, (i, j))
    return mask
