"""Who prepares the cases: this process, a pool of processes on this machine, or a Dask cluster."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from vesalius.errors import InputError, SettingError
from vesalius.volumes.case import SourceCase

Result = TypeVar("Result")
Numbered = tuple[int, SourceCase]

_KILLED = "its process was killed, most likely for memory – give fewer workers, or more memory to each"

_job: Callable[[SourceCase], Any] | None = None
"""What a process of a pool does: sent once a process, not once a case, for it holds the resolver."""


@runtime_checkable
class Workers(Protocol):
    """Does a job for every case."""

    def run(
        self,
        job: Callable[[SourceCase], Result],
        cases: Sequence[Numbered],
        *,
        failed: Callable[[SourceCase, str], Result],
    ) -> Iterator[tuple[int, Result]]:
        """Yields number and result of each case as it is done, in any order.

        Args:
            job: what is done for a case; pickled to other processes.
            cases: the cases and their numbers.
            failed: what the result of a case is whose process did not live to tell.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Here:
    """One case after the other, in this process."""

    def run(
        self,
        job: Callable[[SourceCase], Result],
        cases: Sequence[Numbered],
        *,
        failed: Callable[[SourceCase, str], Result],  # noqa: ARG002  this process tells, or nothing does
    ) -> Iterator[tuple[int, Result]]:
        """Yields number and result of each case, in order."""
        for number, source in cases:
            yield number, job(source)


@dataclass(frozen=True, kw_only=True)
class Processes:
    """A pool of processes of this machine, started by forkserver: readers hold threads, which a fork would break.

    A process that is killed takes the whole pool with it. The cases it may have been at are then done one by one, each
    in a process of its own, so that only the one that cannot be done is lost.

    Attributes:
        num: processes.

    Raises:
        SettingError: `num` is below 1.
    """

    num: int

    def __post_init__(self) -> None:
        if self.num < 1:
            raise SettingError(f"{self.num} workers", remedy="give 1 or more")

    def run(
        self,
        job: Callable[[SourceCase], Result],
        cases: Sequence[Numbered],
        *,
        failed: Callable[[SourceCase, str], Result],
    ) -> Iterator[tuple[int, Result]]:
        """Yields number and result of each case as it is done."""
        waiting = deque(cases)
        while waiting:
            suspects: list[Numbered] = []
            yield from self._until_broken(job, waiting, suspects)
            for number, source in suspects:
                broken: list[Numbered] = []
                yield from Processes(num=1)._until_broken(job, deque([(number, source)]), broken)
                if broken:
                    yield number, failed(source, _KILLED)

    def _until_broken(
        self, job: Callable[[SourceCase], Result], waiting: deque[Numbered], suspects: list[Numbered]
    ) -> Iterator[tuple[int, Result]]:
        """Takes cases from `waiting` until none is left or the pool breaks; then `suspects` are those that were begun."""
        context = multiprocessing.get_context("forkserver")
        running: dict[Future[Result], Numbered] = {}
        with ProcessPoolExecutor(self.num, mp_context=context, initializer=_begin, initargs=(job,)) as pool:
            while waiting or running:
                try:
                    while waiting and len(running) < self.num:
                        running[pool.submit(_work, waiting[0][1])] = waiting[0]
                        waiting.popleft()
                except BrokenProcessPool:
                    suspects += running.values()
                    return
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    number, source = running.pop(future)
                    try:
                        yield number, future.result()
                    except BrokenProcessPool:
                        suspects += [(number, source), *running.values()]
                        return


@dataclass(frozen=True, kw_only=True)
class Dask:
    """The workers of a Dask cluster. They must see the files of the dataset, and the store, under the same paths.

    Attributes:
        address: of the scheduler, e.g. ``tcp://10.0.0.1:8786``.
        timeout_s: how long it may take to answer.
    """

    address: str
    timeout_s: float = 20.0

    def run(
        self,
        job: Callable[[SourceCase], Result],
        cases: Sequence[Numbered],
        *,
        failed: Callable[[SourceCase, str], Result],
    ) -> Iterator[tuple[int, Result]]:
        """Yields number and result of each case as it is done.

        Raises:
            InputError: Dask is not installed, or no scheduler answers.
        """
        try:
            from distributed import Client, KilledWorker, as_completed  # noqa: PLC0415  an extra of its own
        except ImportError as error:
            raise InputError("distributed is not installed", remedy="pip install 'vesalius[cluster]'") from error
        try:
            client = Client(self.address, timeout=self.timeout_s, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"no Dask scheduler answers ({error})", where=self.address, remedy="start one: dask scheduler"
            ) from error
        with client:
            sent = client.scatter(job, broadcast=True, hash=False)
            futures = {client.submit(_apply, sent, source, pure=False): (number, source) for number, source in cases}
            for future in as_completed(list(futures), loop=client.loop):
                number, source = futures.pop(future)
                try:
                    yield number, future.result()
                except KilledWorker:
                    yield number, failed(source, _KILLED)
                future.release()


def workers_of(*, num: int | None, dask: str | None) -> Workers:
    """Returns who does the work: `num` processes, or the cluster at the address `dask`, or this process without either.

    Raises:
        SettingError: both are given, or `num` is below 1.
    """
    if num is not None and dask is not None:
        raise SettingError("both workers and a Dask address", remedy="give one: the cluster has workers of its own")
    if dask is not None:
        return Dask(address=dask)
    return Processes(num=num) if num is not None and num != 1 else Here()


def _begin(job: Callable[[SourceCase], Any]) -> None:
    global _job  # noqa: PLW0603  a process of a pool has nowhere else to keep it
    _job = job


def _work(source: SourceCase) -> Any:
    assert _job is not None
    return _job(source)


def _apply(job: Callable[[SourceCase], Result], source: SourceCase) -> Result:
    return job(source)
