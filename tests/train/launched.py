"""What tests run in processes of their own: started as torchrun starts them, ended as a cluster ends them."""

import errno
import io
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vesalius.cli import main
from vesalius.errors import VesaliusError
from vesalius.ids import ConceptId
from vesalius.knowledge.graph import Graph
from vesalius.model.text_encoder import TextEncoder
from vesalius.train import checkpoint
from vesalius.train.engine import Engine
from vesalius.train.loop import fit
from vesalius.train.processes import Processes
from vesalius.train.regions import RegionSettings, RegionStage
from vesalius.train.stage import Stage, add_gradients
from vesalius.train.text import TextSettings, TextStage
from vesalius.volumes.store import CaseStore


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Makes a stage anew in each process."""

    settings: TextSettings | RegionSettings
    encoder: Path
    graph: Graph
    sides: dict[ConceptId, str]
    cases: CaseStore

    def stage(self, processes: Processes) -> Stage:
        encoder = TextEncoder.load(self.encoder)
        common = {"graph": self.graph, "sides": self.sides, "settings": self.settings, "processes": processes}
        if isinstance(self.settings, TextSettings):
            return TextStage(encoder, **common)
        return RegionStage(encoder, store=self.cases, **common)


def begin(function, arguments, place: dict[str, str], answer) -> None:
    """Runs `function` in a process that was just made and sends what it returns, or the error it raises."""
    torch.set_num_threads(1)
    # A test run in the background hands down that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # So does a forkserver that crops were drawn by before: it holds back what ends a job. No launcher does.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGUSR1})
    os.environ.update(place)
    try:
        answer.send(function(*arguments))
    except VesaliusError as error:
        answer.send(error)
    except Exception:
        answer.send(traceback.format_exc())
        raise


def gradients(plan: Plan, cached: bool, num_batches: int = 2) -> tuple[list[float], dict[str, np.ndarray], Any]:
    """Returns the loss of each batch, the sum of their gradients, and the numbers of the last one."""
    engine = Engine(accelerator="cpu")
    stage, values = plan.stage(engine.processes), {}
    parameters = dict(stage.module.named_parameters())
    losses = []
    for _ in range(num_batches):
        share, values = add_gradients(stage, stage.draw(), autocast=engine.autocast, cached=cached)
        losses.append(engine.processes.sum(share).item())
    engine.processes.sum_gradients([parameter for parameter in parameters.values() if parameter.requires_grad])
    given = {name: value.grad.numpy() for name, value in parameters.items() if value.grad is not None}
    return losses, given, values


def train(plan: Plan, run: Path, end: str = "", at: int = 0) -> dict[str, float]:
    """Trains to the end, or to an end; returns the sum of each parameter that has a gradient.

    Ends are ``draw``, ``exit`` or ``validate`` number `at`, the midst of ``write`` number `at`, or a ``full`` disk at that one.
    """
    engine = Engine(accelerator="cpu", seed=plan.settings.loop.seed)
    stage = plan.stage(engine.processes)
    if end in {"write", "full"}:
        _end_while_writing(end, at)
    elif end and (end != "exit" or engine.processes.rank == 1):
        _end_at(stage, end, at)
    fit(stage, plan.settings.loop, run=run, engine=engine)
    # A bias ahead of a norm is left out: its gradient is rounding alone, and Adam makes a step of it.
    return {
        name: float(parameter.double().sum())
        for name, parameter in stage.module.named_parameters()
        if not name.endswith("conv.bias")
    }


def command(errors: Path, *arguments: str) -> None:
    """Runs a command and ends as it ends; what it says on stderr goes to `errors`."""
    with errors.open("ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.exit(main(arguments))


def laws() -> dict[str, Any]:
    """Returns what each method of two processes gives."""
    processes = Engine(accelerator="cpu").processes
    rank = processes.rank
    features = torch.arange(2.0 * rank).view(-1, 2).requires_grad_()  # the first process has no row
    gathered = processes.gather(features)
    ((1 + rank) * gathered.sum()).backward()
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    if rank == 1:
        parameters[0].grad = torch.ones(2)
    parameters[1].grad = torch.full((2,), float(rank + 1))
    processes.sum_gradients(parameters)
    try:
        processes.from_first(_fail)
    except VesaliusError as error:
        failed = (error.what, error.remedy, error.is_told)
    module = torch.nn.Linear(1, 1)
    module.weight.data.fill_(rank)
    processes.broadcast(module)
    return {
        "gathered": gathered.tolist(),
        "gradient": None if features.grad is None else features.grad.tolist(),
        "objects": processes.gather_objects({"rank": rank}),
        "table": processes.table([rank, 7.0]).tolist(),
        "sum": processes.sum(torch.tensor(rank + 1)).item(),
        "share": processes.share(range(5)),
        "gradients": [None if p.grad is None else p.grad.tolist() for p in parameters],
        "from_first": processes.from_first(lambda: rank),
        "failed": failed,
        "broadcast": module.weight.item(),
    }


def _fail() -> None:
    raise VesaliusError("no room", remedy="make some")


def _end_at(stage: Stage, end: str, at: int) -> None:
    method = "draw" if end == "exit" else end
    call, calls = getattr(stage, method), []

    def counted():
        calls.append(1)
        if len(calls) == at:
            if end == "exit":
                raise VesaliusError("a crop that cannot be read")
            os.kill(os.getpid(), signal.SIGKILL)
        return call()

    setattr(stage, method, counted)


def _end_while_writing(end: str, at: int) -> None:
    """Kills the process half-way through file number `at`, or lets the disk be full for that one."""
    save, calls = torch.save, []

    def half(content, file):
        calls.append(1)
        if len(calls) != at:
            save(content, file)
            return
        whole = io.BytesIO()
        save(content, whole)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()
        if end == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.torch.save = half
