"""Several processes that train one model: what each does of a batch, and how their parts become one.

Every process draws the same batch, encodes its share of it, gathers what the others encoded and computes its share of the loss.
The sum over the processes is the loss of one process, and so is the sum of the gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float, Float64
from torch import Tensor, nn

from vesalius.errors import VesaliusError

Item = TypeVar("Item")

MAX_BUCKET_BYTES = 32 * 2**20
"""Gradients are summed in flat buckets of about this size: few messages, and little memory beside the gradients."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes of a run, as one of them sees them. Of one alone every method returns what it is given.

    All but `share` are collective: every process has to call them, in the same order.

    Attributes:
        rank: which process this is, from 0.
        num: how many there are.
        device: where what they exchange has to lie.
    """

    rank: int = 0
    num: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Returns the items that belong to this process: every `num`-th one. The shares of all make the whole."""
        return list(items[self.rank :: self.num])

    def gather(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "m d"]:
        """Returns the rows of all processes, the first process's first; `n` may differ and be 0.

        The gradient of a row is the sum of what all processes ask of it, as if one had computed them all.
        """
        if self.num == 1:
            return features
        if torch.is_grad_enabled() and not features.requires_grad:
            features = features.detach().requires_grad_()  # every process takes part in the backward pass
        return _Gather.apply(features, self)  # pyright: ignore[reportReturnType]

    def gather_objects(self, item: Item) -> list[Item]:
        """Returns the picklable items of all processes, the first process's first."""
        if self.num == 1:
            return [item]
        items: list[Any] = [None] * self.num
        with _collective():
            dist.all_gather_object(items, item)
        return items

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the sum over the processes, without gradient."""
        if self.num == 1:
            return tensor.detach()
        total = tensor.detach().clone()
        with _collective():
            dist.all_reduce(total)
        return total

    def table(self, numbers: Sequence[float]) -> Float64[Tensor, "p k"]:
        """Returns the numbers of all processes, a row each."""
        rows = torch.zeros(self.num, len(numbers), dtype=torch.float64)
        rows[self.rank] = torch.tensor(numbers, dtype=torch.float64)
        return rows if self.num == 1 else self.sum(rows.to(self.device)).cpu()

    def from_first(self, compute: Callable[[], Item]) -> Item:
        """Returns what `compute` gives on the first process; the others wait for it.

        Raises:
            VesaliusError: `compute` did, on every process; only the first one's message is to be shown.
        """
        if self.num == 1:
            return compute()
        answer: list[Any] = [None, None]
        if self.is_first:
            try:
                answer = [compute(), None]
            except VesaliusError as error:
                answer = [None, error]
        with _collective():
            dist.broadcast_object_list(answer)
        if answer[1] is not None:
            answer[1].is_told = not self.is_first
            raise answer[1]
        return answer[0]

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Makes each gradient the sum over the processes; a parameter that no process has one of keeps none."""
        if self.num == 1:
            return
        has_any = self.table([float(parameter.grad is not None) for parameter in parameters]).any(dim=0).tolist()
        present = [parameter for parameter, has in zip(parameters, has_any, strict=True) if has]
        for bucket in _buckets(present):
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            flat = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
            parts = flat.split([gradient.numel() for gradient in gradients])
            for parameter, part in zip(bucket, parts, strict=True):
                parameter.grad = part.view_as(parameter).clone()

    def broadcast(self, module: nn.Module) -> None:
        """Gives every process the first one's weights."""
        if self.num == 1:
            return
        with _collective():
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, processes: Processes) -> Tensor:
        counts = features.new_zeros(processes.num, dtype=torch.int64)
        counts[processes.rank] = len(features)
        ctx.processes, ctx.counts = processes, processes.sum(counts).tolist()
        padded = features.new_zeros(max(ctx.counts), *features.shape[1:])
        padded[: len(features)] = features.detach()
        received = [torch.empty_like(padded) for _ in range(processes.num)]
        with _collective():
            dist.all_gather(received, padded)
        return torch.cat([rows[:count] for rows, count in zip(received, ctx.counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        total = ctx.processes.sum(gradient.contiguous())
        return total.split(ctx.counts)[ctx.processes.rank], None


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yields runs of parameters of one type whose gradients fit a bucket; one that is larger comes alone."""
    bucket: list[nn.Parameter] = []
    num_bytes = 0
    for parameter in parameters:
        size = parameter.numel() * parameter.element_size()
        if bucket and (num_bytes + size > MAX_BUCKET_BYTES or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, num_bytes = [], 0
        bucket.append(parameter)
        num_bytes += size
    if bucket:
        yield bucket


@contextlib.contextmanager
def _collective() -> Iterator[None]:
    """Says in one line that another process is gone; what ended it stands in that one's own output."""
    try:
        yield
    except RuntimeError as error:
        raise VesaliusError(
            f"lost the other processes ({str(error).splitlines()[0]})",
            remedy="look for what the first one to stop said; the same command goes on from the last checkpoint",
        ) from error
