"""What a person sees while waiting."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


@runtime_checkable
class Advance(Protocol):
    """Moves a progress bar on."""

    def __call__(self, amount: int = 1, /, *, note: str = "") -> None:
        """Adds `amount` units; `note` is shown beside the bar."""


class _RateColumn(ProgressColumn):
    """How many units are done in a second, or in a minute where it is less than one."""

    def render(self, task: Task) -> Text:
        """Returns nothing until the first units are done."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{60 * speed:.1f}/min")


@contextlib.contextmanager
def progress_bar(description: str, *, total: int, done: int = 0, console: Console | None = None) -> Iterator[Advance]:
    """Shows a bar with share, time spent, rate and time left on stderr; yields what moves it.

    Args:
        description: what is going on, in a few words.
        total: units to do.
        done: units done already, by an earlier call.
        console: where to show it; None takes stderr.
    """
    columns = (
        TextColumn("{task.description:<24}"), BarColumn(bar_width=14), TaskProgressColumn(), TimeElapsedColumn(),
        _RateColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}", style="dim"),
    )  # fmt: skip
    with Progress(*columns, console=console or Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, completed=done, note="")

        def advance(amount: int = 1, /, *, note: str = "") -> None:
            progress.update(task, advance=amount, note=note)

        yield advance


def say(text: str) -> None:
    """Prints a line to stderr, wrapped to the terminal."""
    Console(stderr=True, highlight=False).print(text, markup=False)
