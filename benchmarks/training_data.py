"""What stage 2 waits for: crops, pairs, and the first of them.

The cases are prepared from a phantom: a CT of 512×512×200 voxels with 24 organs, see `volumes.py`; text pairs are UBERON's.
"""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from cases import Case, Context, Goal, Side, Work

import volumes
from vesalius import recipes
from vesalius.corpus.crop_stream import CropStream
from vesalius.corpus.crops import CropSampler, CropSettings
from vesalius.corpus.mixture import MixturePart, MixtureSampler
from vesalius.corpus.pair_index import write_pair_index
from vesalius.corpus.pair_table import PairIndex
from vesalius.corpus.sampling import PairSampler
from vesalius.knowledge.build import build
from vesalius.knowledge.split import split_concepts
from vesalius.knowledge.store import read_graph
from vesalius.model.region_encoder import UNET_SIZES
from vesalius.model.region_model import RegionModelSize
from vesalius.model.text_encoder import TextEncoder, bundled_minilm
from vesalius.train.regions import RegionSettings, RegionStage
from vesalius.train.stage import add_gradients
from vesalius.train.text_data import TextData, neighbourhood_sampler
from vesalius.volumes.store import CaseStore

CROP, QUICK_CROP = (96, 96, 96), (48, 48, 48)
NUM_MASKS = 10
NUM_DRAWS = 10**9


def make_store(folder: Path) -> None:
    """Prepares the phantom; run in a process of its own."""
    volumes.prepared(folder)


def make_graph(folder: Path) -> None:
    """Builds the graph of UBERON and the index of its pairs; run in a process of its own."""
    build(["uberon"], folder)
    write_pair_index(folder)


def made(context: Context, name: str) -> Path:
    """Returns what ``make_NAME`` of this module makes, in the cache of the run."""
    folder = context.cache / f"data-{name}"
    if not (folder / "manifest.json").is_file():
        call = f"import training_data as t; t.make_{name}(t.Path({str(folder)!r}))"
        subprocess.run([sys.executable, "-c", call], check=True, cwd=Path(__file__).parent)  # noqa: S603
    return folder


def region_settings(*, workers: int, quick: bool) -> RegionSettings:
    """Returns stage 2 as published but for the crop, 96³, and the text encoder: UNET, 2 crops of 10 regions, 128 pairs."""
    unet = UNET_SIZES["unet-tiny" if quick else "unet"]
    return replace(
        recipes.regions(),
        network=RegionModelSize(unet=unet, width=256),
        crops=CropSettings(size=QUICK_CROP if quick else CROP, max_regions=NUM_MASKS),
        crops_per_step=2,
        text=TextData(batch_size=16 if quick else 128),
        train_layers=3,
        crop_workers=workers,
    )


def stage_2(workers: int) -> Callable[[Context], Work]:
    """Returns a side: whole steps of stage 2, and the share of them that was spent waiting for a batch."""

    def prepare(context: Context) -> Work:
        graph = read_graph(made(context, "graph"))
        stage = RegionStage(
            TextEncoder.load(bundled_minilm()),
            graph=graph,
            sides=split_concepts(graph),
            store=CaseStore.open(made(context, "store")),
            settings=region_settings(workers=workers, quick=context.quick),
        )
        stage.module.to(context.device)
        waited: list[tuple[float, float]] = []

        def step() -> None:
            began = time.perf_counter()
            batch = stage.draw()
            drawn = time.perf_counter()
            loss, _ = add_gradients(stage, batch, autocast=nullcontext, cached=False)
            loss.item()
            stage.module.zero_grad(set_to_none=True)
            waited.append((drawn - began, time.perf_counter() - began))

        def numbers() -> dict[str, float]:
            counted = waited[1:]  # the first step waits for the workers to start
            return {"waiting": sum(wait for wait, _ in counted) / sum(whole for _, whole in counted)}

        return Work(step=step, numbers=numbers)

    return prepare


