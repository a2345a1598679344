"""A dataset in BIDS: images of subjects, and label maps among its derivatives.

DATASET/
  dataset_description.json    optional: name, licence
  participants.tsv            optional: participant_id, split
  sub-01/[ses-1/]anat/sub-01[_ses-1][_run-1]_T1w.nii.gz
  derivatives/NAME/sub-01/[ses-1/]anat/sub-01[_ses-1][_desc-aseg]_dseg.nii.gz
                              and its labels: index and name in a dseg.tsv beside it, or further up, whose entities it shares
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vesalius.errors import InputError
from vesalius.ids import Modality, case_id, slug
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import SUFFIXES, Image, LabelMap, check_same_grid, read_image, read_label_maps, stem_of
from vesalius.volumes.layouts.drawing import label_maps_of
from vesalius.volumes.layouts.options import LayoutOptions, files_below
from vesalius.volumes.layouts.tables import (
    find_table,
    modality_of,
    origin_of,
    read_json_object,
    read_labels,
    read_rows,
    split_of,
)
from vesalius.volumes.patients import hash_patient

LAYOUT = "bids"

_DRAWN = ("dseg", "msk")
"""Suffixes of label maps: BIDS' own, and that of spine datasets which follow it but for this."""

_OWN_SPACES = ("orig", "individual", "scanner", "t1w", "t2w", "native")
"""Values of the entity ``space`` that mean the image's own; another is a template's, where the image does not lie."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """A file and what its name says.

    Attributes:
        path: the file.
        entities: key → value, such as ``sub`` → ``01``.
        suffix: the last word, such as ``T1w``.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str


def bids_cases(options: LayoutOptions) -> list[SourceCase]:
    """Returns the cases of a dataset in BIDS, in the order of their names: images that a label map is drawn on.

    Several label maps of an image are several labellings of it. Subjects are patients.

    Args:
        options: `folder`; `salt`; `dataset`; `labels` where no TSV names the values; `modality` for images whose suffix
            names none.

    Raises:
        InputError: the folder or a table is missing or damaged, or no image has a label map.
        SettingError: an option contradicts the dataset, or is without effect.
    """
    options.refuse_all_but("folder", "modality", "salt", "dataset", "labels", layout=LAYOUT)
    folder = options.resolved_folder(LAYOUT)
    description = read_json_object(folder / "dataset_description.json")
    dataset = options.dataset_of(folder)
    files = list(_files(folder))
    drawn = [file for file in files if file.suffix.lower() in _DRAWN]
    images = [file for file in files if _shows(file, folder, options.modality)]
    drawings: dict[Path, list[Named]] = {}
    for drawing in drawn:
        image = _image_of(drawing, images)
        if image is not None:
            drawings.setdefault(image.path, []).append(drawing)
    splits = _splits(folder)
    origin = origin_of(description, dataset)
    salt = options.salt_for_patients() if drawings else ""
    cases = []
    for image in images:
        if image.path not in drawings:
            continue
        modality, sequence = _modality(image.suffix)
        subject = image.entities["sub"]
        tables = [(drawing.path, options.labels or _table_of(drawing, folder)) for drawing in drawings[image.path]]
        stem = stem_of(image.path)
        cases.append(
            SourceCase(
                case_id=case_id(stem if slug(stem).startswith(slug(dataset)) else f"{dataset}-{stem}"),
                dataset=dataset,
                modality=options.settled_modality(modality, image.path),
                split=split_of(splits.get(f"sub-{subject}"), folder / "participants.tsv"),
                patient_id=hash_patient(f"sub-{subject}", dataset=dataset, salt=salt),
                load=partial(_load, image.path, tables),
                origins=(origin,),
                files=(image.path, *(path for pair in tables for path in pair if path is not None)),
                sequence=sequence,
                made_with=" ".join(drawing.path.name for drawing in drawings[image.path]),
            )
        )
    if not cases:
        raise InputError(
            f"no image with a label map ({len(images)} images, {len(drawn)} label maps)",
            where=folder,
            remedy="label maps are files …_dseg.nii.gz with the entities of their image",
        )
    return cases


def _load(image_file: Path, drawings: Iterable[tuple[Path, Path | None]]) -> tuple[Image, Iterator[LabelMap]]:
    image = read_image(image_file)
    return image, (label_map for path, table in drawings for label_map in _read_drawing(path, table, image))


