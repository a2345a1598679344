"""The dataset of TotalSegmentator, or what the program writes.

DATASET/
  meta.csv                    optional: image_id and split
  CASE/ct.nii.gz              or mri.nii.gz
  CASE/segmentations/<structure>.nii.gz
or, in the multi-label form,
  CASE/segmentations.nii.gz   any one file beside the image; its label values are named by a JSON beside it or in the
                              dataset's folder, or by the table that the program leaves in the header
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from vesalius.errors import InputError
from vesalius.ids import Modality, Split, case_id, slug
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import SUFFIXES, Image, LabelMap, check_same_grid, read_image, read_label_maps, stem_of
from vesalius.volumes.layouts.drawing import label_maps_of
from vesalius.volumes.layouts.options import LayoutOptions
from vesalius.volumes.layouts.tables import find_table, origin_of, read_labels, read_rows, split_of
from vesalius.volumes.regions import values_in

LAYOUT = "totalsegmentator"

_IMAGES: dict[str, Modality] = {"ct": "ct", "mri": "mr", "mr": "mr", "pet": "pet"}
_NO_LABELS = ("statistics", "preview", "dataset", "meta")


def totalsegmentator_cases(options: LayoutOptions) -> list[SourceCase]:
    """Returns the cases of a folder of the layout ``totalsegmentator``, in the order of their names.

    Masks may overlap. A mask without a voxel is a structure that is not in the image.

    Args:
        options: `folder`; `modality` only if it agrees with the file names; `labels` in place of the JSON of the
            multi-label form; `dataset`.

    Raises:
        InputError: the folder or ``meta.csv`` is missing or damaged, or holds no case.
        SettingError: an option contradicts the dataset, or is without effect.
    """
    options.refuse_all_but("folder", "modality", "dataset", "labels", layout=LAYOUT)
    folder = options.resolved_folder(LAYOUT)
    dataset = options.dataset_of(folder)
    splits = _splits(folder)
    origin = origin_of({}, dataset)
    homes = [path for path in sorted(folder.iterdir()) if path.is_dir() and _images_in(path)]
    if not homes and _images_in(folder):
        homes = [folder]
    cases = []
    for home in homes:
        images = _images_in(home)
        for image in images:
            named = home.name if len(images) == 1 else f"{home.name}-{stem_of(image)}"
            masks = _masks_in(home)
            files, load = _drawn(home, folder, image, masks, options.labels)
            cases.append(
                SourceCase(
                    case_id=case_id(named if slug(named).startswith(slug(dataset)) else f"{dataset}-{named}"),
                    dataset=dataset,
                    modality=options.settled_modality(_IMAGES[stem_of(image).lower()], image),
                    split=splits.get(home.name),
                    patient_id=None,
                    load=load,
                    origins=(origin,),
                    files=(image, *files),
                    group=f"{dataset} {home.name}",
                    made_with=" ".join(path.name for path in files),
                )
            )
    if not cases:
        raise InputError("no case here", where=folder, remedy="give the folder of folders with ct.nii.gz or mri.nii.gz")
    return cases


def _drawn(
    home: Path, folder: Path, image: Path, masks: list[Path], given: Path | None
) -> tuple[tuple[Path, ...], Callable[[], tuple[Image, Iterable[LabelMap]]]]:
    """Returns the files that draw the case beside its image, and what loads it."""
    if masks:
        return tuple(masks), partial(_load_masks, image, masks)
    others = [path for path in _readable(home) if path not in _images_in(home)]
    table = given
    if table is None and len(others) == 1:
        table = _table_of(others[0], home, folder)
    return (*others, *([table] if table else [])), partial(_load_label_map, home, image, others, table)


def _load_masks(image_file: Path, masks: list[Path]) -> tuple[Image, Iterator[LabelMap]]:
    image = read_image(image_file)
    return image, (_read_mask(path, image) for path in masks)


def _read_mask(path: Path, image: Image) -> LabelMap:
    (label_map, *more) = read_label_maps(path, {})
    values = values_in(label_map.data)
    if more or len(values) > 1:
        raise InputError(
            f"values {', '.join(map(str, values[:5]))} in a file of one structure", where=path, remedy="keep one value"
        )
    check_same_grid(image, label_map, where=path)
    return LabelMap(
        data=label_map.data, affine=label_map.affine, labels=dict.fromkeys(values or [1], stem_of(path).strip())
    )


def _load_label_map(
    home: Path, image_file: Path, files: list[Path], table: Path | None
) -> tuple[Image, list[LabelMap]]:
    if len(files) != 1:
        raise InputError(
            f"{len(files)} label maps beside the image" if files else "no segmentations/ and no label map",
            where=home,
            remedy="keep one label map, or a folder segmentations/ with one file a structure",
        )
    image = read_image(image_file)
    label_maps = read_label_maps(files[0])
    for label_map in label_maps:
        check_same_grid(image, label_map, where=files[0])
    if table is not None:
        if len(label_maps) > 1:
            raise InputError("a label table cannot name several layers", where=files[0], remedy="leave it out")
        return image, label_maps_of(label_maps[0].data, label_maps[0].affine, read_labels(table))
    if not any(label_map.labels for label_map in label_maps):
        raise InputError(
            "nothing says what the label values stand for",
            where=files[0],
            remedy='add a JSON {"1": "spleen", …} beside it, or give --labels',
        )
    return image, label_maps


def _images_in(folder: Path) -> list[Path]:
    return [path for path in _readable(folder) if stem_of(path).lower() in _IMAGES]


def _masks_in(home: Path) -> list[Path]:
    for path in sorted(home.iterdir()):
        if path.is_dir() and path.name.lower() in {"segmentations", "segmentation", "masks"}:
            return _readable(path)
    return []


def _table_of(label_file: Path, home: Path, folder: Path) -> Path | None:
    stem = stem_of(label_file)
    tables = [f"{stem}.json", f"{stem}.labels.json", "labels.json", "class_map.json", "labels.tsv", "labels.csv"]
    for place in dict.fromkeys((home, folder)):
        for name in tables:
            found = find_table(place, [name])
            if found is not None:
                return found
        others = [
            path
            for path in sorted(place.glob("*.json"))
            # Beside ct.nii.gz, ct.json says how the scan was made.
            if not path.name.lower().startswith(_NO_LABELS) and path.stem.lower() not in _IMAGES
        ]
        if len(others) == 1:
            return others[0]
    return None


def _readable(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and path.is_file() and path.name.lower().endswith(SUFFIXES)
    ]


def _splits(folder: Path) -> dict[str, Split | None]:
    table = find_table(folder, ("meta.csv", "meta.tsv"))
    if table is None:
        return {}
    rows = read_rows(table)
    if rows and "image_id" not in rows[0]:
        raise InputError("no column image_id", where=table, remedy="restore the table, or remove it")
    return {row["image_id"]: split_of(row.get("split"), table) for row in rows}
