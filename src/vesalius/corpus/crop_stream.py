"""The crops of stage 2, step after step, drawn ahead by worker processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker, util
from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from vesalius.corpus.batch import RegionCrop
from vesalius.corpus.crops import CropSampler
from vesalius.errors import InputError, SettingError, VesaliusError

NUM_AHEAD = 2
"""Crops a worker holds ready."""

_NOTHING = -1
_REAP_S = 2.0
"""How long it may take until a worker that was killed is seen to be gone."""

_SIGNALS = {signal.SIGTERM, signal.SIGUSR1}
"""What a cluster sends to every process of a job when its time is up."""


class CropStreamState(TypedDict):
    """Where a stream stands."""

    step: int


class CropStream:
    """Gives the crops of each step: of `crops_per_step`, those that are this process's.

    Crop `c` of step `s` is draw number ``s * crops_per_step + c``, and belongs to process ``c mod num_processes``: neither the
    number of processes nor that of workers changes what a step is made of. To go on after a stop is to start at a number.

    Workers are started by forkserver at the first draw (readers hold threads, which a fork would break) and draw
    `NUM_AHEAD` crops each ahead. They do not heed the signals that end a job: this process does, and its workers end with it.

    Args:
        sampler: draws the crops; it is pickled to the workers.
        crops_per_step: crops of a step, of all processes together.
        workers: worker processes of this process; with 0 it draws itself.
        rank: number of this process.
        num_processes: processes that train together.

    Raises:
        SettingError: there are fewer than 0 workers or less than 1 crop a step.
    """

    def __init__(
        self, sampler: CropSampler, *, crops_per_step: int, workers: int = 0, rank: int = 0, num_processes: int = 1
    ) -> None:
        if crops_per_step < 1:
            raise SettingError(f"crops_per_step is {crops_per_step}", remedy="give 1 or more")
        if workers < 0:
            raise SettingError(f"{workers} workers", remedy="give 0 or more")
        assert 0 <= rank < num_processes
        self._sampler = sampler
        self._crops_per_step = crops_per_step
        self._own = range(rank, crops_per_step, num_processes)
        self._workers = workers if self._own else 0
        self._step = 0
        self._places = torch.full((workers, 2), _NOTHING, dtype=torch.int64).share_memory_()
        self._running: Iterator[RegionCrop | _Refused] | None = None

    def state_dict(self) -> CropStreamState:
        """Returns where the stream stands."""
        return CropStreamState(step=self._step)

    def load_state_dict(self, state: CropStreamState) -> None:
        """Goes to where `state` was taken."""
        self.close()
        self._step = state["step"]

    def draw(self) -> list[RegionCrop]:
        """Returns this process's crops of the next step.

        Raises:
            InputError: a crop could not be drawn, or a worker was killed; says which worker, which draw and which case.
        """
        if self._running is None:
            self._running = self._started()
        crops = [self._next(self._running) for _ in self._own]
        self._step += 1
        return crops

    def close(self) -> None:
        """Ends the workers at once, whatever they are at; the next draw starts others."""
        _end(self._places)
        self._running = None

    def _started(self) -> Iterator[RegionCrop | _Refused]:
        drawn = _Draws(self._sampler, self._places)
        numbers = _Numbers(first=self._step * self._crops_per_step, stride=self._crops_per_step, own=self._own)
        if not self._workers:
            return (drawn[number] for number in numbers)
        multiprocessing.set_forkserver_preload([__name__])
        loader = DataLoader(
            drawn, batch_size=None, sampler=numbers, num_workers=self._workers, prefetch_factor=NUM_AHEAD,
            multiprocessing_context="forkserver", generator=torch.Generator(),
            worker_init_fn=partial(_begin, self._places),
        )  # fmt: skip
        # Before multiprocessing waits, at the end of this process, for workers that heed no signal but this one.
        util.Finalize(self, _end, args=(self._places,), exitpriority=10)
        with _held_back():
            return iter(loader)

    def _next(self, running: Iterator[RegionCrop | _Refused]) -> RegionCrop:
        try:
            drawn = next(running)
        except (RuntimeError, EOFError, ConnectionError) as error:
            # The last two: what a killed worker had ready went with it.
            killed = self._killed(str(error)) if self._workers else None
            if killed is None:
                raise
            self.close()
            raise killed from error
        if isinstance(drawn, _Refused):
            self.close()
            raise self._error(drawn.number, f"{drawn.by} cannot draw it: {drawn.what}", remedy=drawn.remedy)
        return drawn

    def _killed(self, message: str) -> InputError | None:
        """Returns what to say of a worker that is gone; None where all are alive."""
        told = re.match(r"DataLoader worker \(pid", message) is not None
        ended = set(map(int, re.findall(r"\d+", message))) if told else set()
        until = time.monotonic() + _REAP_S
        while not told and time.monotonic() < until:
            ended = {process for process, _ in self._places.tolist() if process != _NOTHING and not is_alive(process)}
            told = bool(ended)
            time.sleep(0.05)
        for worker, (process, number) in enumerate(self._places.tolist()):
            if process in ended:
                remedy = "most likely for memory: give fewer workers, more memory, or more shared memory (/dev/shm)"
                return self._error(number, f"worker {worker} (process {process}) was killed", remedy=remedy)
        return (
            InputError(f"a worker ended before its first crop ({message})", remedy="see what it printed")
            if told
            else None
        )

    def _error(self, number: int, what: str, *, remedy: str | None) -> InputError:
        where = "between two crops" if number == _NOTHING else f"crop {number}, of {self._sampler.case_at(number)}"
        return InputError(what, where=where, remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class _Refused:
    """A crop that could not be drawn.

    Attributes:
        number: of the draw.
        by: who tried.
        what: what was wrong, and where.
        remedy: what can be done about it.
    """

    number: int
    by: str
    what: str
    remedy: str | None


class _Numbers(Sampler[int]):
    """The numbers of one process's draws, without end."""

    def __init__(self, *, first: int, stride: int, own: range) -> None:
        self._first = first
        self._stride = stride
        self._own = own

    def __iter__(self) -> Iterator[int]:
        step = self._first
        while True:
            yield from (step + place for place in self._own)
            step += self._stride


