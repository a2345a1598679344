"""SAT-DS: JSON lines that name images, label maps and labels.

One line a case, as published:
  image, mask, label[], modality, dataset, official_split, patient_id
and after the conversion to NumPy files also
  renorm_image                npy, `1 i j k`, 1 × 1 × 3 mm, normalised
  renorm_segmentation_dir     a folder of <label>.npy, each mask cropped to its box
  renorm_y1x1z1_y2x2z2[]      for each label the box, start then stop along i j k, or false where it is absent

Paths are looked up from the folder given, from that of the file of lines, and from the folders above it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.errors import InputError
from vesalius.ids import CaseId, case_id, slug
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import Image, LabelMap, check_intensities, check_same_grid, read_image, read_label_stack
from vesalius.volumes.layouts.drawing import label_maps_of
from vesalius.volumes.layouts.grid import plain_affine
from vesalius.volumes.layouts.options import LayoutOptions
from vesalius.volumes.layouts.sat_ds_labels import UNCLEAR, drawn_labels, places_of, value_at, values_of
from vesalius.volumes.layouts.subjects import subject_of
from vesalius.volumes.layouts.tables import modality_of, origin_of, read_json_lines, read_labels, split_of
from vesalius.volumes.npy_file import read_npy
from vesalius.volumes.patients import hash_patient
from vesalius.volumes.regions import values_in

LAYOUT = "sat-ds"

_SPACING_MM = (1.0, 1.0, 3.0)

_ORIENTATIONS = {"MRSpineSeg": "ASR", "VerSe": "ASR", "BTCV_Cervix": "LPS", "ToothFairy": "IPL"}
"""Where the axes of converted arrays run to, where it is not RAS."""

_CHANNELS = {"MSD_Prostate": {"T2": 0, "ADC": 1}}
"""What is written behind a file of several channels, as if it lay in it, for the one that is meant."""

_LONGEST_NAME = 100


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the file.

    Attributes:
        where: file and line, for messages.
        held: the object of the line.
        dataset: it names.
        bases: folders that its paths may start from.
    """

    where: str
    held: Mapping[str, Any]
    dataset: str
    bases: tuple[Path, ...]

    @property
    def converted(self) -> bool:
        """Whether it names the NumPy files of the conversion."""
        return bool(self.held.get("renorm_image"))

    @property
    def channel(self) -> int | None:
        """The channel of `image` that is meant, or None for a file of one."""
        return _CHANNELS.get(self.dataset, {}).get(Path(str(self.held.get("image", ""))).name)

    def path(self, key: str) -> Path:
        """Returns the file or folder named under `key`: the first that exists, else where it was looked for first."""
        named = Path(str(self.held[key]))
        if key == "image" and self.channel is not None:
            named = named.parent
        found = [path for base in self.bases if (path := base / named).exists()]
        return found[0] if found else self.bases[0] / named

    def texts(self, key: str) -> list[str]:
        """Returns the texts listed under `key`.

        Raises:
            InputError: there is no such list.
        """
        held = self.held.get(key)
        if not isinstance(held, list) or not all(isinstance(text, str) for text in held):
            raise InputError(f"{key} is no list of texts", where=self.where, remedy="restore the line")
        return [str(text) for text in held]


def sat_ds_cases(options: LayoutOptions) -> list[SourceCase]:
    """Returns the cases of files of JSON lines of the layout ``sat-ds``, in their order.

    Labels are tied to the values of a label map by their order. ``kidney`` beside ``left kidney`` and ``right kidney``
    is the union of the two and has no value of its own; so are others, as published (`sat_ds_labels`). A label that is
    neither drawn nor a union that is known becomes no region, and is listed. A patient is who `subject_of` tells by ``patient_id``: one
    of several data sets is one; without it, the cases of one image are a group.

    Args:
        options: `folder`, or one ``.jsonl``; `labels` where values are not in the order of the labels; `stored_orientation`
            of converted arrays, where it is not the published one; `salt`; `modality` for lines without one.

    Raises:
        InputError: a file is missing or damaged, or a line lacks an entry.
        SettingError: an option contradicts the dataset, or is without effect.
    """
    options.refuse_all_but("folder", "modality", "salt", "labels", "stored_orientation", layout=LAYOUT)
    entries = [entry for path in _line_files(options.resolved_folder(LAYOUT, or_file=True)) for entry in _entries(path)]
    names = _names(entries)
    salt = options.salt_for_patients() if any(entry.held.get("patient_id") for entry in entries) else ""
    cases = []
    for entry, name in zip(entries, names, strict=True):
        said, sequence = modality_of(str(entry.held.get("modality", "")))
        collection, subject = subject_of(str(entry.held.get("patient_id") or ""), dataset=entry.dataset)
        keys = ("renorm_image", "renorm_segmentation_dir") if entry.converted else ("image", "mask")
        files = [entry.path(key) for key in keys]
        files = [files[0], *(sorted(files[1].glob("*.npy")) if entry.converted else files[1:])]
        load = (
            partial(_load_converted, entry, options.stored_orientation)
            if entry.converted
            else partial(_load, entry, options.labels)
        )
        cases.append(
            SourceCase(
                case_id=name,
                dataset=entry.dataset,
                modality=options.settled_modality(said, entry.where),
                split=split_of(entry.held.get("official_split"), entry.where),
                patient_id=hash_patient(subject, dataset=collection, salt=salt) if subject else None,
                load=load,
                origins=(origin_of({}, entry.dataset),),
                files=(*files, *([options.labels] if options.labels else [])),
                sequence=sequence,
                group=_image_of(entry),
                made_with=json.dumps([entry.held, options.stored_orientation], sort_keys=True),
            )
        )
    return cases


