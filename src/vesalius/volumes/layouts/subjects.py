"""Who was scanned, as far as the names of public collections tell: one subject has one name in all of them.

A collection comes in parts (tasks, sequences, years), and others collect its scans again: one subject then stands under
several data sets, by several names. Two rules bring these together:

1. Names that known collections give their subjects are looked for where the data set or the scan is called so (`_COLLECTIONS`):
   ``BraTS-GLI-00035-001`` and ``BraTS2021_00035`` are one subject of BraTS, ``hepaticvessel_025`` is one of MSD in a list of MSD, of
   Couinaud segments, of tumours or of lesions.
2. Else the collection is the data set's name without its words for modality, sequence and task (``CHAOS_CT`` and ``MR_CHAOS-T1``
   are CHAOS); the subject is the scan's name without its ending and its words for modality, sequence and frame.

Both may take two people for one. These are then on one side of the split without need; nothing leaks by it.
"""

from __future__ import annotations

import re

from vesalius.volumes.layouts.tables import is_imaging_word

_COLLECTIONS: tuple[tuple[str, str, str], ...] = (
    ("autopet", r"autopet|dap_atlas|lesion|tumor", r"(?:petct|fdg|psma)_([0-9a-f]{10,})"),
    ("brats-gli", r"brats", r"brats(?:2021|-?gli)[_-](\d+)"),
    ("brats", r"brats", r"brats-?([a-z]+)[_-](\d+)"),
    ("cmrxmotion", r"cmrxmotion", r"\bp(\d+)-\d"),
    ("msd", r"msd|couinaud|tumor|lesion", r"(?:\b|_)(colon|hepaticvessel|la|liver|lung|pancreas|prostate|spleen)_(\d{1,3})(?!\d)"),
    ("nih-lymph", r"lymph", r"nih-lymph-([a-z]+)-(\d+)"),
    ("prostatex", r"prostate", r"prostatex-(\d+)"),
    ("qin-prostate", r"prostate", r"pcampmri-(\d+)"),
    ("spider", r"spider", r"spider_(\d+)"),
    ("totalsegmentator", r"totalseg", r"(?:\b|_)s(\d{4})(?!\d)"),
)  # fmt: skip
"""Collection; what a data set or a scan of it is called; what is the subject in a scan's name. All in lower case."""

_ENDING = re.compile(r"(\.nii)?\.[a-z][a-z0-9]*$")
_TIME_OR_PART = re.compile(r"(frame|task)\d+|e[ds]|(pre|mid|post)rt|npz")


def subject_of(name: str, *, dataset: str) -> tuple[str, str]:
    """Returns the collection and, within it, the subject of a scan.

    Args:
        name: of the scan's file, or of its patient as the data set writes it.
        dataset: name of the data set.
    """
    name, dataset = name.lower(), dataset.lower()
    for collection, called, subject in _COLLECTIONS:
        found = re.search(subject, name) if re.search(called, f"{dataset} {name}") else None
        if found:
            return collection, "-".join(part.lstrip("0") or "0" for part in found.groups())
    return _without_imaging(dataset), _without_imaging(_ENDING.sub("", name))


def _without_imaging(text: str) -> str:
    words = [word for word in re.split(r"[\W_]+", text) if word]
    return "-".join([w for w in words if not is_imaging_word(w) and not _TIME_OR_PART.fullmatch(w)] or words)