class _Draws(Dataset["RegionCrop | _Refused"]):
    """Number → crop. A worker writes down which one it is at, for the error if it should not live to tell."""

    def __init__(self, sampler: CropSampler, places: Tensor) -> None:
        self._sampler = sampler
        self._places = places

    def __getitem__(self, number: int) -> RegionCrop | _Refused:
        worker = get_worker_info()
        if worker is not None:
            self._places[worker.id, 1] = number
        try:
            return self._sampler.draw_at(number)
        except VesaliusError as error:
            by = "this process" if worker is None else f"worker {worker.id} (process {os.getpid()})"
            what = error.what if error.where is None else f"{error.where}: {error.what}"
            return _Refused(number=number, by=by, what=what, remedy=error.remedy)
        except Exception as error:
            raise RuntimeError(f"crop {number}, of {self._sampler.case_at(number)}") from error
        finally:
            if worker is not None:
                self._places[worker.id, 1] = _NOTHING


def _begin(places: Tensor, worker: int) -> None:
    """Is what a worker does first: it says who it is, and ends with the process it works for, however that ends.

    A worker of a forkserver is not that process's child, and may be held up by a disk that gives no answer.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    places[worker, 0] = os.getpid()
    employer = multiprocessing.parent_process()
    assert employer is not None

    def outlive() -> None:
        employer.join()
        os._exit(1)

    threading.Thread(target=outlive, daemon=True).start()


def _end(places: Tensor) -> None:
    for process, _ in places.tolist():
        if process != _NOTHING:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    places.fill_(_NOTHING)


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Lets the signals that end a job wait; a forkserver that is started meanwhile never heeds them."""
    resource_tracker.ensure_running()  # it would lift the block when the forkserver asks for it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_alive(process: int) -> bool:
    """Returns whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