def _line_files(given: Path) -> list[Path]:
    if given.is_file():
        return [given]
    for place in (given, given / "jsonl", given / "data" / "jsonl"):
        found = sorted(path for path in place.iterdir() if path.suffix.lower() == ".jsonl") if place.is_dir() else []
        if found:
            return found
    raise InputError("no file of JSON lines (.jsonl) here", where=given, remedy="give the file itself")


def _entries(path: Path) -> Iterator[Entry]:
    bases = tuple(dict.fromkeys((path.parent, *list(path.parents)[1:5])))
    for number, held in read_json_lines(path):
        where = f"{path}:{number}"
        needed = ("renorm_image", "renorm_segmentation_dir") if held.get("renorm_image") else ("image", "mask")
        lacking = [key for key in (*needed, "label", "dataset") if not held.get(key)]
        if lacking:
            raise InputError(f"no {', '.join(lacking)}", where=where, remedy="restore the line, or remove it")
        yield Entry(where=where, held=held, dataset=str(held["dataset"]), bases=bases)


def _image_of(entry: Entry) -> str:
    return str(entry.held.get("image") or entry.held["renorm_image"])


def _names(entries: Sequence[Entry]) -> list[CaseId]:
    """Returns the case ids: dataset and file name, with as many folders before it as tell the dataset's cases apart."""
    paths = [Path(_image_of(entry)) for entry in entries]
    depth: dict[str, int] = {}
    for dataset in {entry.dataset for entry in entries}:
        own = [path for path, entry in zip(paths, entries, strict=True) if entry.dataset == dataset]
        longest = max(len(path.parts) for path in own)
        depth[dataset] = next(
            (n for n in range(1, longest + 1) if max(Counter(path.parts[-n:] for path in own).values()) == 1), 1
        )
    names = []
    for path, entry in zip(paths, entries, strict=True):
        parts = path.parts[-depth[entry.dataset] :]
        name = slug("-".join((*parts[:-1], parts[-1].split(".")[0] or parts[-1])))
        name = name if name.startswith(slug(entry.dataset)) else f"{entry.dataset}-{name}"
        if len(name) > _LONGEST_NAME:
            name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        names.append(case_id(name))
    return names


def _load(entry: Entry, table: Path | None) -> tuple[Image, Iterable[LabelMap]]:
    image_file, mask_file = entry.path("image"), entry.path("mask")
    labels = entry.texts("label")
    if table is None and entry.dataset in UNCLEAR:
        raise InputError(
            f"the labels of {entry.dataset} are not in the order of their values",
            where=entry.where,
            remedy='give --labels with {"1": "…"}',
        )
    image = read_image(image_file, channel=entry.channel)
    stack = read_label_stack(mask_file)
    for label_map in stack:
        check_same_grid(image, label_map, where=mask_file)
    drawn, unions = drawn_labels(labels, entry.dataset)
    if len(stack) > 1:
        return image, _stacked(_checked_stack(stack, drawn, mask_file), labels, drawn, unions)
    if table is not None:
        return image, label_maps_of(stack[0].data, stack[0].affine, read_labels(table))
    values = values_in(stack[0].data)
    numbers = values_of(entry.dataset, len(drawn))
    if len(drawn) == 1 and len(values) == 1:
        numbers = tuple(values)  # one structure, drawn with any value, such as 255
    elif max(values, default=0) > max(len(labels), *numbers):
        raise InputError(
            f"values up to {max(values)} for {len(labels)} labels: they are not in the order of the labels",
            where=mask_file,
            remedy='give --labels with {"1": "…"}',
        )
    named = {
        text: frozenset(value_at(number, numbers) for number in places_of(place, entry.dataset))
        for place, (text, _) in enumerate(zip(drawn, numbers, strict=False), start=1)
    }
    joined = {text: frozenset(value_at(number, numbers) for number in parts) for text, parts in unions.items()}
    maps = label_maps_of(stack[0].data, stack[0].affine, {**named, **joined})
    return image, [replace(maps[0], undrawn=_undrawn(labels, [*named, *unions])), *maps[1:]]


