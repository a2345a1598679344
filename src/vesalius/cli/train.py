"""`vesalius train …`."""

from __future__ import annotations

from pathlib import Path


def text(
    *,
    graph: Path,
    out: Path,
    recipe: str = "text",
    config: Path | None = None,
    init: str | None = None,
    num_steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
) -> None:
    """Train stage 1, text against text. Call it again to go on.

    Args:
        graph: graph folder.
        out: run folder to write; its encoder/ is a sentence-transformers folder.
        recipe: name of a complete configuration: text, or sat-text (the published mixture and schedule).
        config: config.yaml of an earlier run, instead of a recipe.
        init: encoder to start from: minilm, a sentence-transformers folder, or hub:OWNER/NAME.
        num_steps: optimiser updates.
        batch_size: pairs a step.
        learning_rate: peak of the schedule.
        seed: of every draw.
    """
    from vesalius import recipes
    from vesalius.folder import sha256_of_folder
    from vesalius.train.run import train_text_on
    from vesalius.train.text import TextSettings

    settings = recipes.resolved(
        TextSettings, recipes.TEXT_RECIPES, recipe=recipe, config=config,
        overrides={
            "init": init, "loop.num_steps": num_steps, "data.batch_size": batch_size,
            "loop.optim.learning_rate": learning_rate, "loop.seed": seed,
        },
    )  # fmt: skip
    train_text_on(graph, settings, out=out, graph_hash=sha256_of_folder(graph))
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
    num_steps: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
) -> None:
    """Train stage 2, text against image regions. Call it again to go on.

    Args:
        graph: graph folder.
        cases: case store.
        init: run folder to start from. Of stage 1: its encoder. Of stage 2, or made by `vesalius convert --to run`: everything.
        out: run folder to write; its encoder/ is a sentence-transformers folder.
        recipe: name of a complete configuration: regions.
        config: config.yaml of an earlier run, instead of a recipe.
        size: U-Net: unet-tiny, or the published unet, unet-l, unet-h. A run that holds a U-Net brings its own.
        num_steps: optimiser updates.
        learning_rate: peak of the schedule.
        seed: of every draw.
    """
    from vesalius import recipes
    from vesalius.folder import sha256_of_folder
    from vesalius.knowledge.split import split_concepts
    from vesalius.knowledge.store import read_graph
    from vesalius.model.region_encoder import unet_size
    from vesalius.train.regions import RegionSettings
    from vesalius.train.run import train_regions, with_network_of
    from vesalius.volumes.store import CaseStore

    settings = recipes.resolved(
        RegionSettings, recipes.REGION_RECIPES, recipe=recipe, config=config,
        overrides={
            "network.unet": None if size is None else unet_size(size), "loop.num_steps": num_steps,
            "loop.optim.learning_rate": learning_rate, "loop.seed": seed,
        },
    )  # fmt: skip
    settings = with_network_of(init, settings, asked=size is not None or config is not None)
    read = read_graph(graph)
    store = CaseStore.open(cases)
    hashes = {"graph": sha256_of_folder(graph), "cases": store.sha256}
    train_regions(read, split_concepts(read), store, settings, init=init, out=out, hashes=hashes)
    print(f"encoder: {out / 'encoder'}")


COMMANDS = {"text": text, "regions": regions}
