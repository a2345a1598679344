"""Preparation: from a dataset's cases to a store of arrays on one kind of grid, with their regions."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from vesalius.arrays import Box, Voxels
from vesalius.errors import FolderError, InputError
from vesalius.folder import MANIFEST, Origin, sha256_of
from vesalius.ids import CaseId, Modality
from vesalius.volumes.case import CaseRow, PreparedCase, PreparedImage, SourceCase, UnresolvedLabel
from vesalius.volumes.case_folder import CaseRecord, read_record, write_case
from vesalius.volumes.geometry import (
    check_orientation,
    check_spacing,
    grid_with_spacing,
    reorient,
    resample,
)
from vesalius.volumes.image import Image
from vesalius.volumes.naming import Resolver, name_labels
from vesalius.volumes.regions import Region, find_regions, region_mask
from vesalius.volumes.store import SCHEMA, Reject, case_path, write_tables

CT_WINDOW_HU = (-500.0, 1000.0)
PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, kw_only=True)
class PrepareSettings:
    """How cases are prepared.

    Attributes:
        spacing_mm: of the prepared grid, along i, j, k.
        orientation: where i, j and k run to; ``ASR`` was used for sagittal spine images.
        crop_to_foreground: cut away the planes around the image that hold neither foreground nor a label.
        anti_alias: smooth the image before it loses resolution; the published preparation does not.

    Raises:
        SettingError: a value cannot work.

    Source: SAT, arXiv 2312.17183, data preparation.
    """

    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 3.0)
    orientation: str = "RAS"
    crop_to_foreground: bool = True
    anti_alias: bool = False

    def __post_init__(self) -> None:
        check_spacing(self.spacing_mm)
        check_orientation(self.orientation)


@dataclass(frozen=True, kw_only=True)
class PrepareOutcome:
    """What a preparation made.

    Attributes:
        cases: every case of the store.
        rejects: the cases that failed, each with file and reason.
        unresolved: the labels that did not become a region of a concept.
        num_kept: how many of `cases` were up to date already.
    """

    cases: tuple[CaseRow, ...]
    rejects: tuple[Reject, ...]
    unresolved: tuple[UnresolvedLabel, ...]
    num_kept: int


def prepare(
    sources: Iterable[SourceCase],
    *,
    resolver: Resolver,
    settings: PrepareSettings,
    out: Path,
    origins: Sequence[Origin] = (),
    inputs: Mapping[str, str] | None = None,
    progress: Callable[[CaseId, int, int], None] | None = None,
) -> PrepareOutcome:
    """Makes the store of the given cases, and of no others.

    Each case is written whole or not at all. One that is there already, made from the same bytes with the same settings
    and with labels that still resolve as they did, is kept; so a preparation that was killed continues where it
    stopped. A case that cannot be read is rejected and the others go on. From the first case that changes until the
    end the store has no manifest and cannot be opened. One preparation at a time may write to a store.

    Args:
        sources: the cases; none is read before its turn.
        resolver: label text → what it stands for.
        settings: how to prepare them.
        out: the store's folder, new or of an earlier preparation of these cases.
        origins: beside those of the cases themselves.
        inputs: name → hash of each Vesalius folder that was read, for the manifest.
        progress: called after each case with its id, the number of cases done, and of all.

    Raises:
        InputError: two sources share a case id, or there is none.
        FolderError: `out` is a folder of something else, or holds cases that `sources` does not name.
    """
    pending = list(sources)
    _check_out(out, [source.case_id for source in pending])
    records: list[CaseRecord] = []
    rejects: list[Reject] = []
    used: list[Origin] = list(origins)
    hashes: dict[Path, str] = {}
    num_kept = 0
    for number, source in enumerate(pending, start=1):
        path = case_path(out, source.case_id)
        try:
            fingerprint = _fingerprint(source, settings, hashes)
            record = _up_to_date(path, fingerprint, resolver)
            if record is None:
                case = prepare_case(source, resolver, settings)
                (out / MANIFEST).unlink(missing_ok=True)
                record = write_case(path, case, fingerprint=fingerprint)
            else:
                num_kept += 1
        except InputError as error:
            (out / MANIFEST).unlink(missing_ok=True)
            if path.exists():
                shutil.rmtree(path)
            rejects.append(_rejected(source, error))
        else:
            records.append(record)
            used += [origin for origin in source.origins if origin not in used]
        if progress is not None:
            progress(source.case_id, number, len(pending))
    write_tables(out, records, rejects, origins=used, inputs=inputs or {}, settings=asdict(settings))
    return PrepareOutcome(
        cases=tuple(record.row for record in records),
        rejects=tuple(rejects),
        unresolved=tuple(label for record in records for label in record.unresolved),
        num_kept=num_kept,
    )


def prepare_case(source: SourceCase, resolver: Resolver, settings: PrepareSettings) -> PreparedCase:
    """Reads and prepares one case.

    Image and label maps are brought to the orientation, then each straight from its own grid to the prepared one (image
    linear, labels nearest), cropped, and the intensities normalised by `prepare_image`. Regions touch the border where
    they reach the edge of the image before it is cropped.

    Raises:
        InputError: a file cannot be read, the image is of one intensity, or no labelled voxel is left.
    """
    image, loaded = source.load()
    label_maps = list(loaded)
    resampled = _resample_image(image, settings)
    i, j, k = resampled.data.shape
    # Oriented first, so that how a label map is stored cannot decide which of two equally near voxels is taken.
    moved = [
        resample(reorient(label_map, settings.orientation), resampled.affine, (i, j, k), order=0)
        for label_map in label_maps
    ]
    naming = name_labels(label_maps, moved, resolver, case_id=source.case_id)
    found = [
        (label_map, region)
        for label_map, resolved in zip(moved, naming.resolved_by_map, strict=True)
        for region in find_regions(label_map, case_id=source.case_id, resolved=resolved)
    ]
    if not found:
        raise InputError(
            f"no region in case {source.case_id!r}",
            where=source.files[-1] if source.files else None,
            remedy="check the label map and the table of its labels",
        )
    prepared = _crop_and_normalise(resampled, source.modality, settings, keep=[region.box for _, region in found])
    regions = tuple(_shifted(region, prepared.crop_start) for _, region in found)
    a, b, c = prepared.image.shape
    return PreparedCase(
        row=CaseRow(
            case_id=source.case_id,
            dataset=source.dataset,
            modality=source.modality,
            sequence=source.sequence,
            split=source.split or "train",
            official_split=source.split,
            patient_id=source.patient_id,
            shape=(a, b, c),
            spacing_mm=settings.spacing_mm,
        ),
        prepared=prepared,
        regions=regions,
        masks=tuple(region_mask(label_map, region) for label_map, region in found),
        unresolved=naming.unresolved,
        resolved=naming.resolved,
    )


def prepare_image(image: Image, modality: Modality, settings: PrepareSettings) -> PreparedImage:
    """Prepares an image without labels, as prediction needs it; its affine leads back to the image's own grid.

    Raises:
        InputError: the image is of one intensity.
    """
    return _crop_and_normalise(_resample_image(image, settings), modality, settings, keep=[])


def _resample_image(image: Image, settings: PrepareSettings) -> Image:
    oriented = reorient(image, settings.orientation)
    affine, shape = grid_with_spacing(oriented, settings.spacing_mm)
    return resample(oriented, affine, shape, order=1, anti_alias=settings.anti_alias)


def _crop_and_normalise(
    image: Image, modality: Modality, settings: PrepareSettings, *, keep: Sequence[Box]
) -> PreparedImage:
    """Crops to the foreground and the boxes of `keep`, clips, and gives zero mean and unit variance.

    Foreground is what lies above the lowest intensity, in ct after clipping: the body without the air around it. The
    percentiles of the other modalities are the foreground's; mean and variance are those of the whole crop.
    """
    data = np.asarray(image.data, dtype=np.float32)
    if modality == "ct":
        data = np.clip(data, *CT_WINDOW_HU)
    foreground = data > data.min()
    if not foreground.any():
        raise InputError(f"an image of one intensity ({float(data.min()):g})", remedy="leave the case out")
    start, stop = _union([_bounding_box(foreground), *keep]) if settings.crop_to_foreground else ((0, 0, 0), data.shape)
    window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    low, high = CT_WINDOW_HU if modality == "ct" else map(float, np.percentile(data[foreground], PERCENTILES))
    cropped = np.clip(data[window], low, high)
    mean, std = float(cropped.mean(dtype=np.float64)), float(cropped.std(dtype=np.float64))
    if std == 0:
        raise InputError(f"an image of one intensity between {low:g} and {high:g}", remedy="leave the case out")
    affine = np.array(image.affine)
    affine[:3, 3] += image.affine[:3, :3] @ start
    normalised: Voxels = np.ascontiguousarray((cropped - mean) / std, dtype=np.float32)
    return PreparedImage(image=normalised, affine=affine, crop_start=start, clip=(low, high), mean=mean, std=std)


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


def _check_out(out: Path, case_ids: Sequence[CaseId]) -> None:
    if not case_ids:
        raise InputError("no case to prepare", remedy="check the folder of the dataset")
    twice = sorted({case_id for case_id in case_ids if case_ids.count(case_id) > 1})
    if twice:
        raise InputError(f"several cases of the id {', '.join(twice)}", remedy="rename the files of one of them")
    cases = out / "cases"
    if out.exists() and not cases.is_dir() and (not out.is_dir() or any(out.iterdir())):
        raise FolderError("this holds something else than cases", where=out, remedy="give a new folder")
    known = {case_path(out, case_id).name for case_id in case_ids}
    others = []
    for path in sorted(cases.iterdir()) if cases.is_dir() else []:
        if path.name.startswith(".") and path.is_dir():
            shutil.rmtree(path)  # a case that a killed preparation did not finish
        elif path.name not in known and path.is_dir():
            others.append(path.stem)
    if others:
        named = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
        raise FolderError(
            f"the store holds {len(others)} cases that are not among those to prepare ({named})",
            where=out,
            remedy="give another folder, or delete this one",
        )


def _fingerprint(source: SourceCase, settings: PrepareSettings, hashes: dict[Path, str]) -> str:
    for path in source.files:
        if path not in hashes:
            hashes[path] = sha256_of(path)
    made_from = {
        "schema": SCHEMA,
        "settings": asdict(settings),
        "entry": [source.case_id, source.dataset, source.modality, source.split, source.patient_id],
        "files": [[path.name, hashes[path]] for path in source.files],
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _up_to_date(path: Path, fingerprint: str, resolver: Resolver) -> CaseRecord | None:
    if not path.exists():
        return None
    try:
        record = read_record(path)
    except FolderError:
        return None  # damaged from outside: made again
    if record.fingerprint != fingerprint:
        return None
    return record if all(resolver(text) == tied for text, tied in record.resolved.items()) else None


def _rejected(source: SourceCase, error: InputError) -> Reject:
    reason = f"{error.what} – {error.remedy}" if error.remedy else error.what
    where = error.where if error.where is not None else source.files[0] if source.files else ""
    return Reject(case_id=source.case_id, dataset=source.dataset, file=str(where), reason=reason)
