"""A graph for others to read: one module a format, one line each in `FORMATS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from vesalius.errors import SettingError
from vesalius.knowledge.export.kgx import export_kgx
from vesalius.knowledge.export.sat import export_sat
from vesalius.knowledge.export.sentence_pairs import export_sentence_pairs


@runtime_checkable
class Exporter(Protocol):
    """Writes a graph folder in one format."""

    def __call__(self, graph: Path, out: Path, *, advance: Callable[[str], None]) -> Mapping[str, int]:
        """Writes `graph` to the folder `out`, and returns file → number of rows."""
        ...


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format that graphs are exported in.

    Attributes:
        write: what writes it.
        num_files: data files it has, for a progress bar.
    """

    write: Exporter
    num_files: int


FORMATS: dict[str, Format] = {
    "kgx": Format(write=export_kgx, num_files=2),
    "sat": Format(write=export_sat, num_files=4),
    "sentence-pairs": Format(write=export_sentence_pairs, num_files=1),
}
"""Formats by the name the command line knows them by."""


def format_named(name: str) -> Format:
    """Returns the format called `name`.

    Raises:
        SettingError: there is none.
    """
    if name not in FORMATS:
        raise SettingError(f"unknown format {name!r}", remedy=f"known are: {', '.join(FORMATS)}")
    return FORMATS[name]
