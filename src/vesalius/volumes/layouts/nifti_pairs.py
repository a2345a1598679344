"""A folder of image and label map pairs: NIfTI, NRRD or MetaImage.

DATASET/
  images/NAME.nii.gz          also .nii, .nrrd, .mha
  labels/NAME.nii.gz          on the image's grid; also .nii, .nrrd, .seg.nrrd, .mha
  labels.tsv | .csv | .json   value and name of each label; not needed for .seg.nrrd, nor with a dataset.json
  cases.tsv | .csv            optional: case, and any of patient, split, modality
  dataset.json                optional, of nnU-Net or the Medical Segmentation Decathlon: modality and labels
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vesalius.errors import InputError, SettingError
from vesalius.ids import case_id, slug
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import SUFFIXES, Image, LabelMap, check_same_grid, read_image, read_label_maps, stem_of
from vesalius.volumes.layouts.drawing import label_maps_of
from vesalius.volumes.layouts.options import LayoutOptions
from vesalius.volumes.layouts.tables import (
    checked_modality,
    described_modality,
    find_table,
    labels_from,
    origin_of,
    read_json_object,
    read_labels,
    read_rows,
    split_of,
)
from vesalius.volumes.patients import hash_patient

LAYOUT = "nifti-pairs"

_IMAGE_FOLDERS = ("images", "image", "imagesTr", "imgs")
_LABEL_FOLDERS = ("labels", "label", "labelsTr", "masks", "mask", "segmentations", "segmentation", "segs")
_LABEL_ENDINGS = ("_seg", "-seg", "_label", "-label", "_labels", "_mask", "-mask", "_gt", "_segmentation")
_IMAGE_ENDINGS = ("_0000", "_image", "-image", "_img")

Labels = Mapping[str, frozenset[int]]


def folder_cases(options: LayoutOptions) -> list[SourceCase]:
    """Returns the cases of a folder of the layout ``nifti-pairs``, in the order of their names.

    A case's split is that of ``cases.tsv``. An image without label map, or the reverse, is a case that fails when it is
    loaded.

    Args:
        options: `folder`; `modality` unless the folder says it; `labels` in place of the folder's own table; `salt` if
            ``cases.tsv`` names patients; `dataset`.

    Raises:
        InputError: the folder or a table is missing or damaged, or two files make one case.
        SettingError: an option is missing, or without effect.
    """
    options.refuse_all_but("folder", "modality", "salt", "dataset", "labels", layout=LAYOUT)
    folder = options.resolved_folder(LAYOUT)
    dataset = options.dataset_of(folder)
    description = read_json_object(folder / "dataset.json")
    images = _by_stem(_subfolder(folder, _IMAGE_FOLDERS), _IMAGE_ENDINGS)
    label_files = _by_stem(_subfolder(folder, _LABEL_FOLDERS), _LABEL_ENDINGS)
    labels, table = _labels(folder, description, label_files, options.labels)
    cases_table, listed = _listed(folder)
    unknown = sorted(set(listed) - set(images) - set(label_files))
    if unknown:
        raise InputError(
            f"cases without a file: {', '.join(unknown[:5])}", where=cases_table, remedy="name files without suffix"
        )
    patients = any(row.get("patient") for row in listed.values())
    if options.salt is not None and not patients:
        raise SettingError(
            "a salt has no effect: no patient is named", remedy="leave it out, or name patients in cases.tsv"
        )
    salt = options.salt_for_patients() if patients else ""
    origin = origin_of(description, dataset)
    described = described_modality(description)
    cases = []
    for stem in sorted(set(images) | set(label_files)):
        row = listed.get(stem, {})
        told = checked_modality(row["modality"], cases_table) if row.get("modality") else described
        patient = row.get("patient") or None
        image, label_file = images.get(stem), label_files.get(stem)
        cases.append(
            SourceCase(
                case_id=case_id(stem if slug(stem).startswith(slug(dataset)) else f"{dataset}-{stem}"),
                dataset=dataset,
                modality=options.settled_modality(told[0], folder),
                split=split_of(row.get("split"), cases_table),
                patient_id=hash_patient(patient, dataset=dataset, salt=salt) if patient else None,
                load=partial(_load, stem, image, label_file, labels),
                origins=(origin,),
                files=tuple(path for path in (image, label_file, table) if path is not None),
                sequence=told[1],
            )
        )
    if not cases:
        raise InputError("no image here", where=folder / "images", remedy=f"put files of {', '.join(SUFFIXES)} there")
    return cases


def _load(
    stem: str, image_file: Path | None, label_file: Path | None, labels: Labels | None
) -> tuple[Image, list[LabelMap]]:
    if image_file is None or label_file is None:
        have, lack = (label_file, "image") if image_file is None else (image_file, "label map")
        raise InputError(f"no {lack} named {stem}", where=have, remedy="add it, or remove this file")
    image = read_image(image_file)
    label_maps = read_label_maps(label_file, None if labels is None else {})
    for label_map in label_maps:
        check_same_grid(image, label_map, where=label_file)
    if labels is None:
        return image, label_maps
    return image, label_maps_of(label_maps[0].data, label_maps[0].affine, labels)


def _subfolder(folder: Path, names: tuple[str, ...]) -> Path:
    wanted = {name.lower() for name in names}
    found = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.lower() in wanted)
    if not found:
        raise InputError(
            "no such folder", where=folder / names[0], remedy=f"the layout {LAYOUT} needs images/ and labels/"
        )
    if len(found) > 1:
        raise InputError(f"{found[0].name} and {found[1].name} could both be meant", where=folder, remedy="keep one")
    return found[0]


def _by_stem(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """Returns the files by their stems, without what tells an image from its label map where every file has it."""
    paths = [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and path.is_file() and path.name.lower().endswith(SUFFIXES)
    ]
    common = next((ending for ending in endings if paths and all(stem_of(path).endswith(ending) for path in paths)), "")
    files: dict[str, Path] = {}
    for path in paths:
        stem = stem_of(path).removesuffix(common) or stem_of(path)
        if stem in files:
            raise InputError(f"the same case as {files[stem].name}", where=path, remedy="keep one of the two")
        files[stem] = path
    return files


def _labels(
    folder: Path, description: Mapping[str, Any], label_files: Mapping[str, Path], given: Path | None
) -> tuple[Labels | None, Path | None]:
    """Returns label → values and the file that says so; None where every label map names its own segments."""
    table = given or find_table(folder, [f"labels.{suffix}" for suffix in ("tsv", "csv", "json")])
    if table is not None:
        return read_labels(table), table
    if "labels" in description:
        return labels_from(description["labels"], folder / "dataset.json"), folder / "dataset.json"
    if all(path.name.lower().endswith(".seg.nrrd") for path in label_files.values()):
        return None, None
    raise InputError(
        "nothing says what the label values stand for", where=folder, remedy="add labels.tsv with value and name"
    )


def _listed(folder: Path) -> tuple[Path | None, dict[str, dict[str, str]]]:
    """Returns ``cases.tsv`` or ``.csv`` and its rows by case; empty without one."""
    path = find_table(folder, ("cases.tsv", "cases.csv"))
    if path is None:
        return None, {}
    listed: dict[str, dict[str, str]] = {}
    for row in read_rows(path):
        strange = sorted(set(row) - {"case", "patient", "split", "modality"})
        if "case" not in row or strange:
            raise InputError(
                f"unknown columns {', '.join(strange)}" if strange else "no column case",
                where=path,
                remedy="use the columns case, patient, split, modality",
            )
        if row["case"] in listed:
            raise InputError(f"two rows of case {row['case']!r}", where=path, remedy="keep one")
        listed[row["case"]] = row
    return path, listed
