"""One prepared case on disk: a Zarr v3 group of the image, its masks as bits, and a record of what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import zarr
from jaxtyping import UInt8
from zarr.codecs import BloscCodec
from zarr.core.array_spec import ArrayConfigLike

from vesalius.arrays import Affine, BoxMask
from vesalius.errors import FolderError
from vesalius.ids import ResolvedLabel
from vesalius.volumes.case import CaseRow, PreparedCase, UnresolvedLabel
from vesalius.volumes.geometry import orientation_of
from vesalius.volumes.place import Place
from vesalius.volumes.regions import Region

IMAGE = "image"
MASKS = "masks"
RECORD = "zarr.json"
"""The file that says that a case is whole."""

_WHOLE: ArrayConfigLike = {"write_empty_chunks": True}
"""Chunks of zeros are written too, so that one that is missing is known to be lost."""

_CHUNK = (48, 48, 32)
_SHARD = 512
_MASK_CHUNK = 2**14
_MASK_SHARD = 2**24


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """A file that a case was made from, without its name, which may tell who the patient is.

    Attributes:
        size: bytes.
        modified_ns: time of its last change; where size and time are what they were, the bytes are taken to be, too.
        sha256: of its bytes.
    """

    size: int
    modified_ns: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class CaseRecord:
    """What a case folder says of itself; the store's tables are made of these.

    Attributes:
        fingerprint: hash of the settings and the source's entry it was made from.
        files: the files it was made from.
        row: its line of ``cases.parquet``.
        affine: voxel index → world mm, RAS+, by rows.
        scale: what a stored level is multiplied by.
        offset: what is added then: the intensity of level 0, the lowest.
        regions: its lines of ``regions.parquet``.
        mask_offsets: of each region, the first byte of its bits in the array of masks.
        unresolved: its lines of ``unresolved.parquet``.
        resolved: label text → what the resolver made of it.
    """

    fingerprint: str
    files: tuple[SourceFile, ...]
    row: CaseRow
    affine: tuple[tuple[float, ...], ...]
    scale: float
    offset: float
    regions: tuple[Region, ...]
    mask_offsets: tuple[int, ...]
    unresolved: tuple[UnresolvedLabel, ...]
    resolved: Mapping[str, ResolvedLabel]


def write_case(
    place: Place, name: str, case: PreparedCase, *, fingerprint: str, files: tuple[SourceFile, ...] = ()
) -> CaseRecord:
    """Writes a case to the folder `name` of `place`, whole or not at all.

    The image is an array of levels (uint16) in chunks of 48×48×32 voxels, in shards; the bits of all masks make up one array
    of bytes. Each region has its own box there (`pack_mask`), so that labels may overlap and one region is read
    without the others.

    Source: Zarr core specification v3, sharding codec; OME-Zarr 0.5 for the `multiscales` entry, from which we depart
    in the order of the axes (x, y, z as in the array, not z, y, x) and by storing the oblique affine beside it.
    """
    packed = [pack_mask(mask).ravel() for mask in case.masks]
    ends = np.cumsum([0, *(len(bits) for bits in packed)]).tolist()
    record = CaseRecord(
        fingerprint=fingerprint,
        files=files,
        row=case.row,
        affine=tuple(map(tuple, case.prepared.affine.tolist())),
        scale=case.prepared.scale,
        offset=case.prepared.offset,
        regions=case.regions,
        mask_offsets=tuple(ends[:-1]),
        unresolved=case.unresolved,
        resolved=dict(case.resolved),
    )
    with place.writing_folder(name, last=RECORD) as temporary:
        group = zarr.create_group(store=temporary, zarr_format=3, attributes=_attributes(case, record))
        levels = case.prepared.levels
        image = group.create_array(
            IMAGE,
            shape=levels.shape,
            dtype="uint16",
            chunks=_CHUNK,
            shards=tuple(
                min(_SHARD // step, -(-size // step)) * step for size, step in zip(levels.shape, _CHUNK, strict=True)
            ),
            compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=2),
            dimension_names=("i", "j", "k"),
            config=_WHOLE,
        )
        image[:] = levels
        bits: UInt8[np.ndarray, " n"] = np.concatenate(packed) if packed else np.zeros(0, dtype=np.uint8)
        masks = group.create_array(
            MASKS,
            shape=bits.shape,
            dtype="uint8",
            chunks=(_MASK_CHUNK,),
            shards=(min(_MASK_SHARD, max(1, -(-len(bits) // _MASK_CHUNK)) * _MASK_CHUNK),),
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="noshuffle", typesize=1),
            config=_WHOLE,
        )
        masks[:] = bits
    return record


def pack_mask(mask: BoxMask) -> UInt8[np.ndarray, "i j bytes"]:
    """Returns a mask as bits: the rows along k, each from a whole byte on, the most significant bit first."""
    return np.packbits(mask, axis=2)


def row_bytes(region: Region) -> tuple[int, int]:
    """Returns the number of bytes of a packed row (along k), and of a packed plane (along j and k) of a region."""
    _, rows, columns = (b - a for a, b in zip(region.start, region.stop, strict=True))
    return -(-columns // 8), rows * -(-columns // 8)


def read_record(place: Place, name: str) -> CaseRecord | None:
    """Reads what a case folder says of itself; None where it is missing or not whole.

    Raises:
        FolderError: it is damaged.
    """
    held_bytes = place.read(f"{name}/{RECORD}")
    if held_bytes is None:
        return None
    try:
        held = json.loads(held_bytes)["attributes"]["vesalius"]
        return CaseRecord(
            fingerprint=held["fingerprint"],
            files=tuple(SourceFile(**file) for file in held["files"]),
            row=CaseRow(**_tupled(held["row"])),
            affine=tuple(map(tuple, held["affine"])),
            scale=held["scale"],
            offset=held["offset"],
            regions=tuple(Region(**_tupled(region)) for region in held["regions"]),
            mask_offsets=tuple(held["mask_offsets"]),
            unresolved=tuple(UnresolvedLabel(**label) for label in held["unresolved"]),
            resolved={text: ResolvedLabel(**tied) for text, tied in held["resolved"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FolderError(
            f"damaged case ({error})", where=f"{place}/{name}", remedy="delete it and prepare again"
        ) from error


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
