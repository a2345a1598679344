"""Where knowledge comes from: one module a source, one line each in `BUILT_IN` or `KINDS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vesalius.folder import Origin
from vesalius.knowledge.sources import cellxgene, handbook, umls
from vesalius.knowledge.sources.options import SourceOptions
from vesalius.knowledge.staging import Staging

Reader = Callable[[Path, Staging, SourceOptions], tuple[Origin, ...]]
"""Stages what a file or folder says, and returns the terms of each source of rows inside (mostly one, named `staging.source`)."""

BuiltIn = Callable[[Staging], tuple[Origin, ...]]
"""Stages a source that comes with an installed package."""

BUILT_IN: dict[str, BuiltIn] = {
    "handbook": handbook.stage_handbook,
    "uberon": cellxgene.stage_uberon,
    "mondo": cellxgene.stage_mondo,
}
"""Built-in sources by the name the command line knows them by."""

KINDS: dict[str, Reader] = {
    "umls": umls.stage_umls,
}
"""Readers of files and folders by kind, as in ``kind=path``."""

ALLOWING_CYCLES: frozenset[str] = frozenset({"umls"})
"""Kinds in which ``is_a`` cycles come of joining several vocabularies' codes, and are noted instead of refused."""
