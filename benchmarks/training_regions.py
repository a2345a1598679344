"""Region steps and region pooling: ours and the published form, on one crop of noise with ellipsoids for masks.

The published form (SAT-Pretrain, ANCHORS §1) is written here from its description: the image repeated to three channels;
convolution, instance norm and leaky ReLU as plain modules; at each scale the map repeated for every mask, multiplied, summed.
Weights are shared: both sides hold the same network from the same seed. A step encodes the regions of a crop, projects them, takes
the contrastive loss against fixed texts, goes back and updates by AdamW. The outcome is features, loss and gradients of the first
step; those of the convolutions' biases are left out: instance norm takes them away, and what is left of them is rounding.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from cases import Case, Context, Goal, Measured, Side, Work, flops_share, memory_share, speed_up
from torch import Tensor

from vesalius.model.aligner import INITIAL_LOGIT_SCALE, Aligner
from vesalius.model.blocks import NEGATIVE_SLOPE
from vesalius.model.loss import contrastive_loss
from vesalius.model.pooling import mean_over_masks
from vesalius.model.region_encoder import UNET_SIZES, RegionEncoder

Shape = tuple[int, int, int]
Encode = Callable[[RegionEncoder, Tensor, Tensor], Tensor]

CROP: Shape = (96, 96, 96)
SMALL_CROP: Shape = (40, 40, 40)
PUBLISHED_CROP: Shape = (288, 288, 96)
NUM_MASKS, NUM_CHANNELS, WIDTH = 10, 64, 768
QUICK_CROP: Shape = (40, 34, 36)


def make_crop(shape: Shape, *, num_masks: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns an image of noise and ellipsoids in it, some of which overlap: 1 to 8 % of the crop each."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(shape, generator=generator)
    masks = torch.zeros(num_masks, *shape, dtype=torch.bool)
    for mask in masks:
        distance = torch.zeros(1)
        for axis, size in enumerate(shape):
            centre, radius = torch.rand(2, generator=generator) * torch.tensor([0.7, 0.13]) + torch.tensor([0.15, 0.14])
            along = (torch.arange(size) / size - centre) / radius
            distance = distance + along.square().view([-1 if other == axis else 1 for other in range(3)])
        mask.copy_(distance < 1)
    return image.to(device), masks.to(device)


# ---- the published form


def repeat_multiply_sum(features: Tensor, masks: Tensor) -> Tensor:
    """Returns the mean of a map `c i j k` over masks `n i j k`, as published."""
    weights = masks.to(features.dtype)[:, None]
    return (features.repeat(len(masks), 1, 1, 1, 1) * weights).sum((2, 3, 4)) / weights.sum((2, 3, 4)).clamp(min=1)


def einsum(features: Tensor, masks: Tensor) -> Tensor:
    """Returns the same as one product over flattened voxels."""
    weights = masks.to(features.dtype).flatten(1)
    return torch.einsum("nv,cv->nc", weights, features.flatten(1)) / weights.sum(1, keepdim=True).clamp(min=1)


def encode_published(encoder: RegionEncoder, image: Tensor, masks: Tensor) -> Tensor:
    """Returns the features of regions as the published network works them out, from the weights of ours."""
    features = image.repeat(1, encoder.size.in_channels, 1, 1, 1)
    weights = masks.to(image.dtype)
    means = []
    for index, stage in enumerate(encoder.stages):
        for block in stage[0].convs:
            features = F.leaky_relu(block.norm(block.conv(features)), NEGATIVE_SLOPE)
        if index > 0:
            weights = F.max_pool3d(weights[None], kernel_size=2, ceil_mode=True)[0]
        means.append(repeat_multiply_sum(features[0], weights))
    return torch.cat(means, dim=1)


def encode_ours(encoder: RegionEncoder, image: Tensor, masks: Tensor) -> Tensor:
    """Returns the features of regions."""
    return encoder(image, masks)


# ---- the sides


def pooling(
    pool: Callable[[Tensor, Tensor], Tensor], *, num_masks: int, layout: torch.memory_format, compared: bool = True
) -> Side:
    """Returns a way to take the means of the finest map over masks, and their gradient."""

    def prepare(context: Context) -> Work:
        shape = QUICK_CROP if context.quick else CROP
        _, masks = make_crop(shape, num_masks=num_masks, device=context.device)
        # Activated, as the network's maps are: means of plain noise are next to nothing, and compared would be rounding alone.
        noise = torch.randn(1, NUM_CHANNELS, *shape, generator=torch.Generator().manual_seed(2))
        features = F.leaky_relu(noise, NEGATIVE_SLOPE).to(context.device)
        features = features.contiguous(memory_format=layout)[0].requires_grad_()
        direction = torch.linspace(-1, 1, num_masks * NUM_CHANNELS, device=context.device).view(num_masks, NUM_CHANNELS)

        def step() -> dict[str, Tensor]:
            means = pool(features, masks)
            (gradient,) = torch.autograd.grad((means * direction).sum(), features)
            return {"means": means, "gradient": gradient}

        return Work(step=step, outcome=step if compared else None)

    return Side(prepare=prepare)


@dataclass(kw_only=True)
class Trained:
    """A region encoder and its projection in training.

    Attributes:
        encoder: the network.
        aligner: holds the projection.
        encode: how features are worked out.
        image: of the crop.
        masks: of its regions.
        amp: whether under autocast to bf16.
        optimiser: over all parameters.
    """

    encoder: RegionEncoder
    aligner: Aligner
    encode: Encode
    image: Tensor
    masks: Tensor
    amp: bool
    optimiser: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        """Makes the optimiser."""
        parameters = [*self.encoder.parameters(), *self.aligner.region_projection.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, lr=1e-5)

    def loss(self) -> tuple[Tensor, Tensor]:
        """Returns features, and the loss against fixed texts."""
        with torch.autocast(self.image.device.type, torch.bfloat16, enabled=self.amp):
            features = self.encode(self.encoder, self.image, self.masks)
            regions = self.aligner.project_regions(features)
        generator = torch.Generator().manual_seed(3)
        texts = F.normalize(torch.randn(regions.shape, generator=generator), dim=-1).to(regions.device)
        scale = torch.tensor(INITIAL_LOGIT_SCALE, device=regions.device)
        positives = torch.eye(len(regions), dtype=torch.bool, device=regions.device)
        return features, contrastive_loss(regions.float(), texts, logit_scale=scale, positives=positives)

    def step(self) -> None:
        """Does one update."""
        self.loss()[1].backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def outcome(self) -> dict[str, Tensor]:
        """Returns features and loss, and in double precision the gradients of a small crop.

        In float32 those are no measure: at 48³ both forms are 1.6e-2 away from the float64 gradient of the convolutions, for what
        a few voxels of the coarsest stages decide.
        """
        with torch.no_grad():
            features, loss = self.loss()
        return {"features": features, "loss": loss, **self.double().small_gradients()}

    def double(self) -> Trained:
        """Returns a copy in double precision, on a small crop."""
        image, masks = make_crop(QUICK_CROP, num_masks=len(self.masks), device=self.image.device)
        return Trained(
            encoder=copy.deepcopy(self.encoder).double(), aligner=copy.deepcopy(self.aligner).double(),
            encode=self.encode, image=image.double(), masks=masks, amp=False,
        )  # fmt: skip

    def small_gradients(self) -> dict[str, Tensor]:
        """Returns the gradients of the features' sum of squares by kind of parameter; biases before a norm have none."""
        self.encode(self.encoder, self.image, self.masks).square().sum().backward()
        named = [(name, tensor) for name, tensor in self.encoder.named_parameters() if not name.endswith("conv.bias")]
        return {
            f"gradient of {kind}": torch.cat(
                [tensor.grad.flatten() for name, tensor in named if name.endswith(kind) and tensor.grad is not None]
            )
            for kind in ("conv.weight", "norm.weight", "norm.bias")
        }