def _read_drawing(path: Path, table: Path | None, image: Image) -> list[LabelMap]:
    label_maps = read_label_maps(path)
    for label_map in label_maps:
        check_same_grid(image, label_map, where=path)
    if table is None:
        if not any(label_map.labels for label_map in label_maps):
            raise InputError(
                "nothing says what the label values stand for",
                where=path,
                remedy="add a TSV of its name with index and name, or give --labels",
            )
        return label_maps
    if len(label_maps) > 1:
        raise InputError("a table cannot name several layers", where=path, remedy="leave it out")
    drawn = label_maps_of(label_maps[0].data, label_maps[0].affine, read_labels(table))
    return [
        LabelMap(
            data=label_map.data,
            affine=label_map.affine,
            labels=label_map.labels,
            ignored=label_map.ignored,
            labelling=stem_of(path),
        )
        for label_map in drawn
    ]


def _files(folder: Path) -> Iterator[Named]:
    for path in files_below(folder):
        if path.name.startswith(".") or not path.name.lower().endswith(SUFFIXES):
            continue
        named = _parsed(path, stem_of(path))
        if named is not None and "sub" in named.entities:
            yield named


def _parsed(path: Path, stem: str) -> Named | None:
    *words, suffix = stem.split("_")
    entities = dict(word.split("-", 1) for word in words if "-" in word)
    return None if "-" in suffix or len(entities) != len(words) else Named(path=path, entities=entities, suffix=suffix)


def _modality(suffix: str) -> tuple[Modality | None, str | None]:
    return modality_of(suffix)


def _shows(file: Named, folder: Path, given: Modality | None) -> bool:
    """Tells whether a file is an image of the subject: no derivative, and of a modality."""
    if file.suffix.lower() in _DRAWN or "derivatives" in file.path.relative_to(folder).parts:
        return False
    return _modality(file.suffix)[0] is not None or (given is not None and file.suffix not in {"mask", "probseg"})


def _in_one_space(drawing: Named, image: Named) -> bool:
    """Tells whether both lie in the subject's own space, or in the same other one, such as a template's."""
    spaces = [file.entities.get("space", "orig") for file in (drawing, image)]
    return spaces[0] == spaces[1] or all(space.lower() in _OWN_SPACES for space in spaces)


def _image_of(drawing: Named, images: Iterable[Named]) -> Named | None:
    """Returns the image that a label map is drawn on: of its subject and session, and of no other run or acquisition.

    Of several it is the one with most entities in common, then the T1w image. ``desc`` says what was done to either of
    two derivatives; of an image as fMRIPrep gives it, that which was brought to the grid of the label maps (``preproc``).
    """
    candidates = []
    for image in images:
        same = {key for key, value in image.entities.items() if drawing.entities.get(key) == value}
        other = {key for key, value in image.entities.items() if drawing.entities.get(key, value) != value}
        other -= {"desc", "space"}
        sessions = image.entities.get("ses") == drawing.entities.get("ses")
        if "sub" in same and sessions and not other and _in_one_space(drawing, image):
            plain = image.entities.get("desc", "preproc") == "preproc"
            meant = drawing.entities.get("space", "").lower() == image.suffix.lower()
            candidates.append(((plain, meant, len(same), -len(image.entities), image.suffix == "T1w"), image))
    if not candidates:
        return None
    best = max(key for key, _ in candidates)
    return next(image for key, image in candidates if key == best)


def _table_of(drawing: Named, folder: Path) -> Path | None:
    """Returns the TSV that applies to a label map: the nearest one above whose entities are all its own."""
    place = drawing.path.parent
    while True:
        found = []
        for path in sorted(place.glob("*.tsv")):
            named = _parsed(path, path.name.removesuffix(".tsv"))
            if (
                named is not None
                and named.suffix == drawing.suffix
                and named.entities.items() <= drawing.entities.items()
            ):
                found.append((len(named.entities), path))
        if found:
            return max(found)[1]
        if place == folder:
            return None
        place = place.parent


def _splits(folder: Path) -> dict[str, str]:
    table = find_table(folder, ("participants.tsv",))
    if table is None:
        return {}
    rows = read_rows(table)
    if rows and "participant_id" not in rows[0]:
        raise InputError("no column participant_id", where=table, remedy="restore the table, or remove it")
    return {row["participant_id"]: row.get("split", "") for row in rows}
