"""The training loop of both stages."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from vesalius.errors import SettingError, VesaliusError
from vesalius.train.checkpoint import Checkpoints
from vesalius.train.engine import Engine, random_states, restore_random_states
from vesalius.train.log import RunLog
from vesalius.train.optim import OptimSettings, make_optimiser, set_learning_rate
from vesalius.train.progress import progress_bar, say
from vesalius.train.stage import Stage, add_gradients


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How long, and how often what.

    Attributes:
        num_steps: optimiser updates.
        validate_every: steps between validations; the last step is always validated.
        checkpoint_every: steps between checkpoints; the last step always has one.
        keep: which weights a run ends with: those validation liked best, or the last.
        optim: the optimiser.
        cached_gradients: encode every part of a batch twice, so that a batch needs no more memory than its largest part.
        seed: of every draw.
    """

    num_steps: int
    validate_every: int
    checkpoint_every: int
    optim: OptimSettings
    keep: Literal["best", "last"] = "best"
    cached_gradients: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        for name in ("num_steps", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} is {getattr(self, name)}", remedy="give 1 or more")


def fit(stage: Stage, settings: LoopSettings, *, run: Path, engine: Engine) -> None:
    """Trains `stage.module` and leaves the chosen weights in it; goes on where an earlier call in `run` stopped.

    Raises:
        VesaliusError: the loss is not finite.
    """
    stage.module.to(engine.device)
    optimiser = make_optimiser(stage.parameter_groups(), settings.optim)
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    checkpoints = Checkpoints(run / "checkpoints")
    start, best = _resume(checkpoints, stage, optimiser)
    log = RunLog(run, step=start)

    with progress_bar(stage.name, total=settings.num_steps, done=start) as advance:
        for step in range(start, settings.num_steps):
            began = time.perf_counter()
            batch = stage.draw()
            drawn = time.perf_counter()
            learning_rate = set_learning_rate(optimiser, settings.optim, step=step, num_steps=settings.num_steps)
            loss, values = add_gradients(stage, batch, autocast=engine.autocast, cached=settings.cached_gradients)
            if not math.isfinite(loss.item()):
                raise _not_finite(stage, batch, step + 1)
            grad_norm = nn.utils.clip_grad_norm_(trained, settings.optim.max_grad_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

            done = step + 1
            log.metrics(done, {"loss": loss.item(), **values, "lr": learning_rate, "grad_norm": float(grad_norm)})
            log.performance(
                done, step_s=time.perf_counter() - began, data_s=drawn - began, num_examples=stage.num_examples(batch)
            )
            advance(1, note=f"loss {loss.item():.3f}")
            if done % settings.validate_every == 0 or done == settings.num_steps:
                score, numbers = stage.validate()
                log.metrics(done, {f"validation/{name}": number for name, number in numbers.items()})
                if settings.keep == "best" and score > best:
                    best = score
                    checkpoints.save_best(stage.module.state_dict())
            if done % settings.checkpoint_every == 0 or done == settings.num_steps:
                checkpoints.save(_state(stage, optimiser, done, best), step=done)
    log.close()
    if settings.keep == "best":
        stage.module.load_state_dict(checkpoints.load_best())


def _state(stage: Stage, optimiser: torch.optim.Optimizer, step: int, best: float) -> dict[str, Any]:
    return {
        "step": step,
        "best": best,
        "model": stage.module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "stage": stage.state_dict(),
        "random": random_states(),
    }


def _resume(checkpoints: Checkpoints, stage: Stage, optimiser: torch.optim.Optimizer) -> tuple[int, float]:
    """Restores the last state and returns its step and its best score; 0 and minus infinity at the start."""
    state, damaged = checkpoints.load_last()
    for path in damaged:
        say(f"{path}: damaged checkpoint, passed over for the one before")
    if state is None:
        return 0, -math.inf
    stage.module.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    stage.load_state_dict(state["stage"])
    restore_random_states(state["random"])
    return state["step"], state["best"]


def _not_finite(stage: Stage, batch: Any, step: int) -> VesaliusError:
    return VesaliusError(
        f"the loss of step {step} is not finite; the batch holds {stage.describe(batch)}",
        where=stage.name,
        remedy="try a smaller learning rate or a longer warm-up",
    )
