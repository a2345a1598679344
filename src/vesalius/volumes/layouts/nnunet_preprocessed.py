"""The preprocessed cases of nnU-Net version 2.

DATASET/
  dataset.json, nnUNetPlans.json
  nnUNetPlans_3d_fullres/
    CASE.b2nd, CASE_seg.b2nd  channels first, axes transposed and cropped as plans and properties say
    CASE.pkl                  properties: a pickle, which is read without running it

Intensities are normalised; those of CTNormalization are brought back to HU (clipped to the dataset's percentiles).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vesalius.arrays import Affine
from vesalius.errors import InputError, SettingError
from vesalius.folder import unreadable
from vesalius.ids import case_id
from vesalius.volumes.blosc_file import read_b2nd
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import Image, LabelMap, check_grid, check_intensities, whole_numbers
from vesalius.volumes.inert_pickle import LARGEST, plain, read_inert
from vesalius.volumes.layouts.drawing import label_maps_of
from vesalius.volumes.layouts.grid import plain_affine
from vesalius.volumes.layouts.options import LayoutOptions
from vesalius.volumes.layouts.tables import origin_of, read_json

if TYPE_CHECKING:
    from vesalius.volumes.layouts.nnunet import Channel, Description

_OUTSIDE = -1
"""What nnU-Net draws where every channel was zero and the voxels are no part of the image."""

_PREFERRED = ("3d_fullres", "3d_lowres")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the plans say of the preprocessed arrays of one configuration.

    Attributes:
        transpose: for each axis of an array, the axis (z y x of the source) that it is.
        spacing_mm: of the arrays, in their own axes; empty for a 2D configuration.
        normalisations: of each channel.
        foreground: of each channel, the intensities that CTNormalization used.
    """

    transpose: tuple[int, int, int]
    spacing_mm: tuple[float, ...]
    normalisations: tuple[str, ...]
    foreground: Mapping[str, Mapping[str, float]]


def is_preprocessed(folder: Path) -> bool:
    """Tells whether a folder is a preprocessed dataset, or one configuration of it."""
    if (folder / "imagesTr").is_dir():
        return False
    # Properties, or plans of version 1, are pickles.
    return any(any(folder.glob(pattern)) for pattern in ("*Plans*.json", "*_seg.b2nd", "*.pkl"))


def preprocessed_cases(
    options: LayoutOptions, folder: Path, read_description: Callable[[Path, LayoutOptions], Description]
) -> list[SourceCase]:
    """Returns the cases of a preprocessed dataset, one a channel, in the order of their names; their split is not known.

    Args:
        options: as `nnunet_cases`; `stored_orientation` where a case has no properties.
        folder: the dataset's, or that of one configuration.
        read_description: reads ``dataset.json``.

    Raises:
        InputError: a file is missing or damaged, or several configurations are there and none is 3d_fullres.
        SettingError: the modality is not known.
    """
    arrays = folder if any(folder.glob("*_seg.b2nd")) else _configuration(folder)
    home = arrays.parent
    description = read_description(home / "dataset.json", options)
    plans_file, configuration = _plans_of(arrays)
    plan = _plan(plans_file, configuration)
    dataset = options.dataset_of(home)
    origin = origin_of(description.held, dataset)
    cases = []
    for drawn in sorted(arrays.glob("*_seg.b2nd")):
        stem = drawn.name.removesuffix("_seg.b2nd")
        image = drawn.with_name(f"{stem}.b2nd")
        properties = next(
            (path for ending in (".json", ".pkl") if (path := drawn.with_name(stem + ending)).is_file()), None
        )
        if properties is None and options.stored_orientation is None:
            raise SettingError(
                f"{stem} has no properties (.pkl): nothing says where left is",
                where=arrays,
                remedy="add the file, or give --stored-orientation of the source images, e.g. LPS",
            )
        for channel in description.channels:
            named = stem if len(description.channels) == 1 else f"{stem}-{channel.number:04d}"
            cases.append(
                SourceCase(
                    case_id=case_id(f"{dataset}-{named}"),
                    dataset=dataset,
                    modality=options.settled_modality(
                        channel.modality, f"{description.path}, channel {channel.name!r}"
                    ),
                    split=None,
                    patient_id=None,
                    load=partial(
                        _load, image, drawn, properties, plan, channel, description, options.stored_orientation
                    ),
                    origins=(origin,),
                    files=tuple(
                        path
                        for path in (image, drawn, properties, plans_file, description.path, options.labels)
                        if path is not None
                    ),
                    sequence=channel.sequence,
                    group=f"{dataset} {stem}",
                    made_with=f"{channel.number} {options.stored_orientation}",
                )
            )
    if not cases:
        raise InputError("no preprocessed case here", where=arrays, remedy="check the folder")
    return cases


