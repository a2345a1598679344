"""Graphs as the terminal shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def print_built(console: Console, details: Mapping[str, Any]) -> None:
    """Prints the details of a graph's manifest: rows per source, what was joined, what was left out."""
    print_counts(console, details["counts"])
    merged = details["merged"]
    said = [
        (f"{merged['tied_by_xref']:,} concepts joined by xref, {merged['tied_by_name']:,} by name", True),
        (f"{merged['obsolete']:,} obsolete ids, {merged['replaced']:,} of them replaced", merged["obsolete"]),
        (f"{merged['conflicts']:,} ties that would have joined what must stay apart: conflicts.parquet", merged["conflicts"]),
        (f"{merged['foreign']:,} relations to concepts of ontologies that were not given", merged["foreign"]),
        (f"{merged['rejects']:,} rows refused: rejects.parquet", merged["rejects"]),
    ]
    for line, is_said in said:
        if is_said:
            console.print(line, highlight=False)
    for source in details["excluded"]:
        console.print(f"left out for its licence: {source['name']} ({source['licence']})", highlight=False, markup=False)


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
