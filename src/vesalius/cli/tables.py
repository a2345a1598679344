"""Tables of results as the terminal shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def print_retrieval(console: Console, results: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Prints encoder → task → scores, as `report.json` holds them."""
    table = Table("encoder", "task", "R@1", "95 %", "R@5", "R@10", "MRR", title="Held-out concepts")
    for encoder, tasks in results.items():
        for task, scores in tasks.items():
            low, high = scores["recall_at_1_interval"]
            shares = [f"{100 * scores[key]:.1f}" for key in ("recall_at_1", "recall_at_5", "recall_at_10", "mrr")]
            shares.insert(1, f"{100 * low:.0f}–{100 * high:.0f}")
            table.add_row(encoder, task.replace("_to_", " → "), *shares)
    console.print(table)


def print_regions(console: Console, results: dict[str, dict[str, Any]]) -> None:
    """Prints task → scores on the held-out image: all names, seen ones, unseen ones."""
    table = Table("task", "names", "n", "R@1", "R@5", "chance", title="Held-out image")
    for task, scores in results.items():
        for group, found in {
            "all": scores,
            **{key: scores[key] for key in ("seen", "unseen") if key in scores},
        }.items():
            shares = [f"{100 * found[key]:.1f}" for key in ("recall_at_1", "recall_at_5", "chance_at_1")]
            table.add_row(task.replace("_to_", " → "), group, str(found["num"]), *shares)
    console.print(table)


def print_store(
    console: Console,
    groups: Mapping[tuple[str, str, str], tuple[int, int, int]],
    structures: Sequence[tuple[str, str, int, int, tuple[float, float, float]]],
) -> None:
    """Prints (dataset, modality, split) → cases, patients, regions; then the structures."""
    table = Table("dataset", "modality", "split", "cases", "patients", "regions", title="Cases")
    for group, counts in groups.items():
        table.add_row(*group, *(f"{count:,}" for count in counts))
    console.print(table)
    table = Table("structure", "concept", "regions", "cut off", "smallest ml", "median ml", "largest ml")
    for name, key, num, num_cut, volumes_ml in structures:
        table.add_row(name, key, f"{num:,}", f"{num_cut:,}", *(f"{volume:,.2f}" for volume in volumes_ml))
    console.print(table)


def print_agreement(console: Console, results: dict[str, Any]) -> None:
    """Prints how the handbook agrees with scans: a row a kind of statement, then the worst disagreements of each."""
    table = Table("statement", "measured", "agree", "stated alone", "agree", title="The handbook against scans")
    for row in results["table"]:
        shares = [
            f"{100 * row[agree] / row[num]:.1f} %" if row[num] else "–"
            for agree, num in (("agree", "num"), ("agree_stated", "num_stated"))
        ]
        table.add_row(row["kind"], f"{row['num']:,}", shares[0], f"{row['num_stated']:,}", shares[1])
    console.print(table)
    for found in results["disagreements"]:
        console.print(
            f"{found['case_id']}: {found['subject']} {found['kind']} {found['object']}: {found['measured']}",
            markup=False,
        )
