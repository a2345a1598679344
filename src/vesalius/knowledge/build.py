"""From sources to one graph."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vesalius.errors import InputError, SettingError
from vesalius.folder import refuse_to_replace, write_manifest, writing_folder
from vesalius.ids import slug
from vesalius.knowledge.database import telling_what_ran_out
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.licences import is_excluded
from vesalius.knowledge.merge.lay import lay_tables
from vesalius.knowledge.merge.obsolete import settle_obsolete
from vesalius.knowledge.merge.relations import join_relations, number_concepts, refuse_dangling_texts
from vesalius.knowledge.merge.ties import tie_concepts
from vesalius.knowledge.merge.workspace import Staged, Workspace
from vesalius.knowledge.sources import ALLOWING_CYCLES, BUILT_IN, KINDS
from vesalius.knowledge.sources.options import SourceOptions, UmlsOptions
from vesalius.knowledge.staging import Staging
from vesalius.knowledge.store import KIND, SCHEMA, count_rows, read_graph

Advance = Callable[[str], None]
"""Told what was done, once a piece of work."""

NUM_STEPS_OF_MERGE = 9
"""Calls of `Advance` after the sources."""


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """How a graph is built.

    Attributes:
        exclude_licences: patterns (``*``, ``?``; upper and lower case are the same) of licences to leave out before merging.
        keep_going: leave refused rows out, into the table `rejects`, instead of stopping at the first.
        umls: what to take from a Metathesaurus.
        memory: most memory of the merge, as DuckDB writes it; the process takes up to half as much again.
        threads: threads of the merge.
    """

    exclude_licences: tuple[str, ...] = ()
    keep_going: bool = False
    umls: UmlsOptions = field(default_factory=UmlsOptions)
    memory: str = "4GB"
    threads: int = 2


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """A source as it was asked for.

    Attributes:
        name: what its rows are marked with.
        kind: kind of a file, or None of a built-in source.
        path: the file or folder.
        spec: the YAML behind the path.
    """

    name: str
    kind: str | None = None
    path: Path = Path()
    spec: Path | None = None


def parse_source(text: str) -> SourceSpec:
    """Returns the source that ``uberon``, ``obo=FILE`` or ``table=FILE,SPEC`` names.

    Raises:
        SettingError: the name or kind is unknown.
    """
    kind, sign, rest = text.partition("=")
    if not sign:
        if text not in BUILT_IN:
            raise SettingError(f"unknown source {text!r}", remedy=f"known are: {_known()}")
        return SourceSpec(name=text)
    if kind not in KINDS:
        raise SettingError(f"unknown kind of source {kind!r}", remedy=f"known are: {_known()}")
    path, comma, spec = rest.rpartition(",") if "," in rest and not Path(rest).exists() else (rest, "", "")
    if not path:
        raise SettingError(f"source {text!r} names no file", remedy=f"write {kind}=PATH")
    # A Metathesaurus is called what it is: its folder, mostly META, says nothing.
    stem = kind if kind == "umls" else Path(path).name.split(".")[0] or kind
    return SourceSpec(name=slug(stem).replace("-", "_"), kind=kind, path=Path(path), spec=Path(spec) if comma else None)


def build(
    sources: Sequence[str],
    out: Path,
    *,
    settings: BuildSettings | None = None,
    advance: Advance = lambda _: None,
    note: Advance = lambda _: None,
    finish: Callable[[Path], None] = lambda _: None,
) -> dict[str, Any]:
    """Builds one graph of `sources` in the folder `out`, whole or not at all; an older graph there is replaced.

    Args:
        sources: built-in names, or ``kind=path[,SPEC]``; the earlier wins the preferred name.
        out: the graph folder.
        settings: how to build it; None takes the defaults.
        advance: told of each source, and of each piece of the merge, once it is done.
        note: told what is being read, where a source takes long.
        finish: given the finished folder before it takes the place of `out`, to add to it.

    Returns:
        The details of the manifest: the kind of each source (a built-in one is its own), counts per source, what was merged, what
        was excluded.

    Raises:
        SettingError: a source is unknown, named twice, or none is named; a setting would have no effect; `out` holds something
            else than a graph, or cannot be written; memory does not suffice.
        InputError: a source cannot be read, or holds rows that are refused.
        FolderError: there is no room for `out`, or for the files the build needs beside it (up to some five times the size of
            the sources).
    """
    settings = settings or BuildSettings()
    specs = _checked_specs(sources, settings)
    out = out.resolve()
    _check_writable(out)
    with (
        telling_what_ran_out(out, memory=settings.memory),
        writing_folder(out) as folder,
        tempfile.TemporaryDirectory(prefix=f".{out.name}.merge.", dir=out.parent) as work,
    ):
        staged = []
        for index, spec in enumerate(specs):
            staged.append(_stage(spec, Path(work) / str(index), settings, note))
            advance(staged[-1].name)
        _check_staged(staged, settings)
        kept = [(spec, origin) for spec, source in zip(specs, staged, strict=True) for origin in source.kept_origins]
        with Workspace(
            Path(work), staged, memory_limit=settings.memory, threads=settings.threads,
            keep_going=settings.keep_going, advance=advance,
        ) as workspace:  # fmt: skip
            _merge(workspace, folder)
            counts = dict(workspace.counts)
        details = {
            "kinds": {origin.name: spec.kind or spec.name for spec, origin in kept},
            "counts": count_rows(folder, [origin.name for _, origin in kept]),
            "merged": counts,
            "excluded": [
                {"name": origin.name, "version": origin.version, "licence": origin.licence}
                for source in staged
                for origin in source.origins
                if origin.name not in source.kept
            ],
        }
        origins = [origin for _, origin in kept]
        write_manifest(folder, kind=KIND, schema=SCHEMA, origins=origins, details=details)
        finish(folder)
    return details


def build_graph(sources: Sequence[str], *, settings: BuildSettings | None = None) -> Graph:
    """Returns one graph of `sources`, in memory.

    Raises:
        SettingError: as for `build`.
        InputError: as for `build`.
        FolderError: there is no room for temporary files.
    """
    with tempfile.TemporaryDirectory() as folder:
        build(sources, Path(folder) / "graph", settings=settings)
        return read_graph(Path(folder) / "graph")


def _merge(workspace: Workspace, folder: Path) -> None:
    settle_obsolete(workspace)
    workspace.advance("obsolete concepts")
    tie_concepts(workspace)
    number_concepts(workspace)
    workspace.advance("one concept of several")
    refuse_dangling_texts(workspace)
    join_relations(workspace)
    workspace.advance("checks")
    lay_tables(workspace, folder)


def _check_writable(out: Path) -> None:
    """Refuses an `out` that cannot be written before anything is read."""
    try:
        refuse_to_replace(out, kind=KIND)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent):
            pass
    except OSError as error:
        raise SettingError(
            f"cannot be written ({error.strerror or type(error).__name__})",
            where=out,
            remedy="give a folder that can be made",
        ) from error


def _checked_specs(sources: Sequence[str], settings: BuildSettings) -> list[SourceSpec]:
    if not sources:
        raise SettingError("no source named", remedy=f"name at least one of: {_known()}")
    specs = [parse_source(text) for text in sources]
    for spec in specs:
        if sum(other.name == spec.name for other in specs) > 1:
            raise SettingError(f"source {spec.name!r} is named twice", remedy=_once(spec))
    if settings.umls != UmlsOptions() and not any(spec.kind == "umls" for spec in specs):
        raise SettingError("options of umls have no effect without a umls source", remedy="leave them out")
    return specs


def _once(spec: SourceSpec) -> str:
    return "give one Metathesaurus" if spec.kind == "umls" else "name it once, or rename the file"


def _stage(spec: SourceSpec, folder: Path, settings: BuildSettings, note: Advance) -> Staged:
    folder.mkdir()
    with Staging(
        folder, spec.name, file=spec.path.name or spec.name, keep_going=settings.keep_going,
        memory=settings.memory, threads=settings.threads,
    ) as staging:  # fmt: skip
        if spec.kind is None:
            origins = BUILT_IN[spec.name](staging)
        else:
            if not spec.path.exists():
                raise InputError("no such file or folder", where=spec.path, remedy="check the path")
            options = SourceOptions(
                spec=spec.spec, umls=settings.umls, exclude_licences=settings.exclude_licences,
                memory=settings.memory, threads=settings.threads, note=note,
            )  # fmt: skip
            origins = KINDS[spec.kind](spec.path, staging, options)
    whole = next((origin for origin in origins if origin.name == staging.source), None)
    excluded = {origin.name for origin in origins if is_excluded(origin.licence, settings.exclude_licences)}
    kept = frozenset(origin.name for origin in origins) - excluded
    return Staged(
        name=staging.source,
        folder=folder,
        origins=origins,
        kept=frozenset() if whole is not None and whole.name in excluded else kept,
        allows_cycles=spec.kind in ALLOWING_CYCLES,
    )


def _check_staged(staged: Sequence[Staged], settings: BuildSettings) -> None:
    names = [origin.name for source in staged for origin in source.origins]
    for name in names:
        if names.count(name) > 1:
            raise SettingError(f"two sources call themselves {name!r}", remedy="rename one of them")
    licences = [origin.licence for source in staged for origin in source.origins]
    for pattern in settings.exclude_licences:
        if not any(is_excluded(licence, [pattern]) for licence in licences):
            raise SettingError(
                f"--exclude-licence {pattern} matches no source",
                remedy=f"the licences are: {', '.join(sorted(set(licences)))}",
            )
    if not any(source.kept for source in staged):
        raise SettingError("every source is excluded by its licence", remedy="exclude fewer")


def _known() -> str:
    return ", ".join([*BUILT_IN, *(f"{kind}=PATH" for kind in KINDS)])