def first_batch(make: Callable[[Context], Callable[[], object]]) -> Callable[[Context], Work]:
    """Returns a side that makes a sampler and takes its first batch: how long, and how much memory the process grows by."""

    def prepare(context: Context) -> Work:
        started = make(context)
        grown: list[float] = []

        def step() -> None:
            gc.collect()
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
            before = status_mb("VmRSS")
            held = started()
            grown.append(status_mb("VmHWM") - before)
            del held

        return Work(step=step, numbers=lambda: {"grown_mb": max(grown)})

    return prepare


def status_mb(name: str) -> float:
    """Returns memory of this process, in 10⁶ bytes: ``VmRSS``, what it holds, or ``VmHWM``, the most it held."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1.024e-3 * int(next(line for line in lines if line.startswith(name)).split()[1])


def neighbourhoods(context: Context) -> Callable[[], object]:
    """Makes the sampler of our recipes over a graph in memory."""
    graph = read_graph(made(context, "graph"))
    trained = {concept for concept, side in split_concepts(graph).items() if side == "train"}

    def start() -> tuple[PairSampler, object]:
        sampler = neighbourhood_sampler(graph, trained, TextData(), seed=0)
        return sampler, sampler.draw()

    return start


def mixture(context: Context) -> Callable[[], object]:
    """Makes the sampler of the published recipe over an index on disk, at a draw near the end of 10⁹."""
    folder = made(context, "graph")
    parts = [
        MixturePart(sources=("uberon",), kinds=("definition", "synonym")),
        MixturePart(sources=("uberon",), kinds=("relation",), weight=0.5),
    ]

    def start() -> tuple[MixtureSampler, object]:
        sampler = MixtureSampler(PairIndex(folder), parts=parts, batch_size=128)
        sampler.load_state_dict({"step": NUM_DRAWS // 128 - 1})
        return sampler, sampler.draw()

    return start


def crops(context: Context) -> Callable[[], object]:
    """Makes the sampler of crops, at a draw near the end of 10⁹."""
    store = CaseStore.open(made(context, "store"))

    def start() -> tuple[CropStream, object]:
        settings = CropSettings(size=QUICK_CROP, max_regions=NUM_MASKS)
        sampler = CropSampler(store, splits=["train"], prompts=volumes.region_name, settings=settings)
        stream = CropStream(sampler, crops_per_step=2)
        stream.load_state_dict({"step": NUM_DRAWS // 2 - 1})
        return stream, stream.draw()

    return start


SAMPLERS = {"neighbourhoods": neighbourhoods, "mixture": mixture, "crops": crops}

CASES: tuple[Case, ...] = (
    Case(
        name="region-data",
        title="Stage 2: waiting for data",
        sides={f"{workers} workers": Side(prepare=stage_2(workers)) for workers in (2, 0)},
        goals=(
            Goal(
                work="stage 2 step: share of time waiting for data", says="< 2 % with two workers",
                value=lambda measured: 100 * measured["2 workers"].numbers["waiting"], at_most=2.0, shows="{:.2f} %",
            ),
        ),
        note="UNET, 2 crops of 96³ with 10 regions from a CT of 512×512×200, 128 pairs by MiniLM.",
        repeats=1,
        warmups=1,
        steps=3,
    ),
    Case(
        name="first-batch",
        title="The first batch of 10⁹ draws",
        sides={name: Side(prepare=first_batch(make), devices=("cpu",)) for name, make in SAMPLERS.items()},
        goals=(
            Goal(
                work="first batch from a sampler over 10⁹ draws", says="< 2 s",
                value=lambda measured: max(of.seconds for of in measured.values()), at_most=2.0, shows="{:.2f} s",
            ),
            Goal(
                work="first batch from a sampler over 10⁹ draws", says="< 100 MB",
                value=lambda measured: max(of.numbers["grown_mb"] for of in measured.values()), at_most=100.0,
                shows="{:.0f} MB",
            ),
        ),
        note="Graph and case tables are read before, see their own benchmarks. The published sampler: 6.9 s, 4.5 GiB for 10⁸ draws.",
        repeats=2,
        warmups=0,
        steps=1,
    ),
)  # fmt: skip
