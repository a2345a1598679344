"""A folder of image and label map pairs, NIfTI or NRRD.

DATASET/
  images/NAME.nii.gz          also .nii, .nrrd
  labels/NAME.nii.gz          on the image's grid; also .nii, .nrrd, .seg.nrrd
  labels.tsv | .csv | .json   value and name of each label; not needed for .seg.nrrd, nor with a dataset.json
  cases.tsv | .csv            optional: case, and any of patient, split, modality
  dataset.json                optional, of nnU-Net or the Medical Segmentation Decathlon: modality and labels
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from vesalius.errors import InputError, SettingError
from vesalius.folder import Origin, unreadable
from vesalius.ids import MODALITIES, SPLITS, Modality, case_id, slug
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import SUFFIXES, Image, LabelMap, check_same_grid, read_image, read_label_maps, stem_of
from vesalius.volumes.layouts.options import LayoutOptions
from vesalius.volumes.patients import hash_patient

_MODALITY_NAMES: dict[str, Modality] = {
    "ct": "ct",
    "cta": "ct",
    "mr": "mr",
    "mri": "mr",
    "t1": "mr",
    "t1w": "mr",
    "t1c": "mr",
    "t1ce": "mr",
    "t1gd": "mr",
    "t2": "mr",
    "t2w": "mr",
    "flair": "mr",
    "adc": "mr",
    "dwi": "mr",
    "us": "us",
    "ultrasound": "us",
    "pet": "pet",
    "microscopy": "microscopy",
}
"""How a ``dataset.json`` writes a modality, in lower case."""


def folder_cases(options: LayoutOptions) -> list[SourceCase]:
    """Returns the cases of a folder of the layout ``nifti_pairs``, in the order of their names.

    A case's split is that of ``cases.tsv``. An image without label map, or the reverse, is a case that fails when it is loaded.

    Args:
        options: `folder`; `modality` unless the folder says it; `salt` if ``cases.tsv`` names patients.

    Raises:
        InputError: the folder or a table is missing or damaged, or two files make one case.
        SettingError: an option is missing, or without effect.
    """
    options.refuse_all_but("folder", "modality", "salt", layout="nifti_pairs")
    if options.folder is None:
        raise SettingError("no folder to read", remedy="give the folder that holds images/ and labels/")
    folder = options.folder.resolve()
    description = _description(folder / "dataset.json")
    images, label_files = _by_stem(folder / "images"), _by_stem(folder / "labels")
    labels, table = _labels(folder, description, label_files)
    listed = _listed(folder)
    unknown = sorted(set(listed) - set(images) - set(label_files))
    if unknown:
        raise InputError(
            f"cases without a file: {', '.join(unknown[:5])}",
            where=folder / "cases",
            remedy="name files without suffix",
        )
    patients = any(row.get("patient") for row in listed.values())
    if patients and not options.salt:
        raise SettingError(
            "cases.tsv names patients, but there is no salt to hash them with", remedy="give a secret --salt"
        )
    if options.salt and not patients:
        raise SettingError(
            "a salt has no effect: no patient is named", remedy="leave it out, or name patients in cases.tsv"
        )
    origin = Origin(
        name=folder.name,
        version=str(description.get("release", "")),
        licence=str(description.get("licence", description.get("license", "not stated"))),
        attribution=str(description.get("reference", "")),
    )
    default = options.modality or _described_modality(description, folder)
    cases: dict[str, SourceCase] = {}
    for stem in sorted(set(images) | set(label_files)):
        row = listed.get(stem, {})
        modality = _one_of(row.get("modality"), MODALITIES, "modality", folder) or default
        if modality is None:
            raise SettingError(
                f"the modality of {folder.name} is not known",
                where=folder,
                remedy=f"give --modality, one of {', '.join(get_args(Modality))}",
            )
        patient = row.get("patient") or None
        image, label_file = images.get(stem), label_files.get(stem)
        case = SourceCase(
            case_id=case_id(stem if slug(stem).startswith(slug(folder.name)) else f"{folder.name}-{stem}"),
            dataset=folder.name,
            modality=modality,
            split=_one_of(row.get("split"), SPLITS, "split", folder),
            patient_id=hash_patient(patient, dataset=folder.name, salt=options.salt)
            if patient and options.salt
            else None,
            load=partial(_load, stem, image, label_file, labels),
            origins=(origin,),
            files=tuple(path for path in (image, label_file, table) if path is not None),
        )
        if case.case_id in cases:
            raise InputError(f"two files make the case {case.case_id}", where=folder, remedy=f"rename {stem}")
        cases[case.case_id] = case
    if not cases:
        raise InputError("no image here", where=folder / "images", remedy=f"put files of {', '.join(SUFFIXES)} there")
    return list(cases.values())


def _load(
    stem: str, image_file: Path | None, label_file: Path | None, labels: Mapping[int, str] | None
) -> tuple[Image, list[LabelMap]]:
    if image_file is None or label_file is None:
        have, lack = (label_file, "image") if image_file is None else (image_file, "label map")
        raise InputError(f"no {lack} named {stem}", where=have, remedy="add it, or remove this file")
    image = read_image(image_file)
    label_maps = read_label_maps(label_file, labels)
    for label_map in label_maps:
        check_same_grid(image, label_map, where=label_file)
    return image, label_maps


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError("no such folder", where=folder, remedy="the layout nifti_pairs needs images/ and labels/")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file() or not path.name.lower().endswith(SUFFIXES):
            continue
        stem = stem_of(path)
        if stem in files:
            raise InputError(f"the same case as {files[stem].name}", where=path, remedy="keep one of the two")
        files[stem] = path
    return files


def _labels(
    folder: Path, description: Mapping[str, Any], label_files: Mapping[str, Path]
) -> tuple[dict[int, str] | None, Path | None]:
    """Returns value → name and the file that says so; None where every label map names its own segments."""
    tables = [path for suffix in ("tsv", "csv", "json") if (path := folder / f"labels.{suffix}").is_file()]
    if len(tables) > 1:
        raise InputError(f"two label tables, {tables[0].name} and {tables[1].name}", where=folder, remedy="keep one")
    if tables and tables[0].suffix == ".json":
        return _values_to_names(_json(tables[0]), tables[0]), tables[0]
    if tables:
        rows = _rows(tables[0])
        value = next((name for name in ("value", "index") if rows and name in rows[0]), None)
        if value is None or "name" not in rows[0]:
            raise InputError(
                "the columns value and name are not both there", where=tables[0], remedy="give it this header"
            )
        return _values_to_names({row[value]: row["name"] for row in rows}, tables[0]), tables[0]
    if "labels" in description:
        return _values_to_names(description["labels"], folder / "dataset.json"), folder / "dataset.json"
    if all(path.name.lower().endswith(".seg.nrrd") for path in label_files.values()):
        return None, None
    raise InputError(
        "nothing says what the label values stand for", where=folder, remedy="add labels.tsv with value and name"
    )


def _values_to_names(table: Any, path: Path) -> dict[int, str]:
    """Returns value → name of a table written that way (Decathlon) or the other way round (nnU-Net)."""
    if isinstance(table, dict) and table:
        pairs = list(table.items())
        if all(_is_whole(value) for value, _ in pairs):
            named = {int(value): str(name).strip() for value, name in pairs}
        elif all(_is_whole(value) for _, value in pairs):
            named = {int(value): str(name).strip() for name, value in pairs}
        else:
            raise InputError("neither names nor values are whole numbers", where=path, remedy='write {"1": "liver", …}')
        return {value: name for value, name in named.items() if value != 0}
    raise InputError("no label in it", where=path, remedy='write {"1": "liver", …}')


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool) and str(value).strip().lstrip("-").isdecimal()


def _listed(folder: Path) -> dict[str, dict[str, str]]:
    """Returns the rows of ``cases.tsv`` or ``.csv`` by case; empty without one."""
    path = next((path for suffix in ("tsv", "csv") if (path := folder / f"cases.{suffix}").is_file()), None)
    if path is None:
        return {}
    listed: dict[str, dict[str, str]] = {}
    for row in _rows(path):
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
    return listed


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
            rows = list(reader)
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, csv.Error) as error:
        raise InputError(f"not a table ({error})", where=path, remedy="save it as UTF-8 text") from error
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise InputError(
                "not as many fields as the header", where=f"{path}:{number}", remedy="quote fields that hold it"
            )
    return [{name.strip(): value.strip() for name, value in row.items()} for row in rows]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise InputError(f"not JSON ({error})", where=path, remedy="correct it") from error


def _description(path: Path) -> dict[str, Any]:
    described = _json(path) if path.is_file() else {}
    if not isinstance(described, dict):
        raise InputError("not a JSON object", where=path, remedy="correct it, or remove it")
    return described


def _described_modality(description: Mapping[str, Any], folder: Path) -> Modality | None:
    said = description.get("modality", description.get("channel_names"))
    if said is None:
        return None
    names = sorted({str(name).lower() for name in (said.values() if isinstance(said, dict) else [said])})
    found: set[Modality] = {_MODALITY_NAMES[name] for name in names if name in _MODALITY_NAMES}
    if len(found) != 1 or not all(name in _MODALITY_NAMES for name in names):
        raise InputError(
            f"modality {', '.join(names)} is not one of {', '.join(MODALITIES)}",
            where=folder / "dataset.json",
            remedy="write one of these there",
        )
    return found.pop()


def _one_of(value: str | None, allowed: tuple[Any, ...], what: str, folder: Path) -> Any:
    if value and value not in allowed:
        raise InputError(f"{what} {value!r}", where=folder / "cases", remedy=f"use one of {', '.join(allowed)}")
    return value or None
