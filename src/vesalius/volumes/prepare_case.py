"""One case: from what a dataset gives to arrays on the prepared grid, with its regions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from vesalius.arrays import Box, BoxMask
from vesalius.errors import InputError
from vesalius.ids import CaseId, Modality, ResolvedLabel, ResolvedWhole, Split
from vesalius.volumes.case import CaseRow, PreparedCase, SourceCase
from vesalius.volumes.geometry import (
    check_orientation,
    check_spacing,
    grid_with_spacing,
    reorient,
    resample,
    spacing_mm,
)
from vesalius.volumes.image import Image, LabelMap
from vesalius.volumes.intensities import PreparedImage, foreground_of, normalise_image
from vesalius.volumes.naming import Naming, Resolver, Seen, look_at, name_labels
from vesalius.volumes.regions import Region, find_regions, join_regions, joined_label, region_mask

Wholes = Callable[[Sequence[ResolvedLabel]], Sequence[ResolvedWhole]]
"""What the regions of a case stand for → the structures that two of them make up together."""

_LARGEST_FACTOR, _ALWAYS_ALLOWED, _LARGEST_GRID = 64, 2**27, 2**32
"""How many times its voxels an image may become, the voxels (0.5 GiB) it may become anyway, and (16 GiB) never exceed."""

_Found = tuple[Region, BoxMask]


@dataclass(frozen=True, kw_only=True)
class PrepareSettings:
    """How cases are prepared.

    Attributes:
        spacing_mm: of the prepared grid, along i, j, k; None keeps each image's own.
        orientation: where i, j and k run to; ``ASR`` was used for sagittal spine images.
        crop_to_foreground: cut away the planes around the image that hold neither foreground nor a label.
        anti_alias: smooth the image before it loses resolution; the published preparation does not.

    Raises:
        SettingError: a value cannot work.

    Source: SAT, arXiv 2312.17183, data preparation.
    """

    spacing_mm: tuple[float, float, float] | None = (1.0, 1.0, 3.0)
    orientation: str = "RAS"
    crop_to_foreground: bool = True
    anti_alias: bool = False

    def __post_init__(self) -> None:
        if self.spacing_mm is not None:
            check_spacing(self.spacing_mm)
        check_orientation(self.orientation)


def prepare_case(
    source: SourceCase,
    resolver: Resolver,
    settings: PrepareSettings,
    *,
    split: Split | None = None,
    wholes: Wholes | None = None,
) -> PreparedCase:
    """Reads and prepares one case.

    Image and label maps are brought to the orientation, then each straight from its own grid to the prepared one (image
    linear, labels nearest), cropped, and the intensities normalised by `normalise_image`. Regions touch the border where
    they reach the edge of the image before it is cropped.

    Args:
        source: the case.
        resolver: label text → what it stands for.
        settings: how to prepare it.
        split: the side it is on; its own, or train, if None.
        wholes: what makes further regions of those that the case draws, such as the kidney of left and right.

    Raises:
        InputError: a file cannot be read, the image is of one intensity or holds NaN, or no labelled voxel is left.
    """
    image, label_maps = source.load()
    _check_finite(image, source)
    resampled = _resample_image(image, settings)
    found, naming = _regions_of(label_maps, resampled, resolver, settings, source.case_id)
    if not found:
        raise InputError(
            f"no region in case {source.case_id!r}",
            where=source.files[-1] if source.files else None,
            remedy="check the label map and the table of its labels",
        )
    if wholes is not None:
        by_key = {region.key: (region, mask) for region, mask in found}
        found += [
            join_regions([by_key[part.key] for part in one.parts], one.whole, resampled.affine)
            for one in _new_wholes([region for region, _ in found], wholes)
        ]
    prepared = _crop_and_normalise(resampled, source.modality, settings, keep=[region.box for region, _ in found])
    i, j, k = prepared.levels.shape
    return PreparedCase(
        row=CaseRow(
            case_id=source.case_id,
            dataset=source.dataset,
            modality=source.modality,
            sequence=source.sequence,
            split=split or source.split or "train",
            official_split=source.split,
            patient_id=source.patient_id,
            shape=(i, j, k),
            spacing_mm=settings.spacing_mm or spacing_mm(resampled.affine),
        ),
        prepared=prepared,
        regions=tuple(_shifted(region, prepared.crop_start) for region, _ in found),
        masks=tuple(mask for _, mask in found),
        unresolved=naming.unresolved,
        resolved=naming.resolved,
    )


def prepare_image(image: Image, modality: Modality, settings: PrepareSettings) -> PreparedImage:
    """Prepares an image without labels, as prediction needs it; its affine leads back to the image's own grid.

    Raises:
        InputError: the image is of one intensity.
    """
    return _crop_and_normalise(_resample_image(image, settings), modality, settings, keep=[])


def _check_finite(image: Image, source: SourceCase) -> None:
    num_bad = image.data.size - int(np.isfinite(image.data).sum())
    if num_bad:
        raise InputError(
            f"{num_bad} of {image.data.size} voxels are NaN or infinite",
            where=source.files[0] if source.files else None,
            remedy="replace them, e.g. with the background's intensity",
        )


def _regions_of(
    label_maps: Iterable[LabelMap], image: Image, resolver: Resolver, settings: PrepareSettings, case_id: CaseId
) -> tuple[list[_Found], Naming]:
    """Takes the regions from one label map after the other: what each stands for is known when all were seen."""
    i, j, k = image.data.shape
    seen: list[Seen] = []
    found_by: list[list[_Found]] = []
    for label_map in label_maps:
        # Oriented first, so that how a label map is stored cannot decide which of two equally near voxels is taken.
        moved = resample(reorient(label_map, settings.orientation), image.affine, (i, j, k), order=0)
        seen.append(look_at(label_map, moved))
        told = {text: resolver(text) for text in seen[-1].value_of}
        found_by.append(
            [(region, region_mask(moved, region)) for region in find_regions(moved, case_id=case_id, resolved=told)]
        )
    naming = name_labels(seen, resolver, case_id=case_id)
    named = [
        (_renamed(region, chosen[region.label]), mask)
        for found, chosen in zip(found_by, naming.chosen, strict=True)
        for region, mask in found
        if region.label in chosen
    ]
    return named, naming


def _renamed(region: Region, tied: ResolvedLabel) -> Region:
    return replace(region, concept_id=tied.concept_id, laterality=tied.laterality, name=tied.name, tied_by=tied.tied_by)


def joined_as_told(regions: Sequence[Region], wholes: Wholes | None) -> bool:
    """Tells whether the regions of a prepared case that were made of others are those that `wholes` would make now.

    Args:
        regions: all regions of the case.
        wholes: as given to `prepare_case`.
    """
    drawn = [region for region in regions if region.tied_by != "parts"]
    label_of = {region.key: region.label for region in drawn}
    made = [(region.concept_id, region.laterality, region.name, region.label) for region in regions[len(drawn) :]]
    told = _new_wholes(drawn, wholes) if wholes is not None else []
    return made == [
        (one.whole.concept_id, one.whole.laterality, one.whole.name, joined_label(label_of[p.key] for p in one.parts))
        for one in told
    ]


def _new_wholes(drawn: Sequence[Region], wholes: Wholes) -> list[ResolvedWhole]:
    """Returns what `wholes` makes of the regions that a case draws, without what it draws itself, each structure once."""
    told = [
        ResolvedLabel(
            concept_id=region.concept_id, laterality=region.laterality, name=region.name, tied_by=region.tied_by
        )
        for region in drawn
    ]
    taken = {region.key for region in drawn}
    new: dict[str, ResolvedWhole] = {}
    for one in wholes(told):
        if one.whole.key not in taken:
            new.setdefault(one.whole.key, one)
    return list(new.values())


def _resample_image(image: Image, settings: PrepareSettings) -> Image:
    oriented = reorient(image, settings.orientation)
    own = spacing_mm(oriented.affine)
    spacing = settings.spacing_mm or own
    # In floats: what a header says may be more than a whole number of NumPy holds.
    num_voxels = math.prod(
        max(1.0, size * step / new) for size, step, new in zip(oriented.data.shape, own, spacing, strict=True)
    )
    if settings.spacing_mm is not None and num_voxels > min(
        max(_LARGEST_FACTOR * image.data.size, _ALWAYS_ALLOWED), _LARGEST_GRID
    ):
        raise InputError(
            f"a spacing of {' × '.join(f'{step:g}' for step in own)} mm makes {num_voxels:.3g} voxels of "
            f"{image.data.size}",
            remedy="correct the spacing in the header, or keep it with --own-spacing",
        )
    affine, shape = grid_with_spacing(oriented, spacing)
    return resample(oriented, affine, shape, order=1, anti_alias=settings.anti_alias)


def _crop_and_normalise(
    image: Image, modality: Modality, settings: PrepareSettings, *, keep: Sequence[Box]
) -> PreparedImage:
    foreground = foreground_of(image, modality)
    i, j, k = image.data.shape
    whole: Box = ((0, 0, 0), (i, j, k))
    box = _union([_bounding_box(foreground), *keep]) if settings.crop_to_foreground else whole
    return normalise_image(image, modality, foreground=foreground, box=box)


def _bounding_box(foreground: np.ndarray) -> Box:
    i, j, k = ndimage.find_objects(foreground.view(np.int8))[0]
    return (i.start, j.start, k.start), (i.stop, j.stop, k.stop)


def _union(boxes: Sequence[Box]) -> Box:
    i, j, k = (min(axis) for axis in zip(*(start for start, _ in boxes), strict=True))
    a, b, c = (max(axis) for axis in zip(*(stop for _, stop in boxes), strict=True))
    return (i, j, k), (a, b, c)


def _shifted(region: Region, crop_start: tuple[int, int, int]) -> Region:
    i, j, k = (a - b for a, b in zip(region.start, crop_start, strict=True))
    a, b, c = (a - b for a, b in zip(region.stop, crop_start, strict=True))
    return replace(region, start=(i, j, k), stop=(a, b, c))
