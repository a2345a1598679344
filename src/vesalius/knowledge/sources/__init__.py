"""Where knowledge comes from: one module a source, one line each in `BUILT_IN` or `KINDS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vesalius.folder import Origin
from vesalius.knowledge.sources import cellxgene
from vesalius.knowledge.sources.obo import read_obo
from vesalius.knowledge.sources.obograph import read_obograph
from vesalius.knowledge.sources.options import SourceOptions
from vesalius.knowledge.sources.owl import read_owl
from vesalius.knowledge.sources.sat import read_sat_definitions, read_sat_json, read_sat_relations
from vesalius.knowledge.sources.table import read_table
from vesalius.knowledge.staging import Staging

Reader = Callable[[Path, Staging, SourceOptions], tuple[Origin, ...]]
"""Stages what a file or folder says, and returns the terms of each source of rows inside (mostly one, named `staging.source`)."""

BuiltIn = Callable[[Staging], tuple[Origin, ...]]
"""Stages a source that comes with an installed package."""

BUILT_IN: dict[str, BuiltIn] = {
    "uberon": cellxgene.stage_uberon,
    "mondo": cellxgene.stage_mondo,
}
"""Built-in sources by the name the command line knows them by."""

KINDS: dict[str, Reader] = {
    "obo": read_obo,
    "owl": read_owl,
    "obograph": read_obograph,
    "sat-definitions": read_sat_definitions,
    "sat-relations": read_sat_relations,
    "sat-json": read_sat_json,
    "table": read_table,
}
"""Readers of files and folders by kind, as in ``kind=path``."""

ALLOWING_CYCLES: frozenset[str] = frozenset({"umls", "sat-relations"})
"""Kinds in which ``is_a`` cycles come of joining several vocabularies' codes, and are noted instead of refused."""
