"""A graph for others to read: one module a format, one line each in `FORMATS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from vesalius.errors import SettingError
from vesalius.knowledge.export.kgx import export_kgx
from vesalius.knowledge.export.sat import export_sat
from vesalius.knowledge.export.sentence_pairs import export_sentence_pairs

FORMATS: dict[str, Callable[[Path, Path], Mapping[str, int]]] = {
    "kgx": export_kgx,
    "sat": export_sat,
    "sentence-pairs": export_sentence_pairs,
}
"""Format → what writes a graph folder in it, and returns file → number of rows."""


def export_graph(graph: Path, out: Path, *, format: str) -> Mapping[str, int]:  # noqa: A002  the word of the house
    """Writes a graph folder in another format, whole or not at all, and returns file → number of rows.

    Raises:
        SettingError: the format is unknown, or `out` holds something that is no export.
        FolderError: `graph` holds no graph, or a damaged one.
    """
    if format not in FORMATS:
        raise SettingError(f"unknown format {format!r}", remedy=f"known are: {', '.join(FORMATS)}")
    return FORMATS[format](graph, out)
