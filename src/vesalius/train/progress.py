"""What a person sees while waiting."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from rich.console import Console, RenderableType
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

    def __call__(self, amount: int = 1, /, *, note: str = "", below: str = "", above: str = "") -> None:
        """Adds `amount` units.

        Args:
            amount: units done since the last call.
            note: a word to show beside the bar.
            below: a line to show below it, until the next one; where no terminal is, it is printed once a minute.
            above: a line to print above it, for good.
        """


PLAIN_EVERY_S = 60
"""Seconds between two lines where no terminal shows the bar, as in a cluster's log."""


class _Bar(Progress):
    """A bar with a line below."""

    below = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Returns the bar, and the line where there is one."""
        yield self.make_tasks_table(self.tasks)
        if self.below:
            yield Text(self.below, style="dim", no_wrap=True, overflow="ellipsis")


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
    with _Bar(*columns, console=console or Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, completed=done, note="")
        printed = time.monotonic()

        def advance(amount: int = 1, /, *, note: str = "", below: str = "", above: str = "") -> None:
            nonlocal printed
            progress.below = below or progress.below
            progress.update(task, advance=amount, note=note)
            if above:
                progress.console.print(above, markup=False, highlight=False, soft_wrap=True)
            if below and not progress.console.is_terminal and time.monotonic() - printed >= PLAIN_EVERY_S:
                printed = time.monotonic()
                done = f"{progress.tasks[0].completed:.0f} of {total}"
                progress.console.print(f"{description}: {done}  {below}", markup=False, highlight=False, soft_wrap=True)

        yield advance


def say(text: str) -> None:
    """Prints a line to stderr, wrapped to the terminal."""
    Console(stderr=True, highlight=False).print(text, markup=False)
