"""Where training runs: processes, device, precision, random state."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

from vesalius.errors import SettingError
from vesalius.train.processes import Processes

Precision = Literal["32-true", "bf16-mixed"]

NUM_SEEDS = 2**32
"""Seeds that all random generators take: those from 0."""

TIMEOUT = timedelta(hours=2)
"""How long a process waits for the others: longer than the first one validates."""


class Engine:
    """One process on one device, alone or with others that ``torchrun`` or ``srun`` started beside it.

    Fabric finds the device, opens the process group (gloo on CPU, NCCL on GPU) and sets the precision. No module is wrapped: a
    loss over a whole batch needs gathered embeddings, see `Processes`.

    Args:
        accelerator: ``auto`` takes a GPU where there is one.
        precision: ``bf16-mixed`` for GPUs; parameters and losses stay in fp32 either way. bf16 has the range of fp32, so that
            gradients need no scaling.
        seed: of every random state.

    Raises:
        SettingError: what started the processes does not say how many run on a machine, or there are fewer GPUs.
    """

    def __init__(self, *, accelerator: str = "auto", precision: Precision = "32-true", seed: int = 0) -> None:
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        launch = _launch()
        if launch.num > 1 and accelerator != "cpu" and 0 < torch.cuda.device_count() < launch.num_here:
            raise SettingError(
                f"{launch.num_here} processes on this machine, but {torch.cuda.device_count()} visible GPUs",
                remedy="start one process a GPU, and let each process see all of them (SLURM: --gres=gpu:N)",
            )
        self._fabric = Fabric(
            accelerator=accelerator,
            devices=launch.num_here,
            num_nodes=launch.num // launch.num_here,
            strategy=DDPStrategy(timeout=TIMEOUT) if launch.num > 1 else "auto",
            precision=precision,
            plugins=[launch.environment],
        )
        self._fabric.launch()
        self._fabric.seed_everything(seed, verbose=False)
        self.processes = Processes(rank=self._fabric.global_rank, num=launch.num, device=self.device)

    @property
    def device(self) -> torch.device:
        """The device everything is computed on."""
        return self._fabric.device

    def autocast(self) -> AbstractContextManager[Any]:
        """Returns the context to compute a loss in."""
        return self._fabric.autocast()

    def random_states(self) -> list[dict[str, Any]]:
        """Returns the states of all global random generators, a dict a process, of types that ``torch.load`` trusts."""
        return self.processes.gather_objects(_random_states(self.device))

    def restore_random_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Sets the global random generators to what `random_states` returned; a process more than there were takes another's."""
        _restore_random_states(states[self.processes.rank % len(states)], self.device)


def is_first_process() -> bool:
    """Returns whether this process is the one that speaks, of those that a launcher started together."""
    return _launch().environment.global_rank() == 0


@dataclass(frozen=True, kw_only=True)
class _Launch:
    """What started this process: how many there are, and how many on this machine."""

    environment: ClusterEnvironment
    num: int
    num_here: int


def _launch() -> _Launch:
    if torch.distributed.is_torchelastic_launched():
        num_here = int(os.environ["LOCAL_WORLD_SIZE"])
        return _Launch(environment=TorchElasticEnvironment(), num=int(os.environ["WORLD_SIZE"]), num_here=num_here)
    num = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))  # set by srun; a batch script that calls us itself has none
    if num == 1:
        return _Launch(environment=LightningEnvironment(), num=1, num_here=1)
    num_here = int(os.environ.get("SLURM_NTASKS_PER_NODE", "0"))
    if num_here < 1 or num_here * int(os.environ.get("SLURM_STEP_NUM_NODES", "1")) != num:
        raise SettingError(
            f"srun started {num} processes, but not as many on each machine as --ntasks-per-node says",
            remedy="give --nodes and --ntasks-per-node, and no --ntasks",
        )
    return _Launch(environment=SLURMEnvironment(auto_requeue=False), num=num, num_here=num_here)


def _random_states(device: torch.device) -> dict[str, Any]:
    version, internal, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [
            kind,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def _restore_random_states(states: dict[str, Any], device: torch.device) -> None:
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], device)
