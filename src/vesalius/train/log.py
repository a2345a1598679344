"""What a run writes down: metrics, performance, TensorBoard."""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch.utils.tensorboard import SummaryWriter

from vesalius.folder import write_text
from vesalius.train.processes import Processes
from vesalius.train.progress import progress_bar

METRICS = "metrics.jsonl"
PERFORMANCE = "performance.jsonl"


class RunLog:
    """Writes ``metrics.jsonl`` (what depends on the seed alone), ``performance.jsonl`` (time, memory), TensorBoard; moves a bar.

    Only the first process writes and shows anything.

    Args:
        folder: the run folder.
        name: what is going on, for the bar.
        step: steps that count; lines of later ones, from a run that was stopped, are cut off.
        num_steps: steps there will be.
        processes: who trains with this one.
    """

    def __init__(self, folder: Path, *, name: str, step: int, num_steps: int, processes: Processes) -> None:
        self._stack = ExitStack()
        self._files: dict[str, IO[str]] = {}
        self._line: dict[str, float] = {}
        if not processes.is_first:
            return
        for file in (METRICS, PERFORMANCE):
            _cut_back(folder / file, step)
            self._files[file] = self._stack.enter_context((folder / file).open("a", encoding="utf-8"))
        self._events = SummaryWriter(log_dir=str(folder / "events"), purge_step=step + 1)
        self._stack.callback(self._events.close)
        self._advance = self._stack.enter_context(progress_bar(name, total=num_steps, done=step))

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Writes what a step or a validation gave."""
        self._write(METRICS, step, values)
        self._line |= values

    def performance(self, step: int, values: Mapping[str, float]) -> None:
        """Writes what a step cost and moves the bar; `step` is done."""
        self._write(PERFORMANCE, step, values)
        if self._files:
            self._advance(1, below=_in_short({**self._line, **values}))

    def say(self, *lines: str) -> None:
        """Shows lines above the bar."""
        for line in lines if self._files else ():
            self._advance(0, above=line)

    def _write(self, name: str, step: int, values: Mapping[str, float]) -> None:
        if not self._files:
            return
        self._files[name].write(json.dumps({"step": step, **values}) + "\n")
        self._files[name].flush()
        prefix = "performance/" if name == PERFORMANCE else ""
        for key, value in values.items():
            self._events.add_scalar(f"{prefix}{key}", value, step)


def _in_short(values: Mapping[str, float]) -> str:
    """Returns what a person watches, in a line."""
    memory = values.get("gpu_memory_mb", values["peak_memory_mb"]) / 1e3
    return (
        f"loss {values['loss']:.3f}  lr {values['lr']:.1e}  scale {values.get('logit_scale', 0):.1f}  "
        f"{values['examples_per_s']:.3g} examples/s  data wait {values['data_share']:.1%}  {memory:.1f} GB"
    )


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What a step cost this process.

    Attributes:
        step_s: time from drawing the batch to updated weights.
        data_s: of that, time waiting for the batch.
        num_examples: examples of the batch that are this process's.
    """

    step_s: float
    data_s: float
    num_examples: int

    def over(self, processes: Processes, *, stop: bool) -> tuple[dict[str, float], bool]:
        """Returns what the step cost all processes, and whether any of them is to stop.

        Times and memory are those of the process that has most of them; ``gpu_memory_mb`` is there where a GPU is.
        """
        on_gpu = processes.device.type == "cuda"
        gpu_mb = torch.cuda.max_memory_allocated(processes.device) / 1e6 if on_gpu else 0.0
        table = processes.table([
            self.step_s, self.data_s, peak_memory_mb(), gpu_mb, float(self.num_examples), float(stop),
        ])  # fmt: skip
        step_s, data_s, memory_mb, gpu_mb, _, stops = table.max(dim=0).values.tolist()
        values = {
            "step_s": step_s,
            "data_s": data_s,
            "data_share": data_s / step_s,
            "examples_per_s": float(table[:, 4].sum()) / step_s,
            "peak_memory_mb": memory_mb,
            **({"gpu_memory_mb": gpu_mb} if on_gpu else {}),
        }
        return values, bool(stops)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Returns the lines of a run's ``metrics.jsonl``; none where there is no such file."""
    path = folder / METRICS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def peak_memory_mb() -> float:
    """Returns the process's peak resident memory in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def _cut_back(path: Path, step: int) -> None:
    """Drops the lines beyond `step`, and what was not finished, or not written to disk when the machine went down."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        if not line.endswith("\n") or not _step_of(line) <= step:
            break
        kept.append(line)
    write_text(path, "".join(kept))


def _step_of(line: str) -> float:
    """Returns the step of a line; NaN where it is no line of ours."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.nan
