"""One prepared case on disk: a Zarr v3 group of the image, its masks as bits, and a record of what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import UInt8
from zarr.codecs import BloscCodec

from vesalius.arrays import Affine
from vesalius.errors import FolderError
from vesalius.folder import writing_folder
from vesalius.ids import ResolvedLabel
from vesalius.volumes.case import CaseRow, PreparedCase, UnresolvedLabel
from vesalius.volumes.geometry import orientation_of
from vesalius.volumes.regions import Region

IMAGE = "image"
MASKS = "masks"

_CHUNK = 64
_SHARD = 512
_MASK_CHUNK = 2**14
_MASK_SHARD = 2**24


@dataclass(frozen=True, kw_only=True)
class CaseRecord:
    """What a case folder says of itself; the store's tables are made of these.

    Attributes:
        fingerprint: hash of the settings, the input files and the source's entry it was made from.
        row: its line of ``cases.parquet``.
        affine: voxel index → world mm, RAS+, by rows.
        regions: its lines of ``regions.parquet``.
        mask_offsets: of each region, the first byte of its bits in the array of masks.
        unresolved: its lines of ``unresolved.parquet``.
        resolved: label text → what the resolver made of it.
    """

    fingerprint: str
    row: CaseRow
    affine: tuple[tuple[float, ...], ...]
    regions: tuple[Region, ...]
    mask_offsets: tuple[int, ...]
    unresolved: tuple[UnresolvedLabel, ...]
    resolved: Mapping[str, ResolvedLabel]


def write_case(path: Path, case: PreparedCase, *, fingerprint: str) -> CaseRecord:
    """Writes a case to the folder `path`, whole or not at all.

    The image is an array of float32 in chunks of 64³ voxels, in shards; its bits make up one array of bytes, where each
    region's box (C order, most significant bit first) starts at a whole byte, so that labels may overlap and one region
    is read without the others.

    Source: Zarr core specification v3, sharding codec; OME-Zarr 0.5 for the `multiscales` entry, from which we depart
    in the order of the axes (x, y, z as in the array, not z, y, x) and by storing the oblique affine beside it.
    """
    packed = [np.packbits(mask) for mask in case.masks]
    ends = np.cumsum([0, *(len(bits) for bits in packed)]).tolist()
    record = CaseRecord(
        fingerprint=fingerprint,
        row=case.row,
        affine=tuple(map(tuple, case.prepared.affine.tolist())),
        regions=case.regions,
        mask_offsets=tuple(ends[:-1]),
        unresolved=case.unresolved,
        resolved=dict(case.resolved),
    )
    with writing_folder(path) as temporary:
        group = zarr.create_group(store=temporary, zarr_format=3, attributes=_attributes(case, record))
        shape = case.prepared.image.shape
        shards = tuple(min(_SHARD, -(-size // _CHUNK) * _CHUNK) for size in shape)
        lz4 = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=4)
        image = group.create_array(
            IMAGE,
            shape=shape,
            dtype="float32",
            chunks=(_CHUNK,) * 3,
            shards=shards,
            compressors=lz4,
            dimension_names=("i", "j", "k"),
        )
        image[:] = case.prepared.image
        bits: UInt8[np.ndarray, " n"] = np.concatenate(packed) if packed else np.zeros(0, dtype=np.uint8)
        masks = group.create_array(
            MASKS,
            shape=bits.shape,
            dtype="uint8",
            chunks=(_MASK_CHUNK,),
            shards=(min(_MASK_SHARD, max(1, -(-len(bits) // _MASK_CHUNK)) * _MASK_CHUNK),),
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="noshuffle", typesize=1),
        )
        masks[:] = bits
    return record


def read_record(path: Path) -> CaseRecord:
    """Reads what a case folder says of itself.

    Raises:
        FolderError: it is missing or damaged.
    """
    try:
        held = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]["vesalius"]
        return CaseRecord(
            fingerprint=held["fingerprint"],
            row=CaseRow(**_tupled(held["row"])),
            affine=tuple(map(tuple, held["affine"])),
            regions=tuple(Region(**_tupled(region)) for region in held["regions"]),
            mask_offsets=tuple(held["mask_offsets"]),
            unresolved=tuple(UnresolvedLabel(**label) for label in held["unresolved"]),
            resolved={text: ResolvedLabel(**tied) for text, tied in held["resolved"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FolderError(f"damaged case ({error})", where=path, remedy="delete it and prepare again") from error


def _attributes(case: PreparedCase, record: CaseRecord) -> dict[str, Any]:
    prepared = case.prepared
    return {
        "ome": {
            "version": "0.5",
            "multiscales": [
                {
                    "name": str(case.row.case_id),
                    "axes": [{"name": axis, "type": "space", "unit": "millimeter"} for axis in "xyz"],
                    "datasets": [{"path": IMAGE, "coordinateTransformations": _transformations(prepared.affine)}],
                }
            ],
        },
        "orientation": orientation_of(prepared.affine),
        "affine": prepared.affine.tolist(),
        "intensity": {"clip": prepared.clip, "mean": prepared.mean, "std": prepared.std},
        "crop_start": prepared.crop_start,
        "vesalius": asdict(record),
    }


def _transformations(affine: Affine) -> list[dict[str, Any]]:
    scale = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return [{"type": "scale", "scale": scale}, {"type": "translation", "translation": affine[:3, 3].tolist()}]


def _tupled(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
