"""The store of prepared cases: tables of cases and regions, and arrays that are read in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from vesalius.arrays import Affine, Box, Mask, Voxels
from vesalius.errors import FolderError, InputError
from vesalius.folder import Origin, origins_of, read_manifest, write_manifest
from vesalius.ids import CaseId, Modality
from vesalius.tables import read_table, write_table
from vesalius.volumes.case import CaseRow, UnresolvedLabel
from vesalius.volumes.case_folder import IMAGE, MASKS, CaseRecord
from vesalius.volumes.regions import Region

KIND = "cases"
SCHEMA = 1

_CASES = {
    "case_id": "VARCHAR",
    "dataset": "VARCHAR",
    "modality": "VARCHAR",
    "sequence": "VARCHAR",
    "split": "VARCHAR",
    "official_split": "VARCHAR",
    "patient_id": "VARCHAR",
    "shape": "INTEGER[]",
    "spacing_mm": "DOUBLE[]",
    "affine": "DOUBLE[][]",
}
_REGIONS = {
    "case_id": "VARCHAR",
    "concept_id": "VARCHAR",
    "laterality": "VARCHAR",
    "name": "VARCHAR",
    "label": "VARCHAR",
    "tied_by": "VARCHAR",
    "start": "INTEGER[]",
    "stop": "INTEGER[]",
    "num_voxels": "BIGINT",
    "volume_mm3": "DOUBLE",
    "centroid_mm": "DOUBLE[]",
    "touches_border": "BOOLEAN",
    "mask_offset": "BIGINT",
}
_UNRESOLVED = {"case_id": "VARCHAR", "value": "BIGINT", "label": "VARCHAR", "reason": "VARCHAR"}
_REJECTS = {"case_id": "VARCHAR", "dataset": "VARCHAR", "file": "VARCHAR", "reason": "VARCHAR"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """A case that could not be prepared.

    Attributes:
        case_id: the case.
        dataset: name of its dataset.
        file: the file at fault; its image where the fault is in no single one.
        reason: what is wrong and what to do about it.
    """

    case_id: CaseId
    dataset: str
    file: str
    reason: str


class CaseStore:
    """A folder of prepared cases, open for reading.

    Arrays are opened when they are first read, and not carried along when the store is pickled, so that a store may be
    given to DataLoader workers.

    Args:
        path: the folder.
        manifest: its manifest.
        cases: its cases.
        affines: of each case.
        regions: case → region key → region and the first byte of its mask.
    """

    def __init__(
        self,
        path: Path,
        *,
        manifest: Mapping[str, Any],
        cases: Sequence[CaseRow],
        affines: Mapping[CaseId, Affine],
        regions: Mapping[CaseId, Mapping[str, tuple[Region, int]]],
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.cases = list(cases)
        self._rows = {row.case_id: row for row in cases}
        self._affines = affines
        self._regions = regions
        self._arrays: dict[tuple[CaseId, str], zarr.Array[Any]] = {}

    @classmethod
    def open(cls, path: Path) -> CaseStore:
        """Opens the store at `path`; reads its tables, no image.

        Raises:
            FolderError: it is missing, incomplete, damaged or of another schema.
        """
        manifest = read_manifest(path, kind=KIND, schema=SCHEMA)
        cases, affines = [], {}
        for *values, affine in read_table(path / "cases.parquet", schema=_CASES):
            row = CaseRow(**_typed(CaseRow, values))
            cases.append(row)
            affines[row.case_id] = np.array(affine, dtype=np.float64)
        regions: dict[CaseId, dict[str, tuple[Region, int]]] = {row.case_id: {} for row in cases}
        for *values, offset in read_table(path / "regions.parquet", schema=_REGIONS):
            region = Region(**_typed(Region, values))
            regions[region.case_id][region.key] = (region, offset)
        return cls(path, manifest=manifest, cases=cases, affines=affines, regions=regions)

    @property
    def origins(self) -> list[Origin]:
        """What the cases are made of, and on what terms."""
        return origins_of(self.manifest)

    def case(self, case_id: CaseId) -> CaseRow:
        """Returns the row of a case.

        Raises:
            InputError: the store holds no such case.
        """
        if case_id not in self._rows:
            raise InputError(f"no case {case_id!r}", where=self.path, remedy="`vesalius volumes stats` lists the cases")
        return self._rows[case_id]

    def modality(self, case_id: CaseId) -> Modality:
        """Returns the modality of a case."""
        return self.case(case_id).modality

    def affine(self, case_id: CaseId) -> Affine:
        """Returns the affine of a case, voxel index → world mm, RAS+."""
        return self._affines[self.case(case_id).case_id].copy()

    def regions(self, case_id: CaseId) -> list[Region]:
        """Returns the regions of a case; no two share a key."""
        return [region for region, _ in self._regions[self.case(case_id).case_id].values()]

    def read_image(self, case_id: CaseId, box: Box | None = None) -> Voxels:
        """Reads the intensities of a case, `i j k`; with `box`, only the chunks it touches.

        Raises:
            ValueError: `box` is empty or reaches beyond the image.
            FolderError: the case's folder is missing or damaged.
        """
        start, stop = self._checked(case_id, box)
        window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        return np.asarray(self._array(case_id, IMAGE)[window])

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
        start, stop = self._checked(region.case_id, box)
        held = self._regions[region.case_id].get(region.key)
        if held is None or held[0] != region:
            raise InputError(
                f"no region {region.key} like this in case {region.case_id!r}",
                where=self.path,
                remedy="take it from .regions()",
            )
        mask = np.zeros([b - a for a, b in zip(start, stop, strict=True)], dtype=bool)
        low = np.maximum(start, region.start)
        high = np.minimum(stop, region.stop)
        if (low >= high).any():
            return mask
        there = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
        mask[there] = self._read_bits(region, held[1], low - region.start, high - region.start)
        return mask

    def _read_bits(self, region: Region, offset: int, low: np.ndarray, high: np.ndarray) -> Mask:
        """Reads the part from `low` to `high` of a region's box: whole planes of i, then what is asked for of each."""
        _, rows, columns = (b - a for a, b in zip(region.start, region.stop, strict=True))
        first, last = int(low[0]) * rows * columns, int(high[0]) * rows * columns
        packed = np.asarray(self._array(region.case_id, MASKS)[offset + first // 8 : offset + -(-last // 8)])
        bits = np.unpackbits(packed)[first % 8 : first % 8 + last - first].astype(bool)
        return bits.reshape(-1, rows, columns)[:, low[1] : high[1], low[2] : high[2]]

    def _checked(self, case_id: CaseId, box: Box | None) -> Box:
        shape = self.case(case_id).shape
        if box is None:
            return (0, 0, 0), shape
        if not all(0 <= a < b <= size for a, b, size in zip(*box, shape, strict=True)):
            raise ValueError(
                f"box {box} of case {case_id!r}, whose shape is {shape}: cut it to the image, at least one voxel"
            )
        return box

    def _array(self, case_id: CaseId, name: str) -> zarr.Array[Any]:
        if (case_id, name) not in self._arrays:
            path = case_path(self.path, case_id) / name
            try:
                array = zarr.open_array(store=path, mode="r")
            except (OSError, ValueError, KeyError) as error:
                raise FolderError(f"damaged case ({error})", where=path, remedy="prepare it again") from error
            self._arrays[case_id, name] = array
        return self._arrays[case_id, name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": {}}


def case_path(store: Path, case_id: CaseId) -> Path:
    """Returns where a store keeps a case."""
    return store / "cases" / f"{case_id}.zarr"


def write_tables(
    path: Path,
    records: Sequence[CaseRecord],
    rejects: Sequence[Reject],
    *,
    origins: Sequence[Origin],
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
) -> None:
    """Writes the tables of a store whose cases are written, and last its manifest, without which none can open it."""
    write_table(
        path / "cases.parquet",
        ([*_values(record.row), record.affine] for record in records),
        schema=_CASES,
    )
    write_table(
        path / "regions.parquet",
        (
            [*_values(region), offset]
            for record in records
            for region, offset in zip(record.regions, record.mask_offsets, strict=True)
        ),
        schema=_REGIONS,
    )
    write_table(
        path / "unresolved.parquet",
        (_values(label) for record in records for label in record.unresolved),
        schema=_UNRESOLVED,
    )
    write_table(path / "rejects.parquet", (_values(reject) for reject in rejects), schema=_REJECTS)
    write_manifest(
        path,
        kind=KIND,
        schema=SCHEMA,
        origins=origins,
        inputs=inputs,
        details={
            "settings": dict(settings),
            "num_cases": len(records),
            "num_regions": sum(len(record.regions) for record in records),
            "num_rejects": len(rejects),
        },
    )


def _values(row: CaseRow | Region | UnresolvedLabel | Reject) -> list[Any]:
    return [getattr(row, field.name) for field in fields(row)]


def _typed(kind: type[CaseRow | Region], values: Sequence[Any]) -> dict[str, Any]:
    names = [field.name for field in fields(kind)]
    return {name: tuple(value) if isinstance(value, list) else value for name, value in zip(names, values, strict=True)}
