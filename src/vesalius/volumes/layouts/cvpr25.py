"""The CVPR 2025 challenge of text-guided segmentation: npz files, JSON lines and a JSON of prompts.

FOLDER/
  *.jsonl                     data (path of an npz), dataset, modality, label_existance[]; without it, every npz below
  *.json                      {dataset: {"1": [prompt, …], …, "instance_label": 0 or 1}}
  CT/CT_AMOS/CT_AMOS_001.npz  imgs (0 to 255) and gts, both `k j i` (depth, height, width); spacing, i j k in mm
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.errors import InputError
from vesalius.ids import Modality, case_id, slug
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import Image, LabelMap, check_grid, check_intensities, whole_numbers
from vesalius.volumes.layouts.grid import plain_affine
from vesalius.volumes.layouts.options import LayoutOptions, files_below
from vesalius.volumes.layouts.subjects import subject_of
from vesalius.volumes.layouts.tables import modality_of, origin_of, read_json, read_json_lines, split_of
from vesalius.volumes.npy_file import names_in_npz, read_npz
from vesalius.volumes.regions import values_in

LAYOUT = "cvpr25"

_ORIENTATIONS = {
    "LPS": (
        "CT_AbdomenAtlas CT_AdrenalTumor CT_AirwayTree CT_Aorta CT_COVID19-Infection CT_HaN-Seg CT_LymphNode "
        "CT_SegRap_HeadNeckTumor CT_ThoracicOrgans-TCIA-LCTSC CT_WholeBodyTumor MR_CHAOS-T1 MR_CHAOS-T2"
    ),
    "RAS": (
        "CT_Abdomen1K CT_ColonTumor CT_LiverTumor CT_TotalSeg_cardiac CT_TotalSeg_muscles CT_TotalSeg_organs "
        "CT_TotalSeg-vertebrae MR_AMOS MR_TotalSeg"
    ),
    "RPS": "CT_LungLesion MR_HNTS-MRG_HeadTumor MR_T1c_crossMoDA_Tumor_Cochlea MR_WMH_FLAIR MR_WMH_T1",
    "LAS": (
        "CT_AMOS CT_Lungs MR_BraTS-T1c MR_BraTS-T1n MR_BraTS-T2f MR_BraTS-T2w MR_ISLES_ADC MR_ISLES_DWI "
        "MR_ProstateADC MR_ProstateT2 MR_QIN-PROSTATE-Lesion"
    ),
}
"""Where width, height and depth run to, for the datasets of the challenge that the published loader turns to RAS."""

_ORIENTATION_OF = {slug(name): code for code, names in _ORIENTATIONS.items() for name in names.split()}

_DEFAULT_ORIENTATION = "LPS"
"""As SimpleITK gives most images; the arrays themselves do not say it."""


def cvpr25_cases(options: LayoutOptions) -> list[SourceCase]:
    """Returns the cases of the challenge's files, in the order of the lines, or of their paths.

    The files do not say who the patient is: cases of one subject, as `subject_of` tells it by their names, are a group. A
    label is named by its first prompt. Where ``instance_label`` is 1, the values count instances of label 1.

    Args:
        options: `folder`, or one ``.jsonl`` in it; `labels` for the JSON of prompts; `stored_orientation` of all arrays, where
            it is neither the published one nor LPS; `modality` for cases without one.

    Raises:
        InputError: a file is missing or damaged, or holds no case.
        SettingError: an option contradicts the dataset, or is without effect.
    """
    options.refuse_all_but("folder", "modality", "labels", "stored_orientation", layout=LAYOUT)
    given = options.resolved_folder(LAYOUT, or_file=True)
    folder = given if given.is_dir() else given.parent
    prompts_file = options.labels or _find_prompts(folder)
    prompts = _prompts(prompts_file)
    cases = []
    for where, held in _entries(given, prompts):
        path = _locate(folder, str(held["data"]))
        dataset = str(held["dataset"])
        said, sequence = modality_of(str(held.get("modality") or ""))
        if said in {None, "mr"}:
            named, in_name = modality_of(dataset)
            said, sequence = said or named, sequence or in_name
        stem = path.name.removesuffix(path.suffix)
        orientation = options.stored_orientation or _ORIENTATION_OF.get(slug(dataset), _DEFAULT_ORIENTATION)
        cases.append(
            SourceCase(
                case_id=case_id(stem if slug(stem).startswith(slug(dataset)) else f"{dataset}-{stem}"),
                dataset=dataset,
                modality=options.settled_modality(said, where),
                split=split_of(held.get("official_split", held.get("split")), where),
                patient_id=None,
                load=partial(_load, path, dataset, prompts.get(dataset), prompts_file, orientation),
                origins=(origin_of({}, dataset),),
                files=(path, prompts_file),
                sequence=sequence,
                group=" ".join(subject_of(stem, dataset=dataset)),
                made_with=f"{dataset} {orientation}",
            )
        )
    if not cases:
        raise InputError("no npz here", where=folder, remedy="give the folder that the lines' paths start from")
    return cases


def _entries(given: Path, prompts: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields where it stands and what it says, for each case."""
    lines = [given] if given.is_file() else sorted(p for p in given.iterdir() if p.suffix.lower() == ".jsonl")
    for path in lines:
        for number, held in read_json_lines(path):
            lacking = [key for key in ("data", "dataset") if not held.get(key)]
            if lacking:
                raise InputError(
                    f"no {', '.join(lacking)}", where=f"{path}:{number}", remedy="restore the line, or remove it"
                )
            yield f"{path}:{number}", held
    if lines:
        return
    for path in (p for p in files_below(given) if p.suffix.lower() == ".npz" and not p.name.startswith(".")):
        named = path.relative_to(given)
        # The folder a file lies in is its dataset; a flat folder leaves only the beginning of the file's name.
        dataset = next((part for part in reversed(named.parent.parts) if part in prompts), None)
        if dataset is None:
            begun = [name for name in prompts if slug(path.stem).startswith(slug(name))]
            dataset = max(begun, key=len, default=path.parent.name)
        held = {"data": named.as_posix(), "dataset": dataset}
        modality = next((m for part in named.parent.parts if (m := _modality_folder(part))), None)
        yield str(path), {**held, "modality": modality} if modality else held


