"""Tables of results as the terminal shows them."""

from __future__ import annotations

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
