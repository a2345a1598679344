"""Checkpoints: everything a run needs to go on as if it had never stopped, written beside training."""

from __future__ import annotations

import os
import pickle
import time
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vesalius.errors import FolderError
from vesalius.folder import writing
from vesalius.train.processes import Processes

BEST = "best.pt"
STATE_KEYS = {"step", "best", "model", "optimiser", "stage", "random"}

_DAMAGE = (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile)
"""What reading a file that is truncated, overwritten or no checkpoint raises."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What became of a checkpoint that was handed over.

    Attributes:
        path: the file.
        seconds: how long it took to write.
        error: why it could not be written; None where it was.
    """

    path: Path
    seconds: float
    error: str | None


class Checkpoints:
    """The checkpoints of a run folder: the last few, and the best.

    A state is copied to memory and written by a thread while training goes on; at most two copies wait. A file is whole or not
    there, and older ones are removed only behind it. The first process writes; all read, so that every process has to see the folder.

    Args:
        folder: ``checkpoints`` of a run; made where it is missing.
        keep_last: how many of the last states are kept.
        processes: who trains with this one.

    Attributes:
        folder: where they lie.
    """

    def __init__(self, folder: Path, *, keep_last: int = 2, processes: Processes | None = None) -> None:
        self.folder = folder
        self._keep_last = keep_last
        self._processes = processes or Processes()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._waiting: list[Future[Written]] = []
        self._failed: dict[str, Written] = {}

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown()

    def save(self, state: dict[str, Any], *, step: int) -> None:
        """Hands over the state after `step` steps."""
        self._hand_over(self.folder / f"step-{step:08d}.pt", state)

    def save_best(self, model: dict[str, Any], *, step: int, score: float) -> None:
        """Hands over the weights that validation liked best so far."""
        self._hand_over(self.folder / BEST, {"model": model, "step": step, "score": score})

    def written(self) -> list[Written]:
        """Returns what became of the files handed over, once for each."""
        done = [future for future in self._waiting if future.done()]
        self._waiting = [future for future in self._waiting if future not in done]
        return [self._noted(future.result()) for future in done]

    def finish(self) -> None:
        """Waits for all files.

        Raises:
            FolderError: the last state, or the best weights, could not be written.
        """
        for future in self._waiting:
            self._noted(future.result())
        self._waiting = []
        if self._failed:
            failed = next(iter(self._failed.values()))
            raise FolderError(
                f"could not be written ({failed.error})",
                where=failed.path,
                remedy="make room; the same command goes on from the checkpoint before",
            )

    def load_last(self) -> tuple[dict[str, Any] | None, list[Path]]:
        """Returns the newest state that can be read (None: there is none), and the damaged files passed over.

        Raises:
            FolderError: a process cannot read what the first one can.
        """
        found: dict[str, Any] = {}

        def newest() -> tuple[Path | None, list[Path]]:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left_over in self.folder.glob(".*.pt.*"):  # by a process that was killed while it wrote
                left_over.unlink()
            damaged = []
            for path in reversed(_steps(self.folder)):
                state = _read(path)
                if state is not None and state.keys() >= STATE_KEYS:
                    found.update(state)
                    return path, damaged
                damaged.append(path)
            return None, damaged

        path, damaged = self._processes.from_first(newest)
        if path is None:
            return None, damaged
        state = found or _read(path)
        if state is None:
            raise FolderError(
                "cannot be read by every process", where=path, remedy="give a run folder that all machines share"
            )
        return state, damaged

    def load_best(self) -> tuple[dict[str, Any], int]:
        """Returns the weights that validation liked best, and their step.

        Raises:
            FolderError: they are missing or damaged.
        """
        path = self.folder / BEST
        best = _read(path)
        if best is None or best.keys() != {"model", "step", "score"}:
            raise FolderError(
                "missing or damaged",
                where=path,
                remedy="remove the run folder and train again, or set keep to last in a new run",
            )
        return best["model"], best["step"]

    def best_score(self) -> float | None:
        """Returns the score of the best weights that are stored; None where there are none that can be read."""
        best = _read(self.folder / BEST)
        return None if best is None else best.get("score")

    def _hand_over(self, path: Path, content: dict[str, Any]) -> None:
        if not self._processes.is_first:
            return
        unfinished = [future for future in self._waiting if not future.done()]
        if len(unfinished) > 1:
            unfinished[0].result()
        self._waiting.append(self._writer.submit(self._write, path, copied(content)))

    def _write(self, path: Path, content: dict[str, Any]) -> Written:
        began = time.perf_counter()
        try:
            with writing(path) as temporary, temporary.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            if path.name != BEST:
                self._remove_others(path)
        except (FolderError, OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError on a full disk
            told = error.__cause__ if isinstance(error, FolderError) and error.__cause__ else error
            reason = str(told).splitlines() or [type(told).__name__]
            return Written(path=path, seconds=time.perf_counter() - began, error=reason[0])
        return Written(path=path, seconds=time.perf_counter() - began, error=None)

    def _remove_others(self, newest: Path) -> None:
        """Keeps the last files up to `newest`; later ones were damaged, or training would not have come from before them."""
        kept = [path for path in _steps(self.folder) if path <= newest][-self._keep_last :]
        for path in _steps(self.folder):
            if path not in kept:
                path.unlink()

    def _noted(self, written: Written) -> Written:
        kind = "best" if written.path.name == BEST else "last"
        self._failed.pop(kind, None)
        if written.error is not None:
            self._failed[kind] = written
        return written


def copied(value: Any) -> Any:
    """Returns nested dicts, lists and tuples with every tensor as a copy in main memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value


def _steps(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"))


def _read(path: Path) -> dict[str, Any] | None:
    """Returns the content of a checkpoint, or None where it is missing or damaged, be it by a single byte."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # torch.load itself does not look at the checksums
                return None
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE:
        return None
    return content if isinstance(content, dict) else None
