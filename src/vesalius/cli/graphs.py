"""Graphs as the terminal shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from vesalius.knowledge.concept import Concept, Scope
from vesalius.knowledge.diff import Change, Changed
from vesalius.knowledge.handbook.entry import OPPOSITES, SYMMETRIC
from vesalius.knowledge.predicates import words
from vesalius.knowledge.stats import GraphStats
from vesalius.knowledge.stored import DrawnRelation, StoredGraph

MOST_COLUMNS = 6
"""Sources that fit beside each other; of more, only the sum is shown."""

_BACKWARD = {
    **OPPOSITES,
    **{kept: derived for derived, kept in OPPOSITES.items()},
    **{predicate: predicate for predicate in SYMMETRIC},
}
"""Predicate → what the object says of the subject where the subject says it of the object."""

_ORDER = {
    predicate: place
    for place, predicate in enumerate((
        "is_a", "part_of", "is_a_or_part_of", "contains", "has_part", "left_of", "right_of", "superior_to", "inferior_to",
        "anterior_to", "posterior_to", "adjacent_to", "continuous_with", "mirror_of", "next_in_series",
    ))
}  # fmt: skip
"""Predicate → its place among the lines about a concept; the others follow."""

_HEADS = {
    "is_a": "its kinds", "part_of": "its parts", "is_a_or_part_of": "its kinds or parts", "next_in_series": "follows in its series",
}  # fmt: skip
"""Predicate → what a line is called that lists the subjects, where "… lies left of it" would read badly."""


def print_built(console: Console, details: Mapping[str, Any]) -> None:
    """Prints the details of a graph's manifest: rows per source, what was joined, what was left out."""
    print_counts(console, details["counts"])
    merged = details["merged"]
    said = [
        (f"{merged['tied_by_xref']:,} concepts joined by xref, {merged['tied_by_name']:,} by name", True),
        (f"{merged['obsolete']:,} obsolete ids, {merged['replaced']:,} of them replaced", merged["obsolete"]),
        (
            f"{merged['conflicts']:,} ties that would have joined what must stay apart: conflicts.parquet",
            merged["conflicts"],
        ),
        (f"{merged['foreign']:,} relations to concepts of ontologies that were not given", merged["foreign"]),
        (f"{merged['rejects']:,} rows refused: rejects.parquet", merged["rejects"]),
    ]
    for line, is_said in said:
        if is_said:
            console.print(line, highlight=False)
    for source in details["excluded"]:
        console.print(
            f"left out for its licence: {source['name']} ({source['licence']})", highlight=False, markup=False
        )


def print_counts(console: Console, counts: Mapping[str, Mapping[str, int]]) -> None:
    """Prints source → table → number of rows, with the sum where there are several sources."""
    kinds = ("concepts", "synonyms", "definitions", "relations", "xrefs")
    table = Table("source", show_footer=len(counts) > 1)
    table.columns[0].footer = "all"
    for kind in kinds:
        table.add_column(kind, justify="right", footer=f"{sum(found[kind] for found in counts.values()):,}")
    for source, found in counts.items():
        table.add_row(source, *(f"{found[kind]:,}" for kind in kinds))
    console.print(table)


def print_stats(console: Console, stats: GraphStats, *, most: int) -> None:
    """Prints the counts of a graph: by source, by scope, by predicate (the `most` frequent), conflicts and rejects."""
    print_counts(console, stats.counts)
    _print_crossed(console, "synonyms", stats.scopes, [str(scope) for scope in Scope])
    sources = [source for source in stats.counts if any(source in found for found in stats.predicates.values())]
    table = Table("predicate", *(sources if len(sources) <= MOST_COLUMNS else []), "all")
    for column in table.columns[1:]:
        column.justify = "right"
    for predicate, found in list(stats.predicates.items())[:most]:
        parts = [f"{found.get(source, 0):,}" for source in sources] if len(sources) <= MOST_COLUMNS else []
        table.add_row(predicate, *parts, f"{sum(found.values()):,}")
    console.print(table)
    if len(stats.predicates) > most:
        console.print(f"… and {len(stats.predicates) - most:,} more predicates", style="dim", highlight=False)
    for kind, num in sorted(stats.conflicts.items()):
        console.print(f"conflict, {kind}: {num:,}", highlight=False)
    if stats.rejects:
        console.print(f"rejected rows: {stats.rejects:,}", highlight=False)


