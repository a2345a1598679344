"""What a run writes down: metrics, performance, TensorBoard."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from torch.utils.tensorboard import SummaryWriter

from vesalius.folder import write_text

METRICS = "metrics.jsonl"
PERFORMANCE = "performance.jsonl"


class RunLog:
    """Appends to ``metrics.jsonl`` (what depends on the seed alone), ``performance.jsonl`` (time, memory) and TensorBoard.

    Args:
        folder: the run folder.
        step: steps that count; lines of later ones, from a run that was stopped, are cut off.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        for name in (METRICS, PERFORMANCE):
            _cut_back(folder / name, step)
        self._metrics = (folder / METRICS).open("a", encoding="utf-8")
        self._performance = (folder / PERFORMANCE).open("a", encoding="utf-8")
        self._events = SummaryWriter(log_dir=str(folder / "events"), purge_step=step + 1)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Writes what a step or a validation gave."""
        _append(self._metrics, {"step": step, **values})
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def performance(self, step: int, *, step_s: float, data_s: float, num_examples: int) -> None:
        """Writes how long a step took, how long of that it waited for data, and the process's peak memory."""
        values = {
            "step_s": step_s,
            "data_s": data_s,
            "examples_per_s": num_examples / step_s,
            "peak_memory_mb": peak_memory_mb(),
        }
        _append(self._performance, {"step": step, **values})
        for name, value in values.items():
            self._events.add_scalar(f"performance/{name}", value, step)

    def close(self) -> None:
        """Writes out everything."""
        self._metrics.close()
        self._performance.close()
        self._events.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Returns the lines of a run's ``metrics.jsonl``; none where there is no such file."""
    path = folder / METRICS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def peak_memory_mb() -> float:
    """Returns the process's peak resident memory in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def _append(file: IO[str], line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line) + "\n")
    file.flush()


def _cut_back(path: Path, step: int) -> None:
    """Drops the lines beyond `step`, and a last line that was not finished."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    write_text(path, "".join(kept))
