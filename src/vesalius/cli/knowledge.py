"""`vesalius knowledge …`."""

from __future__ import annotations

from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table


def build(sources: tyro.conf.Positional[tuple[str, ...]], /, *, out: Path) -> None:
    """Build a knowledge graph from sources.

    Args:
        sources: built-in sources: uberon, mondo. Where names meet, the earlier source comes first.
        out: graph folder to write; an older graph there is replaced.
    """
    from vesalius.knowledge.build import build_graph
    from vesalius.knowledge.store import write_graph

    graph = build_graph(sources)
    write_graph(graph, out)
    table = Table("source", "concepts", "synonyms", "definitions", "relations")
    for source, counts in graph.counts().items():
        table.add_row(source, *(f"{counts[str(column.header)]:,}" for column in table.columns[1:]))
    Console().print(table)
    print(f"graph: {out}")


def show(graph: tyro.conf.Positional[Path], name: tyro.conf.Positional[str], /) -> None:
    """Show a concept: names, definition, relations both ways.

    Args:
        graph: graph folder.
        name: a name, a synonym or an id; upper and lower case are the same.
    """
    from vesalius.errors import InputError
    from vesalius.ids import ConceptId
    from vesalius.knowledge.store import read_graph

    read = read_graph(graph)
    found = [read[ConceptId(name)]] if name in read else read.named(name)
    if not found:
        near = ", ".join(read.suggestions(name))
        raise InputError(f"nothing is named {name!r}", where=graph, remedy=f"did you mean: {near}" if near else None)
    console = Console(highlight=False)
    for concept in found:
        console.print(f"[bold]{concept.name}[/bold]  {concept.concept_id}  [dim]{concept.source}[/dim]")
        for synonym in concept.synonyms:
            console.print(f"  {synonym.scope}: ", synonym.text, sep="", markup=False)
        for definition in concept.definitions:
            console.print(definition.text, markup=False)
        for relation in read.relations_of(concept.concept_id):
            console.print(f"  {relation.predicate.words} {read[relation.object].name}", markup=False)
        for relation in read.relations_to(concept.concept_id):
            console.print(f"  {read[relation.subject].name} {relation.predicate.words} this", markup=False)


def check(*, folder: Path | None = None, labels: Path | None = None, tidy: bool = False) -> None:
    """Check the handbook: its schema, its targets, its relations, its wording, and the labels it covers.

    Args:
        folder: folder of a handbook (default: the one that ships with Vesalius).
        labels: table of labels that should resolve: label, datasets.
        tidy: sort the files and order their keys first.
    """
    from vesalius.errors import InputError
    from vesalius.knowledge.handbook.check import check_all
    from vesalius.knowledge.handbook.files import handbook_files, shipped
    from vesalius.knowledge.handbook.files import tidy as put_in_order

    where = folder or shipped()
    if tidy:
        for path in handbook_files(where):
            if put_in_order(path):
                print(f"put in order: {path}")
    outcome = check_all(where, labels=labels)
    for problem in outcome.problems:
        print(f"{problem.where}: {problem.what}")
    for line in outcome.summary:
        print(line)
    if outcome.problems:
        raise InputError(
            f"{len(outcome.problems)} problems in the handbook", where=where, remedy="they are listed above"
        )


COMMANDS = {"build": build, "show": show, "check": check}
