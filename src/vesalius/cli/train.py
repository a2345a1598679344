"""`vesalius train …`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def text(
    *,
    graph: Path,
    out: Path,
    recipe: str = "text",
    config: Path | None = None,
    init: str | None = None,
    pooling: Literal["mean", "cls", "pooler"] | None = None,
    train_layers: int | None = None,
    freeze_embeddings: bool = False,
    num_steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    cached_gradients: bool = False,
    precision: Literal["32-true", "bf16-mixed"] | None = None,
    seed: int | None = None,
) -> None:
    """Train stage 1, text against text. Call it again to go on.

    Args:
        graph: graph folder.
        out: run folder to write; its encoder/ is a sentence-transformers folder.
        recipe: name of a complete configuration: text, or sat-text (the published mixture and schedule); text-tiny and
            sat-text-tiny run in seconds.
        config: config.yaml of an earlier run, instead of a recipe.
        init: encoder to start from: minilm, a folder, or hub:OWNER/NAME; a sentence-transformers model or a plain transformer.
        pooling: how a plain transformer's tokens become one feature; BioLORD brings its own, MedCPT's and PubMedBERT's are known.
        train_layers: how many of the encoder's last layers are trained.
        freeze_embeddings: leave its token embeddings as they are.
        num_steps: optimiser updates.
        batch_size: pairs a step.
        learning_rate: peak of the schedule.
        cached_gradients: encode twice, and need no more memory than a group of texts does.
        precision: 32-true, or bf16-mixed for GPUs.
        seed: of every draw.
    """
    from vesalius import recipes
    from vesalius.folder import sha256_of_folder
    from vesalius.train.engine import is_first_process
    from vesalius.train.run import train_text_on
    from vesalius.train.text import TextSettings

    settings = recipes.resolved(
        TextSettings, recipes.TEXT_RECIPES, recipe=recipe, config=config,
        overrides={
            "init": init, "pooling": pooling, "train_layers": train_layers,
            "train_embeddings": False if freeze_embeddings else None,
            "data.batch_size": batch_size, "loop.num_steps": num_steps, "loop.optim.learning_rate": learning_rate,
            "loop.cached_gradients": cached_gradients or None, "loop.precision": precision, "loop.seed": seed,
        },
    )  # fmt: skip
    train_text_on(graph, settings, out=out, graph_hash=sha256_of_folder(graph))
    if is_first_process():
        print(f"encoder: {out / 'encoder'}")


def regions(
    *,
    graph: Path,
    cases: str,
    init: Path,
    out: Path,
    recipe: str = "regions",
    config: Path | None = None,
    size: str | None = None,
    train_layers: int | None = None,
    num_steps: int | None = None,
    crops_per_step: int | None = None,
    max_regions: int | None = None,
    memory: int | None = None,
    learning_rate: float | None = None,
    cached_gradients: bool = False,
    precision: Literal["32-true", "bf16-mixed"] | None = None,
    workers: int | None = None,
    seed: int | None = None,
) -> None:
    """Train stage 2, text against image regions. Call it again to go on.

    Args:
        graph: graph folder.
        cases: case store.
        init: run folder to start from. Of stage 1: its encoder. Of stage 2, or made by `vesalius convert --to run`: everything.
        out: run folder to write; its encoder/ is a sentence-transformers folder.
        recipe: name of a complete configuration: regions, or sat-regions (the published method); regions-tiny and
            sat-regions-tiny run in seconds.
        config: config.yaml of an earlier run, instead of a recipe.
        size: U-Net: unet-tiny, or the published unet, unet-l, unet-h. A run that holds a U-Net brings its own.
        train_layers: how many of the text encoder's last layers are trained.
        num_steps: optimiser updates.
        crops_per_step: crops whose regions are contrasted with each other.
        max_regions: most regions taken from a crop.
        memory: regions of earlier steps that prompts choose among too; 0 for none.
        learning_rate: peak of the schedule.
        cached_gradients: encode twice, and need no more memory than one crop does.
        precision: 32-true, or bf16-mixed for GPUs.
        workers: processes that draw crops ahead; 0 for none.
        seed: of every draw.
    """
    from vesalius import recipes
    from vesalius.folder import sha256_of_folder
    from vesalius.train.engine import is_first_process
    from vesalius.train.regions import RegionSettings
    from vesalius.train.run import train_regions_on, with_network_of
    from vesalius.volumes.store import CaseStore

    settings = recipes.resolved(
        RegionSettings, recipes.REGION_RECIPES, recipe=recipe, config=config,
        overrides={
            "train_layers": train_layers, "crops_per_step": crops_per_step, "crops.max_regions": max_regions,
            "memory.size": memory, "crop_workers": workers,
            "loop.num_steps": num_steps, "loop.optim.learning_rate": learning_rate,
            "loop.cached_gradients": cached_gradients or None, "loop.precision": precision, "loop.seed": seed,
        },
    )  # fmt: skip
    settings = settings if size is None else recipes.with_unet(settings, size)
    settings = with_network_of(init, settings, asked=size is not None or config is not None)
    store = CaseStore.open(cases)
    hashes = {"graph": sha256_of_folder(graph), "cases": store.sha256}
    train_regions_on(graph, store, settings, init=init, out=out, hashes=hashes)
    if is_first_process():
        print(f"encoder: {out / 'encoder'}")


COMMANDS = {"text": text, "regions": regions}
