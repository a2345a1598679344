"""Where knowledge comes from: one module a source, one line each in `BUILT_IN` or `KINDS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vesalius.folder import Origin
from vesalius.knowledge.sources import cellxgene, handbook, umls
from vesalius.knowledge.sources.obo import stage_obo
from vesalius.knowledge.sources.obograph import stage_obograph
from vesalius.knowledge.sources.options import SourceOptions
from vesalius.knowledge.sources.owl import stage_owl
from vesalius.knowledge.sources.sat import stage_sat_definitions, stage_sat_json, stage_sat_relations
from vesalius.knowledge.sources.table import stage_table
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
    "obo": stage_obo,
    "owl": stage_owl,
    "obograph": stage_obograph,
    "sat-definitions": stage_sat_definitions,
    "sat-relations": stage_sat_relations,
    "sat-json": stage_sat_json,
    "table": stage_table,
}
"""Readers of files and folders by kind, as in ``kind=path``."""

ALLOWING_CYCLES: frozenset[str] = frozenset({"umls", "sat-relations", "sat-json"})
"""Kinds in which ``is_a`` cycles come of joining several vocabularies' codes, or of what was written about names, and are noted
instead of refused."""