def _modality_folder(name: str) -> Modality | None:
    return modality_of(name)[0] if len(name) <= len("microscopy") else None


def _locate(folder: Path, named: str) -> Path:
    bases = (folder, *list(folder.parents)[:4])
    return next((path for base in bases if (path := base / named).exists()), folder / named)


def _find_prompts(folder: Path) -> Path:
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() == ".json" and path.is_file() and _holds_prompts(read_json(path))
    ]
    if len(found) != 1:
        raise InputError(
            f"{len(found)} files of prompts (.json) here" if found else "no file of prompts (.json) here",
            where=folder,
            remedy='give it with --labels: {"CT_AMOS": {"1": ["liver", …], "instance_label": 0}}',
        )
    return found[0]


def _holds_prompts(held: Any) -> bool:
    return (
        isinstance(held, dict)
        and bool(held)
        and all(isinstance(labels, dict) and ("instance_label" in labels or "1" in labels) for labels in held.values())
    )


def _prompts(path: Path) -> Mapping[str, Mapping[str, Any]]:
    held = read_json(path)
    if not _holds_prompts(held):
        raise InputError(
            "no prompts by dataset", where=path, remedy='write {"CT_AMOS": {"1": ["liver"], "instance_label": 0}}'
        )
    return held


def _load(
    path: Path, dataset: str, prompts: Mapping[str, Any] | None, prompts_file: Path, orientation: str
) -> tuple[Image, list[LabelMap]]:
    if prompts is None:
        raise InputError(f"no prompts for dataset {dataset!r}", where=prompts_file, remedy="add them")
    if "gts" not in names_in_npz(path):
        raise InputError("no gts in it: a case without label map", where=path, remedy="leave it out")
    arrays = read_npz(path, ("imgs", "gts", "spacing"))
    images, drawn, spacing = arrays["imgs"], arrays["gts"], arrays["spacing"]
    if images.ndim != 3 or images.dtype.kind not in "biuf" or drawn.dtype.kind not in "biuf":
        raise InputError(
            f"imgs is {images.dtype} of shape {images.shape}, not a volume", where=path, remedy="give one channel"
        )
    if images.shape != drawn.shape:
        raise InputError(
            f"the label map has shape {drawn.shape}, its image {images.shape}", where=path, remedy="get it anew"
        )
    if spacing.shape != (3,) or spacing.dtype.kind not in "iuf":
        raise InputError(f"spacing {spacing.tolist()} is not three numbers", where=path, remedy="get it anew")
    affine = plain_affine(orientation, [float(step) for step in spacing])
    check_grid(images.shape, affine, where=path)
    # Depth, height, width is the order of SimpleITK's arrays: turned round it is i j k.
    data = whole_numbers(np.ascontiguousarray(drawn.T), path)
    labels = _labels(prompts, values_in(data), prompts_file, dataset)
    return (
        Image(data=check_intensities(images.T, path), affine=affine, clipped=True),
        [LabelMap(data=data, affine=affine, labels=labels)],
    )


def _labels(prompts: Mapping[str, Any], values: list[int], where: Path, dataset: str) -> dict[int, str]:
    instances = str(prompts.get("instance_label", 0)).strip() in {"1", "True", "true"}
    named: dict[int, str] = {}
    for key, held in prompts.items():
        if not key.strip().isdecimal() or int(key) == 0:
            continue
        first = held[0] if isinstance(held, list) and held else held
        if not isinstance(first, str) or not first.strip():
            raise InputError(f"label {key} of {dataset} has no prompt", where=where, remedy="add one")
        named[int(key)] = first.strip()
    if instances:
        if len(named) != 1:
            raise InputError(
                f"{len(named)} labels of {dataset}, but its values count instances",
                where=where,
                remedy="keep one label",
            )
        return dict.fromkeys(values, next(iter(named.values())))
    return named
