"""The optimiser and its schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from vesalius.errors import SettingError


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """How parameters are updated.

    Attributes:
        learning_rate: peak of the schedule.
        warmup_share: share of the steps over which the learning rate rises linearly; then it falls as a cosine to zero.
        weight_decay: decoupled weight decay (AdamW) of matrices; biases, norms and scales have none.
        max_grad_norm: gradients are scaled down to this norm.
    """

    learning_rate: float
    warmup_share: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        if not 0 < self.learning_rate < math.inf:
            raise SettingError(f"learning_rate is {self.learning_rate}", remedy="give a finite value above 0")
        if not 0 <= self.warmup_share < 1:
            raise SettingError(f"warmup_share is {self.warmup_share}", remedy="give a value from 0 up to 1")
        if not 0 <= self.weight_decay < math.inf:
            raise SettingError(f"weight_decay is {self.weight_decay}", remedy="give a finite value, 0 or more")
        if not self.max_grad_norm > 0:
            raise SettingError(
                f"max_grad_norm is {self.max_grad_norm}", remedy="give a value above 0, .inf for no limit"
            )


def refuse_scale(settings: object, name: str) -> None:
    """Refuses a multiple of the learning rate with which an update would climb.

    Raises:
        SettingError: the field `name` of `settings` is below 0 or not finite.
    """
    scale = getattr(settings, name)
    if not 0 <= scale < math.inf:
        raise SettingError(f"{name} is {scale}", remedy="give a finite value, 0 or more")


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters that share a learning rate.

    Attributes:
        parameters: those that are trained; frozen ones are left out by `make_optimiser`.
        learning_rate_scale: multiplies the schedule.
    """

    parameters: Sequence[nn.Parameter]
    learning_rate_scale: float = 1.0


def make_optimiser(groups: Sequence[ParameterGroup], settings: OptimSettings) -> torch.optim.AdamW:
    """Returns AdamW over the trained parameters of `groups`.

    Raises:
        SettingError: nothing is trained.
    """
    made = []
    for group in groups:
        trained = [parameter for parameter in group.parameters if parameter.requires_grad]
        for decays in (True, False):
            members = [parameter for parameter in trained if (parameter.ndim > 1) is decays]
            if members:
                made.append({
                    "params": members,
                    "weight_decay": settings.weight_decay if decays else 0.0,
                    "scale": group.learning_rate_scale,
                })  # fmt: skip
    if not made:
        raise SettingError("every parameter is frozen", remedy="train at least one layer")
    return torch.optim.AdamW(made, lr=settings.learning_rate)


def set_learning_rate(optimiser: torch.optim.Optimizer, settings: OptimSettings, *, step: int, num_steps: int) -> float:
    """Sets the learning rate of step `step` (from 0) of `num_steps` and returns it, before each group's own scale."""
    num_warmup = max(1, round(settings.warmup_share * num_steps))
    if step < num_warmup:
        share = (step + 1) / num_warmup
    else:
        share = 0.5 * (1 + math.cos(math.pi * (step - num_warmup) / max(1, num_steps - num_warmup)))
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * share * group["scale"]
    return settings.learning_rate * share