def _configuration(folder: Path) -> Path:
    found = sorted(path for path in folder.iterdir() if path.is_dir() and any(path.glob("*_seg.b2nd")))
    for preferred in _PREFERRED:
        chosen = [path for path in found if path.name.endswith(preferred)]
        if len(chosen) == 1:
            return chosen[0]
    if len(found) == 1:
        return found[0]
    if not found and (any(folder.glob("*.npz")) or any(folder.glob("*/*.npz"))):
        raise InputError(
            "cases that an older nnU-Net preprocessed (.npz, .npy)",
            where=folder,
            remedy="preprocess the dataset again with one that writes .b2nd (2.6), or give the raw dataset",
        )
    if not found:
        raise InputError("no preprocessed case here (.b2nd)", where=folder, remedy="preprocess the dataset first")
    raise InputError(
        f"several configurations ({', '.join(path.name for path in found)})", where=folder, remedy="give one of them"
    )


def _plans_of(arrays: Path) -> tuple[Path, str]:
    """Returns the plans that a folder of arrays was made by, and the name of their configuration.

    Plans may keep their arrays under the name of others: those of residual encoders share the folder of the plain ones.
    """
    plans_name, _, configuration = arrays.name.partition("_")
    own = arrays.with_name(f"{plans_name}.json")
    others = sorted(path for path in arrays.parent.glob("*Plans*.json") if path != own)
    for path in (own, *others) if own.is_file() else others:
        held = read_json(path)
        configurations = held.get("configurations") if isinstance(held, dict) else None
        for name, settings in configurations.items() if isinstance(configurations, dict) else ():
            if isinstance(settings, dict) and settings.get("data_identifier") == arrays.name:
                return path, name
    return own, configuration


