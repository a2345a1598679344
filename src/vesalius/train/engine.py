"""Where training runs: device, precision, random state."""

from __future__ import annotations

import random
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric

Precision = Literal["32-true", "bf16-mixed"]


class Engine:
    """One process on one device.

    Args:
        accelerator: ``auto`` takes a GPU where there is one.
        precision: ``bf16-mixed`` for GPUs; parameters and losses stay in fp32 either way.
        seed: of every random state.
    """

    def __init__(self, *, accelerator: str = "auto", precision: Precision = "32-true", seed: int = 0) -> None:
        self._fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
        self._fabric.seed_everything(seed, verbose=False)

    @property
    def device(self) -> torch.device:
        """The device everything is computed on."""
        return self._fabric.device

    def autocast(self) -> Any:
        """Returns the context to compute a loss in."""
        return self._fabric.autocast()


def random_states() -> dict[str, Any]:
    """Returns the states of all global random generators, as types that ``torch.load(weights_only=True)`` allows."""
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
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Sets the global random generators to what `random_states` returned."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
