"""The tables beside a dataset's images: JSON, JSON lines, TSV and CSV, and what they say of labels, modality and split."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from vesalius.errors import InputError
from vesalius.folder import Origin, unreadable
from vesalius.ids import MODALITIES, Modality, Split

_MODALITY_WORDS: dict[str, Modality] = {
    **dict.fromkeys(("ct", "cta", "cbct", "cect", "ncct", "ldct", "hrct"), "ct"),
    **dict.fromkeys(("mr", "mri", "mra", "fmri", "cmr"), "mr"),
    **dict.fromkeys(("us", "ultrasound", "tus", "echo"), "us"),
    **dict.fromkeys(("pet", "pt", "suv", "fdg"), "pet"),
    **dict.fromkeys(("microscopy", "em", "lm", "sem", "tem", "lightsheet"), "microscopy"),
}
"""Words for a modality, in lower case."""

_SEQUENCE = re.compile(
    r"(t1|t2|pd)(w|c|n|f|ce|gd|map|rho|star|w?fse)?|t1w?ce|flair|t2flair|adc|dwi|dti|swi|dce|lge|bssfp|ssfp|cine|"
    r"hbv|inphase|outphase|opp|water|fat|vibe|mprage|ste|tof|pdw|unit1|bold|epi|asl",
)
"""A word for a sequence of magnetic resonance, in lower case."""

_SPLITS: dict[str, Split | None] = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "ts", "te"), "test"),
    **dict.fromkeys(("", "unknown", "none", "n/a", "nan"), None),
}


def read_json(path: Path) -> Any:
    """Returns what a JSON file holds.

    Raises:
        InputError: it is missing, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON ({error})", where=path, remedy="correct it") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Returns the object a JSON file holds; empty where there is no file.

    Raises:
        InputError: it is no JSON, or no object.
    """
    held = read_json(path) if path.is_file() else {}
    if not isinstance(held, dict):
        raise InputError("not a JSON object", where=path, remedy="correct it, or remove it")
    return held


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields number and object of each line of a file of JSON lines; empty lines are passed over.

    Raises:
        InputError: it is missing, or a line is no JSON object.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    held = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise InputError(
                        f"not JSON ({error})", where=f"{path}:{number}", remedy="correct the line"
                    ) from error
                if not isinstance(held, dict):
                    raise InputError("not a JSON object", where=f"{path}:{number}", remedy="correct the line")
                yield number, held
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError("not text in UTF-8", where=path, remedy="save it as UTF-8") from error


def read_rows(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a TSV or CSV file, by the names of its header; a CSV file may use semicolons.

    Raises:
        InputError: it is missing, no table, or a row has not as many fields as the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            tabs = path.suffix.lower() == ".tsv"
            delimiter = "\t" if tabs else ";" if first.count(";") > first.count(",") else ","
            rows = list(csv.DictReader(file, delimiter=delimiter, strict=True))
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, csv.Error) as error:
        raise InputError(f"not a table ({error})", where=path, remedy="save it as UTF-8 text") from error
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise InputError(
                "not as many fields as the header", where=f"{path}:{number}", remedy="quote fields that hold it"
            )
    return [{name.strip(): value.strip() for name, value in row.items()} for row in rows]


def read_labels(path: Path) -> dict[str, frozenset[int]]:
    """Returns label → its values, of a table of labels in JSON, TSV or CSV.

    JSON may be written value → label, label → value, or label → [value, number of voxels].

    Raises:
        InputError: it is missing, or no such table.
    """
    if path.suffix.lower() == ".json":
        held = read_json(path)
        counted = isinstance(held, dict) and any(isinstance(value, list) for value in held.values())
        if counted and not _is_counted(held):
            raise InputError(
                "lists that are not all [value, number of voxels]", where=path, remedy="give each label one value"
            )
        return labels_from({text: pair[0] for text, pair in held.items()} if counted else held, path)
    rows = read_rows(path)
    by_lower = {name.lower(): name for name in rows[0]} if rows else {}
    value = next(
        (by_lower[name] for name in ("value", "index", "id", "label_id", "label_value") if name in by_lower), None
    )
    text = next((by_lower[name] for name in ("name", "label", "structure", "label_name") if name in by_lower), None)
    if value is None or text is None:
        raise InputError("the columns value and name are not both there", where=path, remedy="give it this header")
    pairs = [(row[value], row[text]) for row in rows]
    twice = sorted({number for number, _ in pairs if [number for number, _ in pairs].count(number) > 1})
    if twice:
        raise InputError(f"two rows of value {twice[0]}", where=path, remedy="keep one")
    return labels_from(dict(pairs), path)


def labels_from(table: Any, path: Path) -> dict[str, frozenset[int]]:
    """Returns label → its values, of a table written value → label, or label → value or values.

    Background (value 0) is left out. A label may have several values (a region of nnU-Net).

    Args:
        table: as read from JSON.
        path: what to name in an error.

    Raises:
        InputError: it is none of these.
    """
    if not isinstance(table, dict) or not table:
        raise InputError("no label in it", where=path, remedy='write {"1": "liver", …}')
    by_value = all(_is_whole(key) for key in table) and all(isinstance(value, str) for value in table.values())
    labels: dict[str, frozenset[int]] = {}
    for key, held in table.items():
        text = str(held if by_value else key).strip()
        given = [key] if by_value else held if isinstance(held, list) else [held]
        if not given or not all(_is_whole(value) for value in given):
            raise InputError(
                f"label {key!r} has no whole number ({held!r})", where=path, remedy='write {"1": "liver", …}'
            )
        values = frozenset(int(value) for value in given) - {0}
        if values:
            labels[text] = labels.get(text, frozenset()) | values
    if not labels:
        raise InputError("no label but background in it", where=path, remedy='write {"1": "liver", …}')
    return labels


def modality_of(text: str) -> tuple[Modality | None, str | None]:
    """Returns the modality that a dataset's text names, and the sequence in it, as it is written there.

    ``MRI T1`` is mr with the sequence T1, ``T2w`` is mr with T2w, ``CT`` is ct without one. None: no modality is named.
    """
    words = re.split(r"[^A-Za-z0-9*]+", text)
    named: set[Modality] = {_MODALITY_WORDS[word.lower()] for word in words if word.lower() in _MODALITY_WORDS}
    sequence = next((word for word in words if _SEQUENCE.fullmatch(word.lower().rstrip("*"))), None)
    if not named and sequence:
        named = {"mr"}
    if len(named) != 1:
        return None, None
    modality = named.pop()
    return modality, sequence if modality == "mr" else None


def is_imaging_word(word: str) -> bool:
    """Tells whether a word, in lower case, names a modality or a sequence."""
    return word in _MODALITY_WORDS or _SEQUENCE.fullmatch(word) is not None


def checked_modality(text: str, where: object) -> tuple[Modality, str | None]:
    """Returns what `modality_of` does.

    Raises:
        InputError: `text` names no modality.
    """
    modality, sequence = modality_of(text)
    if modality is None:
        raise InputError(
            f"modality {text!r} is not one of {', '.join(MODALITIES)}", where=where, remedy="write one of these there"
        )
    return modality, sequence


def described_modality(description: Mapping[str, Any]) -> tuple[Modality | None, str | None]:
    """Returns the modality of all channels that a ``dataset.json`` describes, and the sequence where there is one channel.

    None where it names none, or several: then each case has to say its own.
    """
    said = description.get("modality", description.get("channel_names"))
    names = list(said.values()) if isinstance(said, dict) else [] if said is None else [said]
    found = [modality_of(str(name)) for name in names]
    if len({modality for modality, _ in found}) != 1:
        return None, None
    return found[0] if len(found) == 1 else (found[0][0], None)


def split_of(text: object, where: object) -> Split | None:
    """Returns the side of a split as a dataset writes it; None for none.

    Raises:
        InputError: it is no side of a split.
    """
    word = "" if text is None else str(text).strip().lower()
    if word not in _SPLITS:
        raise InputError(f"split {text!r}", where=where, remedy="use one of train, validation, test")
    return _SPLITS[word]


def find_table(folder: Path, names: Collection[str]) -> Path | None:
    """Returns the file of a folder that bears one of `names`, whatever the case of its letters; None without one.

    Raises:
        InputError: several do.
    """
    wanted = {name.lower() for name in names}
    found = sorted(path for path in folder.iterdir() if path.name.lower() in wanted and path.is_file())
    if len(found) > 1:
        raise InputError(f"two tables, {found[0].name} and {found[1].name}", where=folder, remedy="keep one")
    return found[0] if found else None


def origin_of(description: Mapping[str, Any], dataset: str) -> Origin:
    """Returns name, version, licence and attribution of a dataset, as its description states them."""
    licence = description.get("licence", description.get("license", description.get("License")))
    return Origin(
        name=dataset,
        version=str(description.get("release", description.get("DatasetVersion", ""))),
        licence=str(licence or "not stated"),
        attribution=str(description.get("reference", description.get("HowToAcknowledge", ""))),
    )


def _is_counted(held: Mapping[str, Any]) -> bool:
    pairs = [value for value in held.values() if isinstance(value, list) and len(value) == 2]
    if len(pairs) != len(held) or not all(_is_whole(number) for pair in pairs for number in pair):
        return False
    values = {int(pair[0]) for pair in pairs}
    # [1, 2] and [3, 4] could as well be two regions of two values each: a count has to show itself as one.
    return len(values) == len(pairs) and max(int(pair[1]) for pair in pairs) > 10 * max(values)


def _is_whole(value: object) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return (
        isinstance(value, (int, str))
        and not isinstance(value, bool)
        and bool(re.fullmatch(r"\s*-?\d{1,18}\s*", str(value)))
    )