def print_concept(console: Console, graph: StoredGraph, concept: Concept, *, most: int) -> None:
    """Prints a concept: names by scope, definitions with their source, relations from it and to it, `most` of each kind.

    A relation to it is left out where the concept itself says the same: what lies left of it, it lies right of.
    """
    console.print(
        Text.assemble((concept.name, "bold"), "  ", (concept.concept_id, "cyan"), "  ", (concept.source, "dim"))
    )
    lines = Table.grid(padding=(0, 2), expand=False)
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    for scope in Scope:
        texts = [synonym.text for synonym in concept.synonyms if synonym.scope is scope]
        if texts:
            lines.add_row(f"  {scope}", Text("; ".join(texts)))
    origins = [" ".join([definition.source, *definition.references]) for definition in concept.definitions]
    for index, (definition, origin) in enumerate(zip(concept.definitions, origins, strict=True)):
        said = Text(definition.text)
        if origins[index + 1 : index + 2] != [origin]:
            said.append(f"  {origin}", style="dim")
        lines.add_row("" if index else "  definition", said)
    if concept.xrefs:
        lines.add_row("  elsewhere", Text(", ".join(xref.target for xref in concept.xrefs)))
    forward = graph.relations_of([concept.concept_id])
    told = {(str(drawn.relation.predicate), drawn.relation.object) for drawn in forward}
    for predicate, others in _grouped(forward, forward=True).items():
        lines.add_row(f"  {words(predicate)}", _listed(others, most))
    backward = [
        drawn
        for drawn in graph.relations_to([concept.concept_id])
        if (_BACKWARD.get(str(drawn.relation.predicate)), drawn.relation.subject) not in told
    ]
    for predicate, others in _grouped(backward, forward=False).items():
        lines.add_row(f"  {_HEADS.get(predicate, f'… {words(predicate)} it')}", _listed(others, most))
    console.print(lines)
    console.print()


def print_changes(console: Console, changes: Sequence[Changed]) -> None:
    """Prints what changed, one row a table."""
    table = Table("", *(Column(name, justify="right") for name in ("added", "removed", "renamed")))
    for changed in changes:
        table.add_row(changed.table, f"{changed.added:,}", f"{changed.removed:,}", f"{changed.renamed:,}")
    console.print(table)


def print_details(console: Console, details: Iterable[tuple[Change, str, tuple[Any, ...]]]) -> None:
    """Prints every change on a line: + added, - removed, ~ renamed."""
    signs = {"added": ("+", "green"), "removed": ("-", "red"), "renamed": ("~", "yellow")}
    for change, table, row in details:
        sign, style = signs[change]
        said = " → ".join((f"{row[0]} {row[1]}", str(row[2]))) if change == "renamed" else "  ".join(map(str, row))
        console.print(Text(f"{sign} {table[:-1]}  {said}", style=style), soft_wrap=True)


def _print_crossed(
    console: Console, title: str, counts: Mapping[str, Mapping[str, int]], columns: Sequence[str]
) -> None:
    table = Table(title, *(Column(name, justify="right") for name in columns))
    for source, found in counts.items():
        table.add_row(source, *(f"{found.get(name, 0):,}" for name in columns))
    console.print(table)


def _grouped(relations: Sequence[DrawnRelation], *, forward: bool) -> dict[str, list[str]]:
    """Returns predicate → names at the other end: kind and whole first, then place, then the rest; names in order."""
    grouped: dict[str, set[str]] = {}
    for drawn in relations:
        name = drawn.object_name if forward else drawn.subject_name
        grouped.setdefault(str(drawn.relation.predicate), set()).add(name)
    order = sorted(grouped, key=lambda predicate: (_ORDER.get(predicate, len(_ORDER)), predicate))
    return {predicate: sorted(_sides_together(grouped[predicate]), key=str.lower) for predicate in order}


def _sides_together(names: set[str]) -> set[str]:
    """Returns `names` with "left rib" and "right rib" as one: "rib (left, right)"."""
    paired = {name.removeprefix("left ") for name in names if name.startswith("left ")}
    paired = {name for name in paired if f"right {name}" in names}
    sides = {f"{side} {name}" for name in paired for side in ("left", "right")}
    return (names - sides - paired) | {f"{name} (left, right)" for name in paired}


def _listed(names: Sequence[str], most: int) -> Text:
    said = Text("; ".join(names[:most]))
    if len(names) > most:
        said.append(f"; and {len(names) - most:,} more", style="dim")
    return said
