"""A dataset of nnU-Net (version 1 or 2) or of the Medical Segmentation Decathlon, raw or preprocessed.

DATASET/
  dataset.json                channel_names or modality; labels, a label may be a list of values; file_ending
  imagesTr/CASE_0000.nii.gz   one file a channel, or (Decathlon) CASE.nii.gz with channels along a fourth axis
  labelsTr/CASE.nii.gz
  imagesTs/, labelsTs/        the held-out part; images without label map are no cases
Where ``dataset.json`` lists the training cases under ``dataset``, by case {"images": [a file a channel], "label": file},
these files are read in place of imagesTr and labelsTr.

A folder with ``nnUNetPlans.json`` in place of ``imagesTr`` is a preprocessed one: `nnunet_preprocessed` reads it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vesalius.errors import InputError
from vesalius.folder import Origin
from vesalius.ids import Modality, Split, case_id, slug
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import SUFFIXES, Image, LabelMap, check_same_grid, read_image, read_label_maps, stem_of
from vesalius.volumes.layouts.drawing import label_maps_of
from vesalius.volumes.layouts.nnunet_preprocessed import is_preprocessed, preprocessed_cases
from vesalius.volumes.layouts.options import LayoutOptions
from vesalius.volumes.layouts.tables import labels_from, modality_of, origin_of, read_json

LAYOUT = "nnunet"

_CHANNEL = re.compile(r"(.+)_(\d{4})")


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A channel of a dataset's images.

    Attributes:
        number: from 0.
        name: as the dataset writes it.
        modality: that the name says, or None.
        sequence: that the name says, or None.
    """

    number: int
    name: str
    modality: Modality | None
    sequence: str | None


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a ``dataset.json`` says.

    Attributes:
        path: the file.
        channels: of every image.
        labels: label → its values.
        ignored: values that stand for nothing, such as unlabelled voxels.
        held: the whole file.
    """

    path: Path
    channels: tuple[Channel, ...]
    labels: Mapping[str, frozenset[int]]
    ignored: frozenset[int]
    held: Mapping[str, Any]


def nnunet_cases(options: LayoutOptions) -> list[SourceCase]:
    """Returns the cases of a dataset of the layout ``nnunet``, one a channel, in the order of their names.

    ``imagesTr`` is the official train, ``imagesTs`` the official test side.

    Args:
        options: `folder`; `modality` unless the channel names say it; `labels` in place of those of ``dataset.json``;
            `dataset`; `stored_orientation` for preprocessed cases whose properties do not say it.

    Raises:
        InputError: the folder or its ``dataset.json`` is missing or damaged.
        SettingError: an option is missing, contradicts the dataset, or is without effect.
    """
    options.refuse_all_but("folder", "modality", "dataset", "labels", "stored_orientation", layout=LAYOUT)
    folder = options.resolved_folder(LAYOUT)
    if is_preprocessed(folder):
        return preprocessed_cases(options, folder, read_description)
    options.refuse_all_but("folder", "modality", "dataset", "labels", layout=f"{LAYOUT}, raw")
    description = read_description(folder / "dataset.json", options)
    dataset = options.dataset_of(folder)
    origin = origin_of(description.held, dataset)
    cases: list[SourceCase] = []
    sides: tuple[tuple[str, Split], ...] = (("Tr", "train"), ("Va", "validation"), ("Ts", "test"))
    listed = description.held.get("dataset")
    for ending, split in sides:
        images, label_maps = folder / f"images{ending}", folder / f"labels{ending}"
        if split == "train" and listed and isinstance(listed, dict):
            files, label_files = _listed_files(folder, listed, description.path)
        elif label_maps.is_dir():
            files = {} if not images.is_dir() else _channels_by_case(images)
            label_files = _label_files(label_maps)
        else:
            continue
        for stem, label_file in label_files.items():
            cases += _cases_of(stem, files.get(stem, {}), label_file, description, options, dataset, split, origin)
        if split == "train":
            drawn = {path for stem in label_files for path in files.get(stem, {}).values()}
            bare = sorted({path for held in files.values() for path in held.values()} - drawn)
            cases += [_bare_case(path, description, options, dataset, split, origin) for path in bare]
    if not cases:
        raise InputError("no label map here", where=folder / "labelsTr", remedy=f"put {', '.join(SUFFIXES)} there")
    return cases


def read_description(path: Path, options: LayoutOptions) -> Description:
    """Reads a ``dataset.json``, of nnU-Net version 1 or 2.

    Raises:
        InputError: it is missing or damaged, or names no channel or no label.
    """
    held = read_json(path)
    if not isinstance(held, dict):
        raise InputError("not a JSON object", where=path, remedy="correct it")
    said = held.get("channel_names", held.get("modality"))
    if isinstance(said, (str, list)):
        said = {str(number): name for number, name in enumerate([said] if isinstance(said, str) else said)}
    if not isinstance(said, dict) or not said or not all(str(key).strip().isdecimal() for key in said):
        raise InputError("no channel_names", where=path, remedy='write {"channel_names": {"0": "CT"}, …}')
    channels = tuple(
        Channel(number=int(key), name=str(name), modality=modality, sequence=sequence)
        for key, name in sorted(said.items(), key=lambda pair: int(pair[0]))
        for modality, sequence in [modality_of(str(name))]
    )
    table = options.labels or path
    written = read_json(options.labels) if options.labels else held.get("labels")
    if written is None:
        raise InputError("no labels", where=table, remedy='write {"labels": {"background": 0, "liver": 1}, …}')
    labels = labels_from(written, table)
    ignored = next((values for text, values in labels.items() if text.lower() == "ignore"), frozenset())
    return Description(
        path=path,
        channels=channels,
        labels={text: values for text, values in labels.items() if text.lower() != "ignore"},
        ignored=ignored,
        held=held,
    )


def channel_id(dataset: str, stem: str, channel: Channel, num_channels: int) -> str:
    """Returns what the id of a case is made from: dataset and case, and the channel where there are several."""
    named = stem if slug(stem).startswith(slug(dataset)) else f"{dataset}-{stem}"
    return named if num_channels == 1 else f"{named}-{channel.number:04d}"


def _cases_of(
    stem: str,
    files: Mapping[int | None, Path],
    label_file: Path,
    description: Description,
    options: LayoutOptions,
    dataset: str,
    split: Split,
    origin: Origin,
) -> list[SourceCase]:
    cases = []
    for channel in description.channels:
        image, stacked = files.get(channel.number), False
        if image is None and None in files:
            image, stacked = files[None], len(description.channels) > 1
        cases.append(
            SourceCase(
                case_id=case_id(channel_id(dataset, stem, channel, len(description.channels))),
                dataset=dataset,
                modality=options.settled_modality(channel.modality, f"{description.path}, channel {channel.name!r}"),
                split=split,
                patient_id=None,
                load=partial(_load, stem, image, channel, label_file, description, stacked=stacked),
                origins=(origin,),
                files=tuple(path for path in (image, label_file, description.path, options.labels) if path is not None),
                sequence=channel.sequence,
                group=f"{dataset} {stem}",
                made_with=f"{channel.number}",
            )
        )
    return cases


def _bare_case(
    image: Path, description: Description, options: LayoutOptions, dataset: str, split: Split, origin: Origin
) -> SourceCase:
    """Returns the case of a training image without label map, which fails when it is loaded."""
    channel = description.channels[0]
    return SourceCase(
        case_id=case_id(channel_id(dataset, stem_of(image), channel, 1)),
        dataset=dataset,
        modality=options.settled_modality(channel.modality, f"{description.path}, channel {channel.name!r}"),
        split=split,
        patient_id=None,
        load=partial(_refuse_bare, image),
        origins=(origin,),
        files=(image, description.path),
    )


def _refuse_bare(image: Path) -> tuple[Image, list[LabelMap]]:
    raise InputError("no label map for this image", where=image, remedy="add it to labelsTr, or remove the image")


def _load(
    stem: str, image_file: Path | None, channel: Channel, label_file: Path, description: Description, *, stacked: bool
) -> tuple[Image, list[LabelMap]]:
    if image_file is None:
        raise InputError(
            f"no image named {stem} with channel {channel.number:04d}",
            where=label_file,
            remedy="add it, or remove this label map",
        )
    image = read_image(image_file, channel=channel.number if stacked else None)
    (label_map, *more) = read_label_maps(label_file, {})
    if more:
        raise InputError("several layers of segments", where=label_file, remedy="export them without overlap")
    check_same_grid(image, label_map, where=label_file)
    return image, label_maps_of(label_map.data, label_map.affine, description.labels, ignored=description.ignored)


def _listed_files(
    folder: Path, listed: Mapping[str, Any], where: Path
) -> tuple[dict[str, dict[int | None, Path]], dict[str, Path]]:
    """Returns case → channel → file, and case → label map, as ``dataset.json`` lists them."""
    files: dict[str, dict[int | None, Path]] = {}
    label_files: dict[str, Path] = {}
    for stem, held in listed.items():
        images, label_file = (held.get("images"), held.get("label")) if isinstance(held, dict) else (None, None)
        if not isinstance(images, list) or not all(isinstance(name, str) for name in (*images, label_file)):
            raise InputError(
                f"dataset does not list images and label of case {stem!r}",
                where=where,
                remedy='write {"images": [a file a channel], "label": file}',
            )
        files[stem] = {channel: folder / os.path.expandvars(name) for channel, name in enumerate(images)}
        label_files[stem] = folder / os.path.expandvars(str(label_file))
    return files, label_files


def _channels_by_case(folder: Path) -> dict[str, dict[int | None, Path]]:
    """Returns case → channel → file; the channel is None for a file that says none."""
    files: dict[str, dict[int | None, Path]] = {}
    for path in _readable(folder):
        stem = stem_of(path)
        match = _CHANNEL.fullmatch(stem)
        # Without another file of the case there is no telling whether 0001 is a channel or part of the name.
        files.setdefault(match[1] if match else stem, {})[int(match[2]) if match else None] = path
        if match:
            files.setdefault(stem, {}).setdefault(None, path)
    return files


def _label_files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in _readable(folder):
        if stem_of(path) in files:
            raise InputError(f"the same case as {files[stem_of(path)].name}", where=path, remedy="keep one of the two")
        files[stem_of(path)] = path
    return files


def _readable(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and path.is_file() and path.name.lower().endswith(SUFFIXES)
    ]
