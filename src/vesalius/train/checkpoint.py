"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from vesalius.folder import writing

NUM_KEPT = 2


class Checkpoints:
    """The checkpoints of a run folder: the last two, and the best.

    Args:
        folder: ``checkpoints`` of a run; made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, state: dict[str, Any], *, step: int) -> None:
        """Writes the state after `step` steps, whole or not at all, and removes the oldest."""
        _write(self._folder / f"step-{step:08d}.pt", state)
        for path in self._steps()[:-NUM_KEPT]:
            path.unlink()

    def load_last(self) -> tuple[dict[str, Any] | None, list[Path]]:
        """Returns the newest state that can be read (None: there is none), and the damaged files passed over."""
        damaged = []
        for path in reversed(self._steps()):
            try:
                return torch.load(path, map_location="cpu", weights_only=True), damaged
            except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
                damaged.append(path)
        return None, damaged

    def save_best(self, model: dict[str, Any]) -> None:
        """Writes the weights that validation liked best so far."""
        _write(self._folder / "best.pt", model)

    def load_best(self) -> dict[str, Any]:
        """Returns the weights that validation liked best."""
        return torch.load(self._folder / "best.pt", map_location="cpu", weights_only=True)

    def _steps(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.pt"))


def _write(path: Path, state: dict[str, Any]) -> None:
    with writing(path) as temporary:
        torch.save(state, temporary)
