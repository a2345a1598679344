"""DICOM: image series with segmentations (SEG) or contours (RTSTRUCT), in folders of any shape.

No identifier leaves the files: series and patients go by salted hashes, and messages name a file by its place in the
order of names, never by its name, which may be a patient's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.valuerep import PersonName

from vesalius.errors import InputError, SettingError
from vesalius.folder import Origin
from vesalius.ids import CaseId, Modality, case_id
from vesalius.volumes.case import SourceCase
from vesalius.volumes.dicom_contours import read_contours
from vesalius.volumes.dicom_file import DAMAGED, damaged_dicom, is_dicom, read_dicom, silently
from vesalius.volumes.dicom_image import read_series
from vesalius.volumes.dicom_segments import read_segments
from vesalius.volumes.image import Image, LabelMap
from vesalius.volumes.layouts.options import LayoutOptions, files_below
from vesalius.volumes.layouts.tables import modality_of
from vesalius.volumes.patients import hash_patient

LAYOUT = "dicom"

_OBJECTS = frozenset({"SEG", "RTSTRUCT"})
_MODALITIES: dict[str, Modality] = {"CT": "ct", "MR": "mr", "PT": "pet", "US": "us"}
_HEADER = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality"),
    *("PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "SeriesDescription", "ProtocolName"),
    *("OtherPatientIDs", "OtherPatientNames", "StudyID"),
    *("ImageType", "ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence"),
)
_SHORTEST_NAME = 4
"""Letters or digits from which on an identifier is searched for in other words: shorter ones are part of too many.
Names of fewer letters are compared with whole words."""


@dataclass(kw_only=True)
class _Series:
    """The files of an image series, and what the first of them says; or one object that is drawn on images.

    Objects of one series may be drawn on different images.
    """

    uid: str
    header: Dataset
    files: list[Path] = field(default_factory=list)


@silently()
def dicom_cases(options: LayoutOptions) -> list[SourceCase]:
    """Returns a case for each image series that a SEG or RTSTRUCT object is drawn on, in the order of the file names.

    Several objects on a series are several labellings. A damaged file is a case of its own, which fails when it is
    loaded; so is an object whose series is not here.

    Args:
        options: `folder`; `salt`, else the user's own; `dataset` in place of the folder's name; `modality` for series
            of none of the modalities ct, mr, pet, us.

    Raises:
        InputError: the folder holds no DICOM file, or no segmentation.
        SettingError: the dataset's name would tell a patient, or an option is without effect.
    """
    options.refuse_all_but("folder", "modality", "salt", "dataset", layout=LAYOUT)
    folder = options.resolved_folder(LAYOUT)
    dataset, salt = options.dataset_of(folder), options.salt_for_patients()
    series, broken, num_files = _scan(folder)
    _check_dataset(dataset, series.values())
    drawn: dict[str, list[_Series]] = {}
    for one in series.values():
        if one.header.get("Modality") in _OBJECTS:
            drawn.setdefault(_drawn_on(one, series), []).append(one)
    if not drawn and not broken:
        raise InputError(
            f"no SEG or RTSTRUCT among {num_files} files", where=dataset, remedy="add the segmentations of the images"
        )
    origin = Origin(name=dataset, version="", licence="not stated", attribution="")
    cases = []
    for uid, objects in drawn.items():
        name = _hashed_id(dataset, uid or objects[0].uid, salt)
        image = series.get(uid)
        holder = image or objects[0]
        patient = str(holder.header.get("PatientID") or holder.header.get("PatientName") or "").strip()
        description = f"{holder.header.get('SeriesDescription', '')} {holder.header.get('ProtocolName', '')}"
        said = _MODALITIES.get(str(holder.header.get("Modality", "")))
        is_known = said is not None or options.modality is not None
        # Where it is not, the case fails when it is loaded, and its modality is never used.
        modality = options.settled_modality(said, f"series {name}") if is_known else "ct"
        cases.append(
            SourceCase(
                case_id=name,
                dataset=dataset,
                modality=modality,
                split=None,
                patient_id=hash_patient(patient, dataset=dataset, salt=salt) if patient else None,
                load=partial(
                    _load,
                    tuple(image.files) if image else (),
                    is_known,
                    tuple((str(one.header.Modality), path) for one in objects for path in one.files),
                    tuple(sorted({word for one in (holder, *objects) for word in _identifiers(one.header)})),
                    f"series {name}",
                ),
                origins=(origin,),
                files=(*(image.files if image else ()), *(path for one in objects for path in one.files)),
                sequence=modality_of(f"MR {description}")[1] if modality == "mr" else None,
                group=hash_patient(str(holder.header.get("StudyInstanceUID", uid)), dataset=dataset, salt=salt),
                shown_as=f"series {name}",
            )
        )
    return cases + [_broken_case(dataset, number, num_files, path, salt, options, origin) for number, path in broken]


def _load(
    files: Sequence[Path],
    is_known: bool,
    objects: Sequence[tuple[str, Path]],
    identifiers: Sequence[str],
    where: str,
) -> tuple[Image, Iterator[LabelMap]]:
    if not files:
        raise InputError(
            "the image series of this segmentation is not here", where=where, remedy="add it, or leave this out"
        )
    if not is_known:
        raise InputError(
            f"its modality is none of {', '.join(_MODALITIES)}", where=where, remedy="give --modality, or leave it out"
        )
    image = read_series(files, where=where)
    return image, _label_maps(image, objects, identifiers, where)


def _label_maps(
    image: Image, objects: Sequence[tuple[str, Path]], identifiers: Sequence[str], where: str
) -> Iterator[LabelMap]:
    for number, (kind, path) in enumerate(objects, start=1):
        place = f"{where}, its {kind} {number} of {len(objects)}"
        read = read_segments if kind == "SEG" else read_contours
        dataset = read_dicom(path, where=place)
        assert dataset is not None
        for label_map in read(dataset, image, labelling=f"{kind.lower()}-{number}", where=place):
            if any(_tells(text, identifiers) for text in (*label_map.labels.values(), *label_map.undrawn)):
                raise InputError(
                    "the name of a segment tells the patient", where=place, remedy="rename the segment in the object"
                )
            yield label_map


def _broken_case(
    dataset: str, number: int, num_files: int, path: Path, salt: str, options: LayoutOptions, origin: Origin
) -> SourceCase:
    name = _hashed_id(dataset, f"file {number} of {num_files}", salt)
    where = f"file {number} of {num_files} by name"
    return SourceCase(
        case_id=name,
        dataset=dataset,
        modality=options.modality or "ct",
        split=None,
        patient_id=None,
        load=partial(_fail, path, where),
        origins=(origin,),
        files=(),
        shown_as=where,
    )


def _fail(path: Path, where: str) -> tuple[Image, list[LabelMap]]:
    _header(path, where)
    raise InputError("a DICOM file that could not be read before", where=where, remedy="call again")


def _scan(folder: Path) -> tuple[dict[str, _Series], list[tuple[int, Path]], int]:
    """Returns the series and objects, the damaged files with their place in the order of names, and how many files are there."""
    series: dict[str, _Series] = {}
    broken: list[tuple[int, Path]] = []
    try:
        paths = files_below(folder)
    except (InputError, OSError):
        raise InputError(
            "a folder below cannot be read", where=folder.name, remedy="check the permissions of all of them"
        ) from None
    for number, path in enumerate(paths, start=1):
        where = f"file {number} of {len(paths)} by name"
        try:
            if not is_dicom(path):
                continue
            header = _header(path, where)
        except OSError as error:
            raise InputError(
                error.strerror or "it cannot be read", where=where, remedy="check its permissions"
            ) from None
        except InputError:
            broken.append((number, path))
            continue
        if header is None or "LOCALIZER" in [str(word).upper() for word in header.get("ImageType") or []]:
            continue
        uid = str(header.SeriesInstanceUID)
        key = f"{uid} {number}" if header.get("Modality") in _OBJECTS else uid
        series.setdefault(key, _Series(uid=uid, header=header)).files.append(path)
    if not series and not broken:
        raise InputError(f"no DICOM file among {len(paths)}", where=folder.name, remedy="check the folder")
    return series, broken, len(paths)


@silently()
def _header(path: Path, where: str) -> Dataset | None:
    header = read_dicom(path, where=where, tags=_HEADER)
    if header is None:
        return None
    try:
        # Elements are decoded when they are first asked for: those that cannot be come to light here.
        for keyword in _HEADER:
            header.get(keyword)
        if not str(header.get("SeriesInstanceUID", "")):
            raise ValueError("no series")
    except DAMAGED as error:
        raise damaged_dicom(where, error) from None
    return header


def _drawn_on(one: _Series, series: Mapping[str, _Series]) -> str:
    """Returns the UID of the image series an object is drawn on; empty where it says none that is here or elsewhere."""
    try:
        named = list(_referenced(one.header))
        frames = {str(frame) for frame in _frames_of_reference(one.header) if frame}
    except DAMAGED:
        named, frames = [], set[str]()
    here = [uid for uid in named if uid in series]
    if here or named:
        return (here or named)[0]
    same = [
        uid
        for uid, other in series.items()
        if str(other.header.get("FrameOfReferenceUID")) in frames and other.header.get("Modality") in _MODALITIES
    ]
    return same[0] if len(same) == 1 else ""


def _referenced(header: Dataset) -> Iterator[str]:
    for item in header.get("ReferencedSeriesSequence") or []:
        yield str(item.SeriesInstanceUID)
    for frame in header.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            for item in study.get("RTReferencedSeriesSequence") or []:
                yield str(item.SeriesInstanceUID)


def _frames_of_reference(header: Dataset) -> Iterator[Any]:
    yield header.get("FrameOfReferenceUID")
    for frame in header.get("ReferencedFrameOfReferenceSequence") or []:
        yield frame.get("FrameOfReferenceUID")


def _hashed_id(dataset: str, uid: str, salt: str) -> CaseId:
    return case_id(f"{dataset}-{hash_patient(uid, dataset=dataset, salt=salt)[:16]}")


def _identifiers(header: Any) -> tuple[str, ...]:
    """Returns what names the patient, as letters and digits in lower case: numbers, the whole name, and each word of it."""
    words = []
    for key in ("PatientID", "OtherPatientIDs", "AccessionNumber", "PatientBirthDate", "StudyID"):
        words += _texts(header.get(key))
    plain = {_letters(word) for word in words}
    parts: set[str] = set()
    for name in _texts(header.get("PatientName")) + _texts(header.get("OtherPatientNames")):
        plain |= {_letters(name), _letters("".join(reversed(name.split("^")[:2])))}
        for writing in name.split("="):
            # Family, given and middle names; what follows are titles, such as "MR".
            for part in re.split(r"[\s,^]+", "^".join(writing.split("^")[:3])):
                parts |= {_letters(part), *([] if re.search(r"\d", part) else map(_letters, part.split("-")))}
    short = {part for part in parts if 1 < len(part) < _SHORTEST_NAME and part.isalpha()}
    return tuple(sorted({word for word in plain | parts if len(word) >= _SHORTEST_NAME} | short))


def _texts(value: Any) -> list[str]:
    """Returns the texts of an element, which may hold one, several or none."""
    if value is None:
        return []
    return [str(value)] if isinstance(value, (str, PersonName)) else [str(one) for one in value]


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.lower())


def _tells(text: str, identifiers: Sequence[str]) -> bool:
    letters, words = _letters(text), set(re.split(r"[\W_]+", text.lower()))
    return any(one in (letters if len(one) >= _SHORTEST_NAME else words) for one in identifiers)


def _check_dataset(dataset: str, series: Any) -> None:
    for one in series:
        if _tells(dataset, _identifiers(one.header)):
            raise SettingError(
                "the folder's name would tell a patient, and the store names its dataset by it",
                remedy="give --dataset a name of its own",
            )
