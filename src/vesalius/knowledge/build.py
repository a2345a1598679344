"""From sources to one graph."""

from __future__ import annotations

from collections.abc import Sequence

from vesalius.errors import SettingError
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.sources import SOURCES


def build_graph(sources: Sequence[str]) -> Graph:
    """Returns one graph of the named built-in sources.

    Raises:
        SettingError: a source is unknown, named twice, or none is named.
        InputError: a source cannot be read.
    """
    if not sources:
        raise SettingError("no source named", remedy=f"name at least one of: {', '.join(SOURCES)}")
    for name in sources:
        if name not in SOURCES:
            raise SettingError(f"unknown source {name!r}", remedy=f"known are: {', '.join(SOURCES)}")
        if sources.count(name) > 1:
            raise SettingError(f"source {name!r} is named twice", remedy="name it once")
    graphs = [SOURCES[name]() for name in sources]
    return Graph(
        [concept for graph in graphs for concept in graph],
        [relation for graph in graphs for relation in graph.relations],
        [origin for graph in graphs for origin in graph.origins],
    )
