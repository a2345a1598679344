"""What a stage is to the training loop, and the gradients of one of its batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vesalius.train.optim import ParameterGroup


@runtime_checkable
class Stage(Protocol):
    """What is taught in a stage, and from what.

    A batch is encoded in parts: a group of texts of similar length, a crop. Each process encodes its own parts; `contrast` gathers what
    all have encoded. What is done to a part must not draw random numbers (no dropout): cached gradients do it twice.
    """

    name: str

    @property
    def module(self) -> nn.Module:
        """What is taught."""
        ...

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Returns what is trained."""
        ...

    def draw(self) -> Any:
        """Returns the next batch; of what is dear to load, this process's parts alone."""
        ...

    def parts(self, batch: Any) -> Sequence[Any]:
        """Returns the parts of a batch that this process encodes; there may be none."""
        ...

    def encode(self, part: Any) -> Tensor:
        """Returns the features of a part, `n d`: all the heavy work."""
        ...

    def contrast(self, features: Sequence[Tensor], batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Returns this process's share of the loss, and numbers of the whole batch to write down.

        Args:
            features: what `encode` gave for each of `parts`.
            batch: the batch.
        """
        ...

    def describe(self, batch: Any) -> str:
        """Returns what is in a batch, over all processes, for an error message."""
        ...

    def num_examples(self, batch: Any) -> int:
        """Returns how many examples a batch holds on this process."""
        ...

    def validate(self) -> tuple[float, dict[str, float]]:
        """Returns the number that decides (higher is better), and all numbers to write down; called on the first process."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns the positions of the data streams: the same on every process, and good for any number of them."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to where `state` was taken."""
        ...


def add_gradients(
    stage: Stage, batch: Any, *, autocast: Callable[[], AbstractContextManager[Any]], cached: bool
) -> tuple[Tensor, dict[str, float]]:
    """Adds the gradients of this process's share of the loss; returns the share and the numbers of `Stage.contrast`.

    Args:
        stage: whose loss it is.
        batch: what it drew.
        autocast: makes the context of the precision.
        cached: whether each part is encoded twice, first without gradients, so that no more is held than one part needs. The
            gradients are the same.
            Source: Gao et al., Scaling deep contrastive learning batch size under memory limited setup, arXiv 2101.06983, section 3.
    """
    parts = stage.parts(batch)
    if not cached:
        with autocast():
            loss, values = stage.contrast([stage.encode(part) for part in parts], batch)
        loss.backward()
        return loss.detach(), values
    with autocast(), torch.no_grad():
        features = [stage.encode(part) for part in parts]
    leaves = [feature.detach().requires_grad_() for feature in features]
    with autocast():
        loss, values = stage.contrast(leaves, batch)
    loss.backward()
    for part, leaf in zip(parts, leaves, strict=True):
        if leaf.grad is not None:
            with autocast():
                feature = stage.encode(part)
            if feature.requires_grad:  # a frozen encoder gives features without
                feature.backward(leaf.grad)
    return loss.detach(), values
