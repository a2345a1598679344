"""The handbook's files: read, sorted, put in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from vesalius.errors import InputError
from vesalius.folder import unreadable, write_text
from vesalius.knowledge.handbook.entry import Entry
from vesalius.knowledge.handbook.parse import INNER_KEYS, KEYS, parse_line

PACKAGE = "vesalius.knowledge.handbook"


def shipped() -> Path:
    """Returns the folder of the handbook that ships with the package."""
    return Path(str(resources.files(PACKAGE)))


def handbook_files(folder: Path) -> list[Path]:
    """Returns the handbook's files in `folder`, by name.

    Raises:
        InputError: there is none.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise InputError("no file of the handbook (*.jsonl) here", where=folder, remedy="check the path")
    return files


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yields (``file:number``, line) of a file of the handbook.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8 ({error.reason} at byte {error.start})", where=path, remedy="save it as UTF-8"
        ) from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{path.name}:{number}", line


def read_entries(folder: Path | None = None) -> list[Entry]:
    """Returns all entries of the handbook in `folder` (default: the one shipped), in the order of files and lines.

    Raises:
        InputError: a line breaks the schema.
    """
    return [
        parse_line(line, where=where) for path in handbook_files(folder or shipped()) for where, line in lines_of(path)
    ]


def tidy(path: Path) -> bool:
    """Sorts a file's lines by concept id, orders their keys and leaves empty values out; True where that changed it.

    Raises:
        InputError: a line is no JSON object.
    """
    records = []
    for where, line in lines_of(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"no JSON ({error})", where=where, remedy="one object a line") from error
        if not isinstance(record, dict) or not isinstance(record.get("concept_id"), str):
            raise InputError("no JSON object with a concept_id", where=where, remedy="one object a line")
        records.append(_ordered(record, KEYS))
    records.sort(key=lambda record: record["concept_id"])
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    if text == path.read_text(encoding="utf-8"):
        return False
    write_text(path, text)
    return True


def _ordered(value: Any, keys: tuple[str, ...]) -> Any:
    """Returns an object with its keys in order, unknown ones last, empty values left out (an empty side stays)."""
    if not isinstance(value, dict):
        return value
    inner = {key: key for key in INNER_KEYS} | {"left": "side", "right": "side"}
    made: dict[str, Any] = {}
    for key in (*(key for key in keys if key in value), *(key for key in value if key not in keys)):
        held = value[key]
        if key == "members" and isinstance(held, list):
            held = [_ordered(member, INNER_KEYS["member"]) for member in held]
        elif key in inner:
            held = _ordered(held, INNER_KEYS[inner[key]])
        if held not in ("", [], None) and (held != {} or key == "sides"):
            made[key] = held
    return made
