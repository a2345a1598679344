"""What readers of sources can be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class UmlsOptions:
    """What to take from a Metathesaurus.

    Attributes:
        language: language of names (LAT of MRCONSO), such as ``ENG``.
        vocabularies: source abbreviations (SAB) to take; empty takes all.
        semantic_types: names (``Body Part, Organ, or Organ Component``), ids (``T023``) or the tree number of a branch
            (``A1.2``) of the concepts to take; empty takes all.
        suppressed: also take names, definitions and relations that are suppressed.
    """

    language: str = "ENG"
    vocabularies: tuple[str, ...] = ()
    semantic_types: tuple[str, ...] = ()
    suppressed: bool = False


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Options of one source; a reader refuses what it does not know.

    Attributes:
        spec: the YAML named behind the path (``table=FILE,SPEC``).
        umls: what to take from a Metathesaurus.
        exclude_licences: patterns of licences that are left out. `knowledge.build` sees to it; a reader whose rows depend on each
            other (which name is preferred, say) leaves them out itself and still returns their `Origin`.
        memory: most memory DuckDB may take while the source is staged.
        threads: threads of DuckDB.
        note: told what is being read, where that takes long.
    """

    spec: Path | None = None
    umls: UmlsOptions = field(default_factory=UmlsOptions)
    exclude_licences: tuple[str, ...] = ()
    memory: str = "4GB"
    threads: int = 2
    note: Callable[[str], None] = lambda _: None
