"""A case: as a dataset gives it, and as it is prepared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vesalius.arrays import BoxMask
from vesalius.folder import Origin
from vesalius.ids import CaseId, Modality, ResolvedLabel, Split
from vesalius.volumes.image import Image, LabelMap
from vesalius.volumes.intensities import PreparedImage
from vesalius.volumes.regions import Region

Unresolved = Literal["no name", "not drawn", "no voxel", "no voxel left", "no concept", "shared concept", "drawn twice"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceCase:
    """A case of a dataset, not read yet. It is pickled to worker processes, so `load` is no lambda and no closure.

    A dataset of several channels gives one case a channel, all of one `group`.

    Attributes:
        case_id: its name in the store it will go to. Cases that share one are all rejected.
        dataset: name of the dataset.
        modality: of the image.
        split: the dataset's own (official) side; None where it says none, then preparation chooses by a hash.
        patient_id: salted hash of the patient (`hash_patient`), or None where the dataset does not say who it is.
        load: reads the image, and gives its label maps one at a time, so that no more than one need be in memory. A
            label map may lie on its own grid, also on a smaller one: it is brought to the image's by affine. Labels
            may overlap: in several label maps, which may share one array.
        origins: what it is made of, and on what terms.
        files: what `load` reads, the image first; their bytes decide whether a prepared case is still up to date.
        sequence: detail of the modality, such as ``T1w`` or ``FLAIR``, as the dataset writes it.
        group: what must stay on one side of the split where no patient is known, such as the scan that several cases
            are channels of, named so that no other group of the store is called the same. None: the case alone.
        shown_as: what tables and messages name as its place, where the names of its files may tell who the patient is.
        made_with: what `load` depends on beside the bytes of `files`, such as a line of a table, an option, or names of
            files that name structures; a prepared case is up to date only while it is the same.
    """

    case_id: CaseId
    dataset: str
    modality: Modality
    split: Split | None
    patient_id: str | None
    load: Callable[[], tuple[Image, Iterable[LabelMap]]]
    origins: tuple[Origin, ...]
    files: tuple[Path, ...]
    sequence: str | None = None
    group: str | None = None
    shown_as: str | None = None
    made_with: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseRow:
    """What a store says of a case without reading its image.

    Attributes:
        case_id: the case.
        dataset: name of its dataset.
        modality: of its image.
        sequence: detail of the modality, such as ``T1w``, or None.
        split: side of the split; all cases of a patient are on one side.
        official_split: the side its dataset gives it, or None.
        patient_id: salted hash, or None.
        shape: voxels along i, j, k.
        spacing_mm: along i, j, k.
    """

    case_id: CaseId
    dataset: str
    modality: Modality
    sequence: str | None
    split: Split
    official_split: Split | None
    patient_id: str | None
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class UnresolvedLabel:
    """A label of a case that did not become a region of a concept.

    Attributes:
        case_id: the case.
        value: the label value; the lowest where several share the text; 0 where it has none.
        label: the dataset's text; None where it has none.
        reason: ``no name``: it has no text with a letter a–z or a digit, no region is made;
            ``not drawn``: the dataset lists it, but no value of the label map is known to draw it, or its contours cannot be
            filled on the image, no region is made;
            ``no voxel``: the whole label map that names it is empty, no region is made;
            ``no voxel left``: none was left after resampling, no region is made;
            ``no concept``: the graph holds none, the region has a local id;
            ``shared concept``: another label of the same labelling stands for the same structure, the region has a local id;
            ``drawn twice``: an earlier labelling of the case draws the structure, no second region is made.
    """

    case_id: CaseId
    value: int
    label: str | None
    reason: Unresolved


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedCase:
    """A case ready to be stored.

    Attributes:
        row: what the store's table says of it.
        prepared: its image.
        regions: its regions; boxes count voxels of the image. No two share a key.
        masks: the voxels of each region in its own box, each `i j k` of its own.
        unresolved: its labels that did not become a region of a concept.
        resolved: label text → what the resolver made of it, for every label with a voxel.
    """

    row: CaseRow
    prepared: PreparedImage
    regions: tuple[Region, ...]
    masks: tuple[BoxMask, ...]
    unresolved: tuple[UnresolvedLabel, ...]
    resolved: Mapping[str, ResolvedLabel]
