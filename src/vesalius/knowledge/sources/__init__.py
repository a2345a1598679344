"""Where knowledge comes from: one module a source, one line each in `SOURCES`."""

from __future__ import annotations

from collections.abc import Callable

from vesalius.knowledge.graph import Graph
from vesalius.knowledge.sources import cellxgene

SOURCES: dict[str, Callable[[], Graph]] = {
    "uberon": cellxgene.read_uberon,
    "mondo": cellxgene.read_mondo,
}
"""Built-in sources by the name the command line knows them by."""
