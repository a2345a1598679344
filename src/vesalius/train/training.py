"""A stage, its optimiser and where they stand: what a step does to them, and what a checkpoint holds of them."""

from __future__ import annotations

import math
import time
from typing import Any

from torch import nn

from vesalius.errors import FolderError, VesaliusError
from vesalius.model.aligner import LogitScale
from vesalius.train.checkpoint import Checkpoints
from vesalius.train.engine import Engine
from vesalius.train.log import RunLog, StepCost
from vesalius.train.optim import OptimSettings, make_optimiser, set_learning_rate
from vesalius.train.stage import Stage, add_gradients


class Training:
    """A stage while it is trained.

    Args:
        stage: what is trained; its module is moved to the engine's device, and every process starts with the first one's weights.
        optim: the optimiser.
        num_steps: steps there will be.
        cached_gradients: see `add_gradients`.
        engine: where it runs.
    """

    def __init__(
        self, stage: Stage, optim: OptimSettings, *, num_steps: int, cached_gradients: bool, engine: Engine
    ) -> None:
        stage.module.to(engine.device)
        engine.processes.broadcast(stage.module)
        self._stage = stage
        self._optim = optim
        self._num_steps = num_steps
        self._cached = cached_gradients
        self._engine = engine
        self._optimiser = make_optimiser(stage.parameter_groups(), optim)
        self._trained = [parameter for group in self._optimiser.param_groups for parameter in group["params"]]
        self._scales = [module for module in stage.module.modules() if isinstance(module, LogitScale)]
        self._best = -math.inf

    def resume(self, checkpoints: Checkpoints) -> tuple[int, list[str]]:
        """Goes to where the newest whole checkpoint was taken; returns its step (0 at the start), and what is to be said about it.

        Raises:
            FolderError: it is of another network.
        """
        state, damaged = checkpoints.load_last()
        lines = [f"{path}: damaged checkpoint, passed over for the one before" for path in damaged]
        if state is None:
            return 0, lines
        try:
            self._stage.module.load_state_dict(state["model"])
            self._optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError) as error:
            raise FolderError(
                f"step {state['step']} was saved of another network ({str(error).splitlines()[-1].strip()})",
                where=checkpoints.folder,
                remedy="go on with the encoder and the version it was begun with, or give another --out",
            ) from error
        self._stage.load_state_dict(state["stage"])
        self._engine.restore_random_states(state["random"])
        stored = self._engine.processes.from_first(checkpoints.best_score)
        self._best = min(state["best"], -math.inf if stored is None else stored)
        return state["step"], lines

    def update(self, step: int, log: RunLog) -> StepCost:
        """Takes step `step`, from 1, and returns what it cost.

        Raises:
            VesaliusError: the loss or a gradient is not finite; the weights are those before the step.
        """
        stage, processes, began = self._stage, self._engine.processes, time.perf_counter()
        batch = stage.draw()
        data_s = time.perf_counter() - began
        learning_rate = set_learning_rate(self._optimiser, self._optim, step=step - 1, num_steps=self._num_steps)
        share, values = add_gradients(stage, batch, autocast=self._engine.autocast, cached=self._cached)
        loss = processes.sum(share).item()
        processes.sum_gradients(self._trained)
        grad_norm = nn.utils.clip_grad_norm_(self._trained, self._optim.max_grad_norm).item()
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            raise self._not_finite(batch, step, "gradient" if math.isfinite(loss) else "loss")
        self._optimiser.step()
        for scale in self._scales:
            scale.keep_in_range()
        self._optimiser.zero_grad(set_to_none=True)
        log.metrics(step, {"loss": loss, **values, "lr": learning_rate, "grad_norm": grad_norm})
        return StepCost(step_s=time.perf_counter() - began, data_s=data_s, num_examples=stage.num_examples(batch))

    def validate(self, step: int, log: RunLog, checkpoints: Checkpoints) -> None:
        """Validates on the first process, and hands over the weights where they are the best so far."""
        score, numbers = self._engine.processes.from_first(self._stage.validate)
        log.metrics(step, {f"validation/{name}": number for name, number in numbers.items()})
        if score > self._best:
            self._best = score
            checkpoints.save_best(self._stage.module.state_dict(), step=step, score=score)

    def save(self, step: int, checkpoints: Checkpoints) -> float:
        """Hands over the state after `step` steps; returns for how many seconds training waited."""
        began = time.perf_counter()
        state = {
            "step": step,
            "best": self._best,
            "model": self._stage.module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "stage": self._stage.state_dict(),
            "random": self._engine.random_states(),
        }
        checkpoints.save(state, step=step)
        return time.perf_counter() - began

    def take_best(self, checkpoints: Checkpoints) -> int:
        """Puts the weights that validation liked best into the stage's module, and returns their step."""
        weights, step = checkpoints.load_best()
        self._stage.module.load_state_dict(weights)
        return step

    def _not_finite(self, batch: Any, step: int, what: str) -> VesaliusError:
        """Every process comes here, for what is checked is what all of them have; the first one tells."""
        error = VesaliusError(
            f"the {what} of step {step} is not finite; the batch holds {self._stage.describe(batch)}",
            where=self._stage.name,
            remedy="try a smaller learning rate, a longer warm-up, or precision 32-true in a new run",
        )
        error.is_told = not self._engine.processes.is_first
        return error
