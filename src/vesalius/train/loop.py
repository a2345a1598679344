"""The training loop of both stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vesalius.errors import SettingError, StoppedError
from vesalius.train.checkpoint import Checkpoints
from vesalius.train.config import CHANGEABLE
from vesalius.train.engine import NUM_SEEDS, Engine, Precision
from vesalius.train.log import RunLog
from vesalius.train.optim import OptimSettings
from vesalius.train.signals import StopSignals
from vesalius.train.stage import Stage
from vesalius.train.training import Training


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How long, and how often what.

    Attributes:
        num_steps: optimiser updates.
        validate_every: steps between validations; the last step is always validated.
        checkpoint_every: steps between checkpoints; the last step always has one.
        optim: the optimiser.
        keep: which weights a run ends with: those validation liked best, or the last.
        keep_last: how many of the last checkpoints are kept; the best weights are kept beside them.
        cached_gradients: encode every part of a batch twice, so that a batch needs no more memory than its largest part.
        precision: ``bf16-mixed`` for GPUs; parameters and losses stay in fp32 either way.
        seed: of every draw.
    """

    num_steps: int
    validate_every: int
    checkpoint_every: int = field(metadata=CHANGEABLE)
    optim: OptimSettings
    keep: Literal["best", "last"] = "best"
    keep_last: int = field(default=2, metadata=CHANGEABLE)
    cached_gradients: bool = False
    precision: Precision = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        for name in ("num_steps", "validate_every", "checkpoint_every", "keep_last"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} is {getattr(self, name)}", remedy="give 1 or more")
        if not 0 <= self.seed < NUM_SEEDS:
            raise SettingError(f"seed is {self.seed}", remedy=f"give a number from 0 to {NUM_SEEDS - 1}")


def fit(stage: Stage, settings: LoopSettings, *, run: Path, engine: Engine) -> int:
    """Trains `stage.module`, leaves the chosen weights in it, on the first process, and returns the step they are of.

    Goes on where an earlier call in `run` stopped.

    Raises:
        VesaliusError: the loss or a gradient is not finite, the last state cannot be written, or another process is lost.
        StoppedError: a stop signal came; the state after the step is saved.
    """
    processes, num_steps = engine.processes, settings.num_steps
    training = Training(
        stage, settings.optim, num_steps=num_steps, cached_gradients=settings.cached_gradients, engine=engine
    )
    with (
        StopSignals() as signals,
        Checkpoints(run / "checkpoints", keep_last=settings.keep_last, processes=processes) as checkpoints,
    ):
        start, lines = training.resume(checkpoints)
        with RunLog(run, name=stage.name, step=start, num_steps=num_steps, processes=processes) as log:
            log.say(*lines)
            for step in range(start + 1, num_steps + 1):
                cost = training.update(step, log)
                if step % settings.validate_every == 0 or step == num_steps:
                    training.validate(step, log, checkpoints)
                spent, stop = cost.over(processes, stop=signals.name is not None)
                if step % settings.checkpoint_every == 0 or step == num_steps or stop:
                    spent["checkpoint_s"] = training.save(step, checkpoints)
                log.performance(step, {**spent, **_written(checkpoints, log)})
                if stop and step < num_steps:
                    processes.from_first(checkpoints.finish)
                    raise _stopped(signals, step, engine)
        processes.from_first(checkpoints.finish)
        if settings.keep == "best":
            return processes.from_first(lambda: training.take_best(checkpoints))
        return num_steps


def _written(checkpoints: Checkpoints, log: RunLog) -> dict[str, float]:
    """Says which checkpoints could not be written, and returns how long the last one took that could."""
    seconds = {}
    for written in checkpoints.written():
        if written.error is None:
            seconds["checkpoint_write_s"] = written.seconds
        else:
            log.say(f"{written.path}: could not be written ({written.error}); training goes on, the one before stays")
    return seconds


def _stopped(signals: StopSignals, step: int, engine: Engine) -> StoppedError:
    stopped = StoppedError(
        f"stopped by {signals.obey()} after step {step}, which is saved",
        remedy="the same command goes on from there",
    )
    stopped.is_told = not engine.processes.is_first
    return stopped
