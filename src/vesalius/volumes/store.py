"""The store of prepared cases, open for reading: its tables in memory, its arrays read in parts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from jaxtyping import Bool, UInt8

from vesalius.arrays import Affine, Box, Mask, Voxels
from vesalius.errors import FolderError, InputError, SettingError
from vesalius.folder import Origin, origins_of
from vesalius.ids import CaseId, Modality
from vesalius.volumes.case import CaseRow
from vesalius.volumes.case_folder import IMAGE, MASKS, RECORD, row_bytes
from vesalius.volumes.intensities import intensities
from vesalius.volumes.place import Place
from vesalius.volumes.regions import Region
from vesalius.volumes.store_tables import HeldCase, case_name, read_tables

_NUM_OPEN = 256
"""Arrays kept open: each holds a few kilobytes of metadata."""

_CACHE_BYTES = 2**22
"""Enough for the shard indices of the last cases; decoded chunks are hardly ever asked for twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnUnit:
    """What the intensities of a case mean in the unit of its image: ``intensity * std + mean``.

    Attributes:
        mean: what 0 stands for.
        std: what 1 stands for.
        low: what lower intensities were raised to.
        high: what higher intensities were lowered to.
    """

    mean: float
    std: float
    low: float
    high: float


class CaseStore:
    """A store of prepared cases, open for reading.

    Arrays are opened when they are first read, and not carried along when the store is pickled, so that a store may be
    given to DataLoader workers. These must be started by forkserver or spawn: a fork would leave them without the
    threads that read.

    Args:
        place: where it lies.
        manifest: its manifest.
        held: its cases.
    """

    def __init__(self, place: Place, *, manifest: Mapping[str, Any], held: Mapping[CaseId, HeldCase]) -> None:
        self.place = place
        self.manifest = manifest
        self.cases = [case.row for case in held.values()]
        self._held = held
        self._arrays: dict[tuple[CaseId, str], ts.TensorStore] = {}

    @classmethod
    def open(cls, place: Place | Path | str) -> CaseStore:
        """Opens the store at `place`, a folder or an ``s3://`` or ``gs://`` address; reads its tables, no image.

        Raises:
            FolderError: it is missing, incomplete, damaged or of another schema.
        """
        found = Place.of(place)
        manifest, held = read_tables(found)
        return cls(found, manifest=manifest, held=held)

    @property
    def origins(self) -> list[Origin]:
        """What the cases are made of, and on what terms."""
        return origins_of(self.manifest)

    @property
    def sha256(self) -> str:
        """A hash of what every case was made from, and how: it tells two stores apart without reading their images."""
        told = sorted(f"{case_id} {case.made_from}" for case_id, case in self._held.items())
        return hashlib.sha256("\n".join(told).encode()).hexdigest()

    def case(self, case_id: CaseId) -> CaseRow:
        """Returns the row of a case.

        Raises:
            InputError: the store holds no such case.
        """
        return self._case(case_id).row

    def modality(self, case_id: CaseId) -> Modality:
        """Returns the modality of a case."""
        return self.case(case_id).modality

    def affine(self, case_id: CaseId) -> Affine:
        """Returns the affine of a case, voxel index → world mm, RAS+."""
        return self._case(case_id).affine.copy()

    def own_unit(self, case_id: CaseId) -> OwnUnit:
        """Returns how the intensities of a case read in the unit of its image: HU in ct.

        Raises:
            FolderError: the case's folder is missing or damaged.
        """
        name = f"{case_name(self.case(case_id).case_id)}/{RECORD}"
        try:
            held = json.loads(self.place.read(name) or b"{}")["attributes"]["intensity"]
            low, high = held["clip"]
            return OwnUnit(mean=float(held["mean"]), std=float(held["std"]), low=float(low), high=float(high))
        except (ValueError, KeyError, TypeError) as error:
            where = f"{self.place}/{name}"
            raise FolderError(f"damaged case ({error})", where=where, remedy="prepare it again") from error

    def regions(self, case_id: CaseId) -> list[Region]:
        """Returns the regions of a case; no two share a key."""
        return [region for region, _ in self._case(case_id).regions.values()]

    def read_image(self, case_id: CaseId, box: Box | None = None) -> Voxels:
        """Reads the intensities of a case, `i j k`; with `box`, only the chunks it touches.

        Raises:
            ValueError: `box` is empty or reaches beyond the image.
            FolderError: the case's folder is missing or damaged.
        """
        image, _ = self.read_crop(case_id, self._checked(case_id, box), [])
        return image

    def read_mask(self, region: Region, box: Box | None = None) -> Mask:
        """Reads the voxels of a region, `i j k`; False outside the region's own box.

        Args:
            region: of this store.
            box: in voxels of the case; without it, the whole image.

        Raises:
            ValueError: `box` is empty or reaches beyond the image.
            InputError: the store holds no such region.
            FolderError: the case's folder is missing or damaged.
        """
        return self.read_mask_crop(region, self._checked(region.case_id, box))

    def read_mask_crop(self, region: Region, box: Box) -> Mask:
        """Reads the voxels of a region in a box that may reach beyond the image, `i j k`.

        Raises:
            InputError: the store holds no such region.
            FolderError: the case's folder is missing or damaged.
        """
        mask = np.zeros([b - a for a, b in zip(*box, strict=True)], dtype=bool)
        self._paint(mask, region, box, self._bits(region, box))
        return mask

    def nth_voxel(self, region: Region, n: int) -> tuple[int, int, int]:
        """Returns the voxel of a region that comes after `n` others in C order; without unpacking its mask.

        Raises:
            ValueError: the region has no more than `n` voxels.
            InputError: the store holds no such region.
            FolderError: the case's folder is missing or damaged.
        """
        if not 0 <= n < region.num_voxels:
            raise ValueError(f"voxel {n} of a region of {region.num_voxels}")
        waiting = self._bits(region, region.box)
        assert waiting is not None
        packed: UInt8[np.ndarray, " bytes"] = self._waited(waiting, region.case_id)
        until = np.cumsum(np.bitwise_count(packed), dtype=np.int64)
        byte = int(np.searchsorted(until, n, side="right"))
        bit = int(np.flatnonzero(np.unpackbits(packed[byte : byte + 1]))[n - (int(until[byte - 1]) if byte else 0)])
        row, plane = row_bytes(region)
        i, (j, k) = byte // plane, divmod(byte % plane, row)
        return region.start[0] + i, region.start[1] + j, region.start[2] + 8 * k + bit

    def read_crop(
        self, case_id: CaseId, box: Box, regions: Sequence[Region]
    ) -> tuple[Voxels, Bool[np.ndarray, "n i j k"]]:
        """Reads the intensities in a box and the masks of some regions there, all at once.

        Args:
            case_id: the case.
            box: in voxels of the case; it may reach beyond the image, where the image is of its lowest intensity and no
                region has a voxel.
            regions: of this case; none gives masks of shape `0 i j k`.

        Raises:
            ValueError: `box` is empty.
            InputError: the store holds no such case, or no such region.
            FolderError: the case's folder is missing or damaged.
        """
        case = self._case(case_id)
        start, stop = box
        size = tuple(b - a for a, b in zip(start, stop, strict=True))
        if min(size) < 1:
            raise ValueError(f"box {box} of case {case_id!r} is empty: at least one voxel along each axis")
        low, high = np.maximum(start, 0), np.minimum(stop, case.row.shape)
        is_inside = bool((low < high).all())
        window = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
        waiting = self._array(case_id, IMAGE)[window].read() if is_inside else None
        all_bits = [self._bits(region, box) for region in regions]
        masks = np.zeros((len(regions), *size), dtype=bool)
        for mask, region, bits in zip(masks, regions, all_bits, strict=True):
            self._paint(mask, region, box, bits)
        image: Voxels = np.empty(size, dtype=np.float32)
        if waiting is None or size != tuple(high - low):
            image.fill(np.float32(case.offset))
        if waiting is not None:
            there = tuple(slice(a, b) for a, b in zip((low - start).tolist(), (high - start).tolist(), strict=True))
            levels = self._waited(waiting, case_id)
            intensities(levels, scale=case.scale, offset=case.offset, out=image[there])
        return image, masks

    def _bits(self, region: Region, box: Box) -> ts.Future[np.ndarray] | None:
        """Begins to read the planes (along i) of a region that lie in `box`; None where there are none."""
        held = self._case(region.case_id).regions.get(region.key)
        if held is None or held[0] != region:
            raise InputError(
                f"no region {region.key} like this in case {region.case_id!r}",
                where=self.place,
                remedy="take it from .regions()",
            )
        if not all(a < d and c < b for a, b, c, d in zip(*box, region.start, region.stop, strict=True)):
            return None
        _, plane = row_bytes(region)
        first = held[1] + (max(box[0][0], region.start[0]) - region.start[0]) * plane
        last = held[1] + (min(box[1][0], region.stop[0]) - region.start[0]) * plane
        return self._array(region.case_id, MASKS)[first:last].read()

    def _paint(self, mask: Mask, region: Region, box: Box, waiting: ts.Future[np.ndarray] | None) -> None:
        """Sets the voxels of a region in `mask`, which is its part in `box`."""
        if waiting is None:
            return
        start, stop = np.array(box[0]), np.array(box[1])
        low, high = np.maximum(start, region.start), np.minimum(stop, region.stop)
        row, plane = row_bytes(region)
        packed: UInt8[np.ndarray, "i j bytes"] = self._waited(waiting, region.case_id).reshape(-1, plane // row, row)
        (_, j, k), (_, b, c) = (low - region.start).tolist(), (high - region.start).tolist()
        bits = np.unpackbits(packed[:, j:b, k // 8 : -(-c // 8)], axis=2)[:, :, k % 8 : k % 8 + c - k]
        mask[tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))] = bits

    def _case(self, case_id: CaseId) -> HeldCase:
        if case_id not in self._held:
            raise InputError(f"no case {case_id!r}", where=self.place, remedy="cases.parquet lists the cases")
        return self._held[case_id]

    def _checked(self, case_id: CaseId, box: Box | None) -> Box:
        shape = self.case(case_id).shape
        if box is None:
            return (0, 0, 0), shape
        if not all(0 <= a < b <= size for a, b, size in zip(*box, shape, strict=True)):
            raise ValueError(
                f"box {box} of case {case_id!r}, whose shape is {shape}: cut it to the image, at least one voxel"
            )
        return box

    def _array(self, case_id: CaseId, name: str) -> ts.TensorStore:
        key = (case_id, name)
        if key not in self._arrays:
            if len(self._arrays) >= _NUM_OPEN:
                del self._arrays[next(iter(self._arrays))]
            kvstore = self.place.kvstore(f"{case_name(case_id)}/{name}")
            spec = {"driver": "zarr3", "kvstore": kvstore, "fill_missing_data_reads": False}
            opening = ts.open(spec, open=True, read=True, context=_context(os.getpid()))
            self._arrays[key] = self._waited(opening, case_id)
        return self._arrays[key]

    def _waited(self, future: ts.Future[Any], case_id: CaseId) -> Any:
        try:
            return future.result()
        except (ValueError, OSError) as error:
            where = f"{self.place}/{case_name(case_id)}"
            raise FolderError(
                f"damaged case ({_first_words(error)})", where=where, remedy="prepare it again"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": {}}


@cache
def _context(process: int) -> ts.Context:
    """Returns what the arrays of a process share.

    Raises:
        SettingError: this process is a fork of one that has read already; its reading would never end.
    """
    if _READERS and process not in _READERS:
        raise SettingError(
            "a store was read before this process was forked: the threads that read are not in it",
            remedy="start workers by forkserver: DataLoader(..., multiprocessing_context='forkserver')",
        )
    _READERS.add(process)
    return ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})


_READERS: set[int] = set()
"""The processes, this one and those it was forked from, that have read."""


def _first_words(error: Exception) -> str:
    return str(error).split(" [", 1)[0].splitlines()[0]
