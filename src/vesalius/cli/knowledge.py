"""`vesalius knowledge …`."""

from __future__ import annotations

from pathlib import Path

import tyro
from rich.console import Console

from vesalius.cli import handbook
from vesalius.cli.knowledge_export import export

DEFAULT_SOURCES = ("uberon", "mondo", "handbook")


def build(
    sources: tyro.conf.Positional[tuple[str, ...]] = DEFAULT_SOURCES,
    /,
    *,
    out: Path,
    exclude_licence: tuple[str, ...] = (),
    keep_going: bool = False,
    umls_language: str = "ENG",
    umls_vocabularies: tuple[str, ...] = (),
    umls_semantic_types: tuple[str, ...] = (),
    umls_suppressed: bool = False,
    memory: str = "4GB",
    threads: int = 2,
) -> None:
    """Build a knowledge graph from sources.

    Args:
        sources: built-in sources (uberon, mondo, handbook) and files as kind=path, such as obo=uberon.obo.gz, umls=META or
            table=FILE,SPEC.yaml. Concepts of several sources become one by xref, then by name; the earlier source names them.
        out: graph folder to write; an older graph there is replaced.
        exclude_licence: leave out sources whose licence matches a pattern, such as 'UMLS-SRL-[349]*'.
        keep_going: leave refused rows out and list them in rejects.parquet, instead of stopping at the first.
        umls_language: language of names (LAT of MRCONSO).
        umls_vocabularies: vocabularies to take (SAB), such as FMA SNOMEDCT_US; all where none is named.
        umls_semantic_types: semantic types to take, by name, TUI or tree number (A1.2); all where none is named.
        umls_suppressed: also take what is suppressed.
        memory: most memory for merging; the process takes up to half as much again.
        threads: threads for merging.
    """
    from vesalius.cli.graphs import print_built
    from vesalius.corpus.pair_index import write_pair_index
    from vesalius.knowledge.build import NUM_STEPS_OF_MERGE, BuildSettings
    from vesalius.knowledge.build import build as build_folder
    from vesalius.knowledge.sources.options import UmlsOptions
    from vesalius.train.progress import progress_bar

    settings = BuildSettings(
        exclude_licences=exclude_licence, keep_going=keep_going, memory=memory, threads=threads,
        umls=UmlsOptions(
            language=umls_language, vocabularies=umls_vocabularies, semantic_types=umls_semantic_types,
            suppressed=umls_suppressed,
        ),
    )  # fmt: skip
    with progress_bar("Knowledge graph", total=len(sources) + NUM_STEPS_OF_MERGE + 1) as advance:
        details = build_folder(
            sources, out, settings=settings,
            advance=lambda done: advance(1, note=done), note=lambda doing: advance(0, note=doing),
            finish=lambda folder: write_pair_index(folder, memory_limit=memory),
        )  # fmt: skip
        advance(1, note="pairs to draw")
    print_built(Console(), details)
    print(f"graph: {out}")


def show(graph: tyro.conf.Positional[Path], name: tyro.conf.Positional[str], /, *, most: int = 12) -> None:
    """Show a concept: names by scope, definitions, relations both ways.

    Args:
        graph: graph folder.
        name: a name, a synonym or an id, also an id that was merged away; upper and lower case of names are the same.
        most: relations to list of each predicate and direction.
    """
    from vesalius.cli.graphs import print_concept
    from vesalius.errors import InputError
    from vesalius.knowledge.stored import StoredGraph

    opened = StoredGraph(graph)
    found = opened.find(name)
    if not found:
        near = ", ".join(opened.suggestions(name))
        raise InputError(f"nothing is named {name!r}", where=graph, remedy=f"did you mean: {near}" if near else None)
    console = Console(highlight=False)
    for concept in found:
        print_concept(console, opened, concept, most=most)


def stats(graph: tyro.conf.Positional[Path], /, *, picture: Path | None = None, predicates: int = 25) -> None:
    """Count a graph by source, scope and predicate, as a table and a picture.

    Args:
        graph: graph folder.
        picture: PNG to write; without it, GRAPH-stats.png beside the folder.
        predicates: how many predicates to list, the most frequent first.
    """
    from vesalius.cli.graphs import print_stats
    from vesalius.eval.graph_pictures import write_stats_picture
    from vesalius.knowledge.stats import graph_stats
    from vesalius.knowledge.stored import StoredGraph

    found = graph_stats(StoredGraph(graph))
    print_stats(Console(), found, most=predicates)
    path = picture or graph.resolve().with_name(f"{graph.resolve().name}-stats.png")
    write_stats_picture(found, path, title=graph.resolve().name)
    print(f"picture: {path}")


def diff(before: tyro.conf.Positional[Path], after: tyro.conf.Positional[Path], /, *, details: bool = False) -> None:
    """Compare two graphs: concepts added, removed and renamed, texts and relations added and removed.

    Args:
        before: graph folder.
        after: another graph folder.
        details: list every change below the summary.
    """
    from vesalius.cli.graphs import print_changes, print_details
    from vesalius.knowledge.diff import GraphDiff

    compared = GraphDiff(before, after)
    print_changes(Console(), compared.summary())
    if details:
        print_details(Console(), compared.details())


COMMANDS = {
    "build": build,
    "show": show,
    "stats": stats,
    "diff": diff,
    "check": handbook.check,
    "export": export,
}
