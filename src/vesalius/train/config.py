"""Settings as YAML: every resolved value out, and the same settings in again."""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from vesalius.errors import InputError, SettingError
from vesalius.folder import unreadable

Settings = TypeVar("Settings")

CONFIG = "config.yaml"
"""Where a folder keeps the settings it was made with."""

CHANGEABLE = types.MappingProxyType({"changeable": True})
"""Metadata of a dataclass field that no number of a run depends on: a run may go on with another value."""

_LONGEST_SAID = 60


def to_yaml(settings: object) -> str:
    """Returns a settings dataclass, nested ones included, as YAML."""
    return yaml.safe_dump(_plain(settings), sort_keys=False, allow_unicode=True)


def from_yaml(kind: type[Settings], path: Path) -> Settings:
    """Reads settings of `kind` that `to_yaml` wrote; a key that is left out keeps its default.

    Raises:
        InputError: the file cannot be read or is no YAML mapping.
        SettingError: a key is unknown or missing, or a value is of another type.
    """
    return _made(kind, _content(path), where=str(path))


def refuse_other_settings(folder: Path, settings: object, *, what: str) -> None:
    """Refuses to go on with what a folder holds, a run or a demo, where that was begun with other settings.

    Raises:
        SettingError: they differ, `CHANGEABLE` ones aside.
        InputError: the folder's settings cannot be read.
    """
    differ = differences(settings, folder / CONFIG)
    if differ:
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise SettingError(
            f"holds a {what} with other settings ({'; '.join(differ[:3])}{more})",
            where=folder, remedy="give another --out, or remove the folder",
        )  # fmt: skip


def differences(settings: object, path: Path) -> list[str]:
    """Returns in what the settings in a file that `to_yaml` wrote differ from `settings`, `CHANGEABLE` ones aside.

    Each difference is said as ``loop.seed: 0, now 1``.

    Raises:
        InputError: the file cannot be read or is no YAML.
    """
    return list(_differences(settings, _content(path), name=""))


def _differences(settings: object, held: Any, *, name: str) -> Iterator[str]:
    if not dataclasses.is_dataclass(settings) or not isinstance(held, dict):
        if held != (now := _plain(settings)):
            yield f"{name}: {_said(held)}, now {_said(now)}"
        return
    fields = {field.name: field for field in dataclasses.fields(settings)}
    for key in dict.fromkeys([*fields, *held]):
        inner = f"{name}.{key}" if name else key
        if key not in fields or key not in held:
            yield f"{inner}: {'not known' if key not in fields else 'not given'}"
        elif not fields[key].metadata.get("changeable"):
            yield from _differences(getattr(settings, key), held[key], name=inner)


def _said(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6).removesuffix("...\n").strip()
    return text if len(text) <= _LONGEST_SAID else f"{text[:_LONGEST_SAID]} …"


def _content(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"is no YAML ({str(error).splitlines()[0]})", where=path, remedy="mend it") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _made(kind: Any, value: Any, *, where: str) -> Any:
    """Returns `value`, as YAML gives it, as an instance of the type `kind`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass_made(kind, value, where=where)
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(value, "a list", where)
        kinds = [arguments[0]] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) != len(value):
            raise _wrong(value, f"a list of {len(kinds)}", where)
        return tuple(_made(item_kind, item, where=where) for item_kind, item in zip(kinds, value, strict=True))
    if origin is Literal:
        if value not in arguments:
            raise _wrong(value, f"one of {', '.join(map(str, arguments))}", where)
        return value
    if origin in (Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        return None if value is None else _made(inner[0], value, where=where)
    if kind is float and _is_number(value):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise _wrong(value, f"of type {kind.__name__}", where)
    return value


def _is_number(value: Any) -> bool:
    """Whether a value is a number: YAML 1.1 takes ``1e-5``, which has no point, for a text."""
    if isinstance(value, str):
        return re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+", value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _dataclass_made(kind: Any, value: Any, *, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(value, "a mapping", where)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = get_type_hints(kind)
    for key in value:
        if key not in fields:
            raise SettingError(f"unknown setting {key!r}", where=where, remedy=f"known are: {', '.join(fields)}")
    for name, field in fields.items():
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in value and not has_default:
            raise SettingError(f"setting {name!r} is missing", where=where, remedy="add it")
    return kind(**{key: _made(hints[key], item, where=f"{where}: {key}") for key, item in value.items()})


def _wrong(value: Any, expected: str, where: str) -> SettingError:
    return SettingError(f"{value!r} is not {expected}", where=where, remedy="mend the value")