def _stacked(
    stack: Sequence[LabelMap], labels: Sequence[str], drawn: Sequence[str], unions: Mapping[str, Sequence[int]]
) -> Iterator[LabelMap]:
    """Yields the masks of a stack, one for each label that is drawn, then those that are unions of them."""
    for number, (text, mask) in enumerate(zip(drawn, stack, strict=False)):
        yield LabelMap(
            data=mask.data,
            affine=mask.affine,
            labels=dict.fromkeys(values_in(mask.data) or [1], text),
            undrawn=frozenset() if number else _undrawn(labels, [*drawn, *unions]),
        )
    for text, parts in unions.items():
        data = np.zeros(stack[0].data.shape, dtype=np.int8)
        for number in parts:
            if number <= len(stack):
                data[stack[number - 1].data != 0] = 1
        yield LabelMap(data=data, affine=stack[0].affine, labels={1: text})


def _undrawn(labels: Sequence[str], known: Sequence[str]) -> frozenset[str]:
    return frozenset(labels).difference(known)


def _checked_stack(stack: Sequence[LabelMap], drawn: Sequence[str], path: Path) -> Sequence[LabelMap]:
    if len(stack) < len(drawn):
        raise InputError(
            f"{len(stack)} masks for {len(drawn)} labels", where=path, remedy="check the labels of the line"
        )
    for mask, text in zip(stack, drawn, strict=False):
        if len(values_in(mask.data)) > 1:
            raise InputError(f"the mask of {text!r} has several values", where=path, remedy="give masks of 0 and 1")
    return stack


def _load_converted(entry: Entry, orientation: str | None) -> tuple[Image, Iterator[LabelMap]]:
    path = entry.path("renorm_image")
    data = read_npy(path)
    if data.ndim == 4 and len(data) == 1:
        data = data[0]
    if data.ndim != 3 or data.dtype.kind not in "biuf":
        raise InputError(f"an array of {data.dtype} of shape {data.shape}", where=path, remedy="give one of 1 i j k")
    affine = plain_affine(orientation or _ORIENTATIONS.get(entry.dataset, "RAS"), _SPACING_MM)
    image = Image(data=check_intensities(data, path), affine=affine, clipped=True)
    labels, boxes = entry.texts("label"), entry.held.get("renorm_y1x1z1_y2x2z2")
    if not isinstance(boxes, list) or len(boxes) != len(labels):
        raise InputError(
            f"renorm_y1x1z1_y2x2z2 does not hold a box for each of {len(labels)} labels",
            where=entry.where,
            remedy="convert the case again",
        )
    folder = entry.path("renorm_segmentation_dir")
    return image, (
        _read_converted_mask(folder / f"{text}.npy", text, box, image, entry.where)
        # A label that stands twice, as in VerSe, is what its last place says: the conversion wrote over the first.
        for text, box in dict(zip(labels, boxes, strict=True)).items()
        if box is not False
    )


def _read_converted_mask(path: Path, text: str, box: Any, image: Image, where: str) -> LabelMap:
    if text in {"", ".", ".."} or set(text) & set("/\\\0"):
        raise InputError(f"label {text!r} names no file of its folder", where=where, remedy="restore the line")
    whole = isinstance(box, list) and len(box) == 6 and all(isinstance(n, int) for n in box)
    if not whole or not all(0 <= a < b <= n for a, b, n in zip(box[:3], box[3:], image.data.shape, strict=True)):
        raise InputError(
            f"the box {box!r} of {text!r} is not inside {image.data.shape}", where=where, remedy="convert again"
        )
    mask = read_npy(path)
    shape = tuple(b - a for a, b in zip(box[:3], box[3:], strict=True))
    if mask.shape != shape or mask.dtype.kind not in "biuf":
        raise InputError(
            f"{mask.dtype} of shape {mask.shape}, but its box is {shape}", where=path, remedy="convert again"
        )
    affine = image.affine.copy()
    affine[:3, 3] += image.affine[:3, :3] @ box[:3]
    return LabelMap(data=(mask != 0).astype("int8"), affine=affine, labels={1: text})