def _plan(path: Path, configuration: str) -> Plan:
    held = read_json(path)
    try:
        settings = held["configurations"][configuration]
        seen = {configuration}
        while "inherits_from" in settings:
            if settings["inherits_from"] in seen:
                raise InputError(
                    f"configuration {configuration!r} inherits from itself", where=path, remedy="preprocess again"
                )
            seen.add(settings["inherits_from"])
            parent = held["configurations"][settings["inherits_from"]]
            settings = {**parent, **{key: value for key, value in settings.items() if key != "inherits_from"}}
        x, y, z = (int(axis) for axis in held.get("transpose_forward", (0, 1, 2)))
        spacing = tuple(float(step) for step in settings["spacing"])
        schemes = tuple(str(scheme) for scheme in settings.get("normalization_schemes", ()))
        foreground = held.get("foreground_intensity_properties_per_channel", {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"no plans of configuration {configuration!r} in it ({error})", where=path, remedy="preprocess again"
        ) from error
    if sorted((x, y, z)) != [0, 1, 2]:
        raise InputError(f"transpose_forward {(x, y, z)}", where=path, remedy="preprocess again")
    return Plan(
        transpose=(x, y, z),
        spacing_mm=spacing if len(spacing) == 3 else (),
        normalisations=schemes,
        foreground=foreground,
    )


def _load(
    image_file: Path,
    drawn_file: Path,
    properties_file: Path | None,
    plan: Plan,
    channel: Channel,
    description: Description,
    orientation: str | None,
) -> tuple[Image, list[LabelMap]]:
    data = read_b2nd(image_file)
    if data.ndim != 4 or channel.number >= len(data):
        raise InputError(
            f"an array of shape {data.shape} without channel {channel.number}", where=image_file, remedy="check it"
        )
    drawn = whole_numbers(read_b2nd(drawn_file, shape=(1, *data.shape[1:]))[0], drawn_file)
    # From the arrays' own axes to x y z of the source, as SimpleITK has them.
    order = [next(t for t in range(3) if 2 - plan.transpose[t] == axis) for axis in range(3)]
    affine = _affine(properties_file, plan, data.shape[1:], order, orientation)
    check_grid(data.shape[1:], affine, where=properties_file or image_file)
    slope, inter, in_hu = _denormalised(plan, channel.number, image_file)
    intensities = check_intensities(data[channel.number].transpose(order), image_file, slope=slope, inter=inter)
    labels = np.ascontiguousarray(drawn.transpose(order))
    ignored = description.ignored | {_OUTSIDE}
    return (
        Image(data=intensities, affine=affine, clipped=not in_hu),
        label_maps_of(labels, affine, description.labels, ignored=ignored),
    )


def _denormalised(plan: Plan, channel: int, where: Path) -> tuple[float, float, bool]:
    """Returns what leads back to HU, and whether there is a way back."""
    if channel >= len(plan.normalisations) or plan.normalisations[channel] != "CTNormalization":
        return 1.0, 0.0, False
    try:
        used = plan.foreground[str(channel)]
        return max(float(used["std"]), 1e-8), float(used["mean"]), True
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the plans lack the intensities that channel {channel} was normalised with",
            where=where,
            remedy="preprocess again",
        ) from error


def _affine(
    properties_file: Path | None,
    plan: Plan,
    shape: tuple[int, ...],
    order: list[int],
    orientation: str | None,
) -> Affine:
    """Returns the affine of the array in x y z order."""
    if properties_file is None:
        if not plan.spacing_mm or orientation is None:
            raise InputError("the plans do not say the spacing (2D)", remedy="give a 3D configuration")
        return plain_affine(orientation, [plan.spacing_mm[t] for t in order])
    properties = _properties(properties_file)
    try:
        source = _source_affine(properties)
        low = [float(plain(bounds)[0]) for bounds in properties["bbox_used_for_cropping"]]
        old = [float(size) for size in plain(properties["shape_after_cropping_and_before_resampling"])]
        scale = [old[t] / shape[t] for t in range(3)]
        placed = np.eye(4)
        for axis, t in enumerate(order):
            placed[axis, axis] = scale[t]
            placed[axis, 3] = low[t] + 0.5 * scale[t] - 0.5  # voxels are resampled about the edges of the field of view
        return source @ placed
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(
            f"not the properties of a case in 3D ({error})", where=properties_file, remedy="preprocess it again"
        ) from error


def _properties(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".json":
        held = read_json(path)
    else:
        try:
            with path.open("rb") as file:
                held = read_inert(file.read(LARGEST + 1))  # a byte too many is refused
        except OSError as error:
            raise unreadable(path, error) from error
        except ValueError as error:
            raise InputError(
                f"not the properties of a case ({error})", where=path, remedy="preprocess again"
            ) from error
    if not isinstance(held, dict):
        raise InputError("not the properties of a case", where=path, remedy="preprocess it again")
    return held


def _source_affine(properties: Mapping[str, Any]) -> Affine:
    """Returns the affine of the source image, x y z → world mm, RAS+, as its reader left it in the properties."""
    affine = np.eye(4)
    if "sitk_stuff" in properties:
        held = properties["sitk_stuff"]
        directions = np.array(plain(held["direction"]), dtype=float).reshape(3, 3)
        affine[:3, :3] = directions * np.array(plain(held["spacing"]), dtype=float)
        affine[:3, 3] = plain(held["origin"])
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    held = properties["nibabel_stuff"]
    affine = np.array(plain(held.get("reoriented_affine", held.get("original_affine"))), dtype=float)
    return affine.reshape(4, 4)
