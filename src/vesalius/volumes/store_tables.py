"""The tables of a store: its cases, their regions, what became of no region, and what was left out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from vesalius.arrays import Affine
from vesalius.errors import FolderError
from vesalius.folder import MANIFEST, Origin, read_manifest, write_manifest
from vesalius.ids import CaseId
from vesalius.tables import read_table, write_table
from vesalius.volumes.case import CaseRow, UnresolvedLabel
from vesalius.volumes.case_folder import CaseRecord
from vesalius.volumes.place import Place
from vesalius.volumes.regions import Region

KIND = "cases"
SCHEMA = 2

STORE_NAMES = frozenset(
    {"cases", MANIFEST, "cases.parquet", "regions.parquet", "unresolved.parquet", "rejects.parquet"}
)
"""What lies in the folder of a store."""

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
    "scale": "DOUBLE",
    "offset": "DOUBLE",
    "made_from": "VARCHAR",
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


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldCase:
    """What the tables of a store say of a case.

    Attributes:
        row: the case.
        affine: voxel index → world mm, RAS+.
        scale: what a stored level is multiplied by.
        offset: what is added then: the intensity of level 0, the lowest.
        made_from: hash of settings, entry and files it was made from, and of what the graph said of its labels.
        regions: region key → region and the first byte of its mask.
    """

    row: CaseRow
    affine: Affine
    scale: float
    offset: float
    made_from: str
    regions: dict[str, tuple[Region, int]]


def case_name(case_id: CaseId) -> str:
    """Returns the folder of a case within its store."""
    return f"cases/{case_id}.zarr"


def write_tables(
    place: Place,
    records: Sequence[CaseRecord],
    rejects: Sequence[Reject],
    *,
    origins: Sequence[Origin],
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
) -> None:
    """Writes the tables of a store whose cases are written, and last its manifest, without which none can open it."""
    with place.writing("cases.parquet") as path:
        write_table(path, (_case_values(record) for record in records), schema=_CASES)
    with place.writing("regions.parquet") as path:
        rows = (
            [*_values(region), offset]
            for record in records
            for region, offset in zip(record.regions, record.mask_offsets, strict=True)
        )
        write_table(path, rows, schema=_REGIONS)
    with place.writing("unresolved.parquet") as path:
        labels = (_values(label) for record in records for label in record.unresolved)
        write_table(path, labels, schema=_UNRESOLVED)
    with place.writing("rejects.parquet") as path:
        write_table(path, (_values(reject) for reject in rejects), schema=_REJECTS)
    with place.writing(MANIFEST) as path:
        write_manifest(
            path.parent,
            name=path.name,
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


def read_tables(place: Place) -> tuple[dict[str, Any], dict[CaseId, HeldCase]]:
    """Reads manifest, cases and regions of a store.

    Raises:
        FolderError: it is missing, incomplete, damaged or of another schema.
    """
    with place.fetched(MANIFEST, "cases.parquet", "regions.parquet") as folder:
        try:
            manifest = read_manifest(folder, kind=KIND, schema=SCHEMA)
            case_rows = read_table(folder / "cases.parquet", schema=_CASES)
            region_rows = read_table(folder / "regions.parquet", schema=_REGIONS)
        except FolderError as error:
            if place.path is not None:
                raise
            raise FolderError(error.what, where=place, remedy=error.remedy) from error
    held: dict[CaseId, HeldCase] = {}
    for *values, affine, scale, offset, made_from in case_rows:
        row = CaseRow(**_typed(CaseRow, values))
        held[row.case_id] = HeldCase(
            row=row,
            affine=np.array(affine, dtype=np.float64),
            scale=scale,
            offset=offset,
            made_from=made_from,
            regions={},
        )
    for *values, mask_offset in region_rows:
        region = Region(**_typed(Region, values))
        if region.case_id not in held:
            raise FolderError(
                f"regions of a case that is not there ({region.case_id})", where=place, remedy="prepare it again"
            )
        held[region.case_id].regions[region.key] = (region, mask_offset)
    return manifest, held


def read_rejects(place: Place) -> list[Reject]:
    """Reads which cases were left out of a store, and why."""
    with place.fetched("rejects.parquet") as folder:
        rows = read_table(folder / "rejects.parquet", schema=_REJECTS)
    return [Reject(**dict(zip(_REJECTS, row, strict=True))) for row in rows]


def read_unresolved(place: Place) -> list[UnresolvedLabel]:
    """Reads which labels of a store became no region of a concept, and why."""
    with place.fetched("unresolved.parquet") as folder:
        rows = read_table(folder / "unresolved.parquet", schema=_UNRESOLVED)
    return [UnresolvedLabel(**dict(zip(_UNRESOLVED, row, strict=True))) for row in rows]


def _case_values(record: CaseRecord) -> list[Any]:
    told = [f"{region.key} {region.name} {region.label}" for region in record.regions]
    made_from = hashlib.sha256("\n".join([record.fingerprint, *(file.sha256 for file in record.files), *told]).encode())
    return [*_values(record.row), record.affine, record.scale, record.offset, made_from.hexdigest()]


def _values(row: CaseRow | Region | UnresolvedLabel | Reject) -> list[Any]:
    return [getattr(row, field.name) for field in fields(row)]


def _typed(kind: type[CaseRow | Region], values: Sequence[Any]) -> dict[str, Any]:
    names = [field.name for field in fields(kind)]
    return {name: tuple(value) if isinstance(value, list) else value for name, value in zip(names, values, strict=True)}
