"""What the training benchmark is made of: cases, their sides, and the goals they are held to.

A case is a piece of work, done by two or more sides: the published form, ours, ours in bf16, … `training.py` measures the
sides of a case in turn (A B C A B C …), each time in a fresh process that does nothing else:

    prepare(context)   not timed; what it leaves in memory counts as idle
    outcome()          once per side, in its first process: what all sides must agree on, worked out without changing anything
    step()             `warmups` times, then `steps` times by the clock

A module that has cases holds them in ``CASES: tuple[Case, ...]`` and stands in ``MODULES`` of `training.py`. Sides are found again
by name in the new process, so `prepare` may be any function; it must be a pure function of its context, with its own fixed seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where a side runs.

    Attributes:
        device: what it computes on.
        cache: a folder that all sides of a run share, for data that is costly to make; what makes much garbage should be made in a
            process of its own, or its memory is counted.
        quick: whether sizes should be small: a side of a quick run should take seconds.
        rank: of this process.
        num_processes: how many do the side together; their process group is set up already where there are several.
    """

    device: torch.device
    cache: Path
    quick: bool = False
    rank: int = 0
    num_processes: int = 1


@dataclass(kw_only=True)
class Work:
    """A side that is ready to start.

    Attributes:
        step: does the work once.
        units: how many of the case's units a step does, over all processes.
        flops: floating-point operations that a step cannot do without (a multiplication and an addition are two); 0: not counted.
        outcome: gives named tensors on which the sides must agree; None takes no part in the comparison.
        numbers: gives further numbers by name, after the last step; medians over processes are reported.
    """

    step: Callable[[], object]
    units: float = 1.0
    flops: float = 0.0
    outcome: Callable[[], Mapping[str, Tensor]] | None = None
    numbers: Callable[[], Mapping[str, float]] | None = None


@dataclass(frozen=True, kw_only=True)
class Side:
    """One way to do the work of a case.

    Attributes:
        prepare: makes it ready.
        processes: how many do it together; each has its share of the threads.
        devices: types of device that it can run on.
    """

    prepare: Callable[[Context], Work]
    processes: int = 1
    devices: tuple[str, ...] = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the processes of one side gave; medians.

    Attributes:
        seconds: of a step.
        fastest: of all steps, seconds.
        slowest: of all steps, seconds.
        units: as in `Work`.
        flops: as in `Work`.
        peak_mb: most memory that the process held while it did its steps (of several processes: the sum), 10⁶ bytes.
        idle_mb: memory it held when it was ready to start.
        device_mb: most memory allocated on a GPU; 0 on a CPU.
        numbers: as in `Work`.
    """

    seconds: float
    fastest: float
    slowest: float
    units: float
    flops: float
    peak_mb: float
    idle_mb: float
    device_mb: float
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds

    @property
    def memory_mb(self) -> float:
        """Peak memory: on a GPU that of the GPU, otherwise that of the process."""
        return self.device_mb or self.peak_mb


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A number that is held to a limit; one row of the page's first table.

    Attributes:
        work: what is done, as the table says it.
        says: the goal, as the table says it.
        value: the number, from what was measured of each side of the case.
        at_least: the least it may be.
        at_most: the most it may be.
        shows: format of the number.
        full_size: whether the goal means full size only: a quick run shows the number but does not judge it.
    """

    work: str
    says: str
    value: Callable[[Mapping[str, Measured]], float]
    at_least: float | None = None
    at_most: float | None = None
    shows: str = "{:.2f}×"
    full_size: bool = True

    def is_met(self, value: float) -> bool:
        """Whether `value` is within the limits."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A piece of work and those who do it.

    Attributes:
        name: short, for ``--only``.
        title: heading of its table.
        sides: by name, in the order they are measured; the first one's outcome is what the others' must equal.
        goals: what they are held to.
        unit: what `Work.units` counts.
        note: what a reader must know.
        tolerance: most that an outcome may differ from the first side's, relative: of the Euclidean norms and of the largest entries.
        repeats: processes a side.
        warmups: steps that are not timed, in each process.
        steps: steps that are timed, in each process.
        quick: whether a quick run includes it.
    """

    name: str
    title: str
    sides: Mapping[str, Side]
    goals: tuple[Goal, ...] = ()
    unit: str = "steps"
    note: str = ""
    tolerance: float = 1e-5
    repeats: int = 2
    warmups: int = 1
    steps: int = 1
    quick: bool = True


def speed_up(side: str, over: str) -> Callable[[Mapping[str, Measured]], float]:
    """Returns what gives the units a second of `side` as a multiple of those of `over`."""
    return lambda measured: measured[side].rate / measured[over].rate


def memory_share(side: str, of: str) -> Callable[[Mapping[str, Measured]], float]:
    """Returns what gives the peak memory of `side` as a multiple of that of `of`."""
    return lambda measured: measured[side].memory_mb / measured[of].memory_mb


def flops_share(side: str, of: str) -> Callable[[Mapping[str, Measured]], float]:
    """Returns what gives the FLOP/s of `side` as a share of the peak: of the fastest step of `of`."""
    return lambda measured: (
        (measured[side].flops / measured[side].seconds) / (measured[of].flops / measured[of].fastest)
    )
