"""`vesalius knowledge export`."""

from __future__ import annotations

from pathlib import Path

import tyro


def export(graph: tyro.conf.Positional[Path], /, *, format: str, out: Path) -> None:
    """Write a graph in a format that others read.

    kgx: nodes.tsv and edges.tsv in the words of the Biolink model. sat: the four files that SAT-Pretrain's trainer reads.
    sentence-pairs: JSON lines of text pairs for any trainer. Beside the data lie a manifest and the licences of the sources.

    Args:
        graph: graph folder.
        format: kgx, sat or sentence-pairs.
        out: folder to write; an earlier export there is replaced.
    """
    from rich.console import Console
    from rich.table import Table

    from vesalius.knowledge.export import format_named
    from vesalius.train.progress import progress_bar

    chosen = format_named(format)
    with progress_bar(f"Export: {format}", total=chosen.num_files) as advance:
        num_rows = chosen.write(graph, out, advance=lambda file: advance(1, note=file))
    table = Table("file", "rows")
    for file, num in num_rows.items():
        table.add_row(file, f"{num:,}")
    Console().print(table)
    print(f"export: {out}")