def step(
    encode: Encode,
    *,
    shape: Shape = CROP,
    num_masks: int = NUM_MASKS,
    checkpointing: bool = False,
    amp: bool = False,
    compared: bool = True,
    **how: Any,
) -> Side:
    """Returns a way to do a whole step on one crop."""

    def prepare(context: Context) -> Work:
        shape_here = QUICK_CROP if context.quick else shape
        encoder = RegionEncoder(UNET_SIZES["unet"], checkpointing=checkpointing)
        aligner = Aligner(text_width=WIDTH, region_width=encoder.width, width=WIDTH)
        image, masks = make_crop(shape_here, num_masks=num_masks, device=context.device)
        made = Trained(
            encoder=encoder.to(context.device), aligner=aligner.to(context.device),
            encode=encode, image=image, masks=masks, amp=amp,
        )  # fmt: skip
        return Work(
            step=made.step, units=math.prod(shape_here) / 1e6, flops=count_flops(encoder, shape_here),
            outcome=made.outcome if compared else None,
        )  # fmt: skip

    return Side(prepare=prepare, **how)


# ---- floating-point operations


def convolutions(encoder: RegionEncoder, shape: Shape) -> Iterable[tuple[int, int, int, Shape]]:
    """Gives input channels, output channels, stride and output grid of each convolution; the first reads one channel."""
    before = 1
    for index, channels in enumerate(encoder.size.channels):
        stride = 1 if index == 0 else 2
        shape = tuple(-(-size // stride) for size in shape)  # pyright: ignore[reportAssignmentType]
        for number in range(encoder.size.convs_per_stage):
            yield before, channels, stride if number == 0 else 1, shape
            before = channels


def count_flops(encoder: RegionEncoder, shape: Shape) -> float:
    """Returns the operations of a step's convolutions: forward, gradients of weights, and of all inputs but the image.

    All else (norm, activation, masks, projection) is under one in a hundred.
    """
    forward = [2.0 * 27 * a * b * math.prod(grid) for a, b, _, grid in convolutions(encoder, shape)]
    return 3 * sum(forward) - forward[0]


def convolution_peak(shape: Shape = CROP) -> Side:
    """Returns the fastest of the network's own convolutions, forward alone: what this machine can do of its kind at best."""

    def prepare(context: Context) -> Work:
        encoder = RegionEncoder(UNET_SIZES["unet"])
        best: tuple[float, float, Callable[[], object]] | None = None
        for before, after, stride, grid in convolutions(encoder, QUICK_CROP if context.quick else shape):
            source = torch.randn(1, before, *(stride * size for size in grid), device=context.device)
            weight = torch.randn(after, before, 3, 3, 3, device=context.device)
            source, weight = (tensor.contiguous(memory_format=torch.channels_last_3d) for tensor in (source, weight))
            flops = 2.0 * 27 * before * after * math.prod(grid)

            def run(
                source: Tensor = source, weight: Tensor = weight, stride: int = stride, flops: float = flops
            ) -> float:
                count = max(1, round(1e11 / flops))
                for _ in range(count):
                    F.conv3d(source, weight, stride=stride, padding=1)
                return count * flops

            run()
            began = time.perf_counter()
            done = run()
            if context.device.type == "cuda":
                torch.cuda.synchronize(context.device)
            rate = done / (time.perf_counter() - began)
            if best is None or rate > best[0]:
                best = rate, done, run
        assert best is not None
        return Work(step=best[2], flops=best[1])

    return Side(prepare=prepare)


# ---- the cases


def pooling_case(num_masks: int, goals: tuple[Goal, ...]) -> Case:
    """Returns the case of pooling alone."""
    masks = f"{num_masks} mask{'s' * (num_masks > 1)}"
    return Case(
        name=f"pooling-{num_masks}",
        title=f"Region pooling, {NUM_CHANNELS} channels, 96³, {masks}",
        note="Each side on the layout of its own encoder: channels first as published, channels last in ours. One einsum adds up "
        "in another order and misses the tolerance of 1e-6 by its rounding (1e-6 to 2e-6): it is timed, not compared.",
        sides={
            "repeat, multiply, sum": pooling(repeat_multiply_sum, num_masks=num_masks, layout=torch.contiguous_format),
            "one einsum": pooling(einsum, num_masks=num_masks, layout=torch.contiguous_format, compared=False),
            "vesalius": pooling(mean_over_masks, num_masks=num_masks, layout=torch.channels_last_3d),
        },
        goals=goals,
        tolerance=1e-6,
        steps=3,
    )


def growth(measured: Any) -> float:
    """Returns what 31 more masks cost, as a share of the step with one."""
    few, many = measured["1 mask"].seconds, measured["32 masks"].seconds
    return (many - few) / few


def peak_gb(side: str) -> Callable[[Any], float]:
    """Returns what gives the peak memory of a side in 10⁹ bytes."""

    def value(measured: dict[str, Measured]) -> float:
        return measured[side].memory_mb / 1e3

    return value


_WHOLE = f"whole region step, UNET, 96³, {NUM_MASKS} masks, fp32"
_REFERENCE = "repeat, multiply, sum"

CASES: tuple[Case, ...] = (
    pooling_case(
        1,
        (
            Goal(work="region pooling, 96³, 1 mask", says="not slower than repeat–multiply–sum", at_least=1.0,
                 value=speed_up("vesalius", _REFERENCE)),
        ),
    ),
    pooling_case(
        NUM_MASKS,
        (
            Goal(work="region pooling, 96³, 10 masks", says="≥ 5× the speed of repeat–multiply–sum", at_least=5.0,
                 value=speed_up("vesalius", _REFERENCE)),
            Goal(work="region pooling, 96³, 10 masks", says="≤ 1/2 of its peak memory", at_most=0.5,
                 value=memory_share("vesalius", _REFERENCE)),
        ),
    ),
    pooling_case(32, ()),
    Case(
        name="regions",
        title=f"Region step, UNET, 96³, {NUM_MASKS} masks",
        note="GFLOP/s count the convolutions of our form: the image has one channel and needs no gradient. Compared: features, loss, "
        "and in float64 the gradients of a small crop: in float32 either form is 1.6e-2 away from those.",
        unit="Mvoxels",
        tolerance=1e-4,
        sides={
            "as published": step(encode_published),
            "vesalius": step(encode_ours),
            "vesalius, checkpointing": step(encode_ours, checkpointing=True),
            "vesalius, bf16": step(encode_ours, amp=True, compared=False, devices=("cuda",)),
            "convolutions alone": convolution_peak(),
        },
        goals=(
            Goal(work=_WHOLE, says="≥ 1.3× the speed", at_least=1.3, value=speed_up("vesalius", "as published")),
            Goal(work=_WHOLE, says="≤ 0.6 of the process's peak memory", at_most=0.6,
                 value=memory_share("vesalius", "as published")),
            Goal(work="floor: regions", says="≥ 50 % of the convolution peak", at_least=0.5, shows="{:.0%}",
                 value=flops_share("vesalius", "convolutions alone")),
        ),
    ),
    Case(
        name="regions-bf16",
        title=f"Region step, UNET, 40³, {NUM_MASKS} masks: bf16 on a CPU",
        note="A small crop, as processors without convolutions in bf16 take minutes for 96³; the first step, not warmed up.",
        unit="Mvoxels",
        repeats=1,
        warmups=0,
        quick=False,
        sides={
            name: step(encode_ours, shape=SMALL_CROP, amp=amp, compared=False, devices=("cpu",))
            for name, amp in (("fp32", False), ("bf16", True))
        },
    ),
    Case(
        name="regions-masks",
        title="Region step, UNET, 96³: cost against masks",
        unit="Mvoxels",
        sides={
            "1 mask": step(encode_ours, num_masks=1, compared=False),
            "32 masks": step(encode_ours, num_masks=32, compared=False),
            "as published, 1 mask": step(encode_published, num_masks=1, compared=False),
        },
        goals=(
            Goal(work="region step, UNET, 96³, from 1 to 32 masks", says="grows by < a tenth of the step", at_most=0.1,
                 shows="{:.1%}", value=growth),
        ),
    ),
    Case(
        name="regions-crops",
        title=f"Region step, UNET, {NUM_MASKS} masks: cost against crop",
        unit="Mvoxels",
        repeats=1,
        quick=False,
        sides={
            "×".join(map(str, shape)): step(encode_ours, shape=shape, compared=False)
            for shape in ((48, 48, 48), (64, 64, 64), (96, 96, 96), (128, 128, 96), (192, 192, 96))
        },
    ),
    Case(
        name="regions-288",
        title=f"Region step, UNET, 288×288×96, {NUM_MASKS} masks",
        unit="Mvoxels",
        repeats=1,
        warmups=0,
        steps=1,
        quick=False,
        sides={
            "vesalius": step(encode_ours, shape=PUBLISHED_CROP, compared=False),
            "vesalius, checkpointing": step(encode_ours, shape=PUBLISHED_CROP, checkpointing=True, compared=False),
        },
        goals=(
            Goal(work="one step at 288×288×96, UNET, 10 masks", says="within 16 GB", at_most=16.0, shows="{:.1f} GB",
                 value=peak_gb("vesalius")),
        ),
    ),
)  # fmt: skip
