"""The command line: it reads arguments, calls one function, and says in one line what a user did wrong. No logic."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro
from rich.console import Console
from rich.table import Table

from vesalius.errors import VesaliusError
from vesalius.ids import Modality

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def demo(
    *,
    out: Path = Path("runs/demo"),
    quick: bool = False,
    noncommercial_atlases: bool = False,
    candidates: Literal["anatomy", "all"] = "anatomy",
    config: Path | None = None,
) -> None:
    """Walk the whole line on data that ships in installed packages: ten minutes on two cores. Call it again to go on.

    Args:
        out: folder to write; holds report.html at the end.
        quick: few steps, to see that everything works.
        noncommercial_atlases: add atlases under non-commercial or unclear terms.
        candidates: what held-out texts choose among: preferred names of anatomy, or all names and synonyms of all concepts.
        config: config.yaml of an earlier demo, to repeat it; the other settings have no effect beside it.
    """
    from dataclasses import replace

    from vesalius import demo as whole_line
    from vesalius import recipes
    from vesalius.errors import SettingError
    from vesalius.train.config import from_yaml

    if config is not None:
        if quick or noncommercial_atlases or candidates != "anatomy":
            raise SettingError("--config decides everything", remedy="leave out the other settings")
        settings, recipe = from_yaml(recipes.DemoSettings, config), str(config)
    else:
        recipe = "demo-quick" if quick else "demo"
        settings = replace(
            recipes.DEMO_RECIPES[recipe](), noncommercial_atlases=noncommercial_atlases, candidates=candidates
        )
    results = whole_line.run_demo(settings, out, recipe=recipe)
    console = Console()
    _print_retrieval(console, results["retrieval"])
    _print_regions(console, results["regions"])
    console.print(whole_line.REGION_CAVEAT, style="dim")
    print(f"report: {out / 'report.html'}")
    print(f"encoder: {out / 'encoder'}")


def knowledge_build(sources: tyro.conf.Positional[tuple[str, ...]], /, *, out: Path) -> None:
    """Build a knowledge graph from sources.

    Args:
        sources: built-in sources: uberon, mondo. Where names meet, the earlier source comes first.
        out: graph folder to write; an older graph there is replaced.
    """
    from vesalius.knowledge.build import build_graph
    from vesalius.knowledge.store import write_graph

    graph = build_graph(sources)
    write_graph(graph, out)
    table = Table("source", "concepts", "synonyms", "definitions", "relations")
    for source, counts in graph.counts().items():
        table.add_row(source, *(f"{counts[str(column.header)]:,}" for column in table.columns[1:]))
    Console().print(table)
    print(f"graph: {out}")


def knowledge_show(graph: tyro.conf.Positional[Path], name: tyro.conf.Positional[str], /) -> None:
    """Show a concept: names, definition, relations both ways.

    Args:
        graph: graph folder.
        name: a name, a synonym or an id; upper and lower case are the same.
    """
    from vesalius.errors import InputError
    from vesalius.ids import ConceptId
    from vesalius.knowledge.store import read_graph

    read = read_graph(graph)
    found = [read[ConceptId(name)]] if name in read else read.named(name)
    if not found:
        near = ", ".join(read.suggestions(name))
        raise InputError(f"nothing is named {name!r}", where=graph, remedy=f"did you mean: {near}" if near else None)
    console = Console(highlight=False)
    for concept in found:
        console.print(f"[bold]{concept.name}[/bold]  {concept.concept_id}  [dim]{concept.source}[/dim]")
        for synonym in concept.synonyms:
            console.print(f"  {synonym.scope}: ", synonym.text, sep="", markup=False)
        for definition in concept.definitions:
            console.print(definition.text, markup=False)
        for relation in read.relations_of(concept.concept_id):
            console.print(f"  {relation.predicate.words} {read[relation.object].name}", markup=False)
        for relation in read.relations_to(concept.concept_id):
            console.print(f"  {read[relation.subject].name} {relation.predicate.words} this", markup=False)


def volumes_prepare(
    *,
    layout: Literal["atlas", "nifti-pairs"],
    graph: Path,
    out: Path,
    input: Path | None = None,
    modality: Modality | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 3.0),
    salt: str | None = None,
    noncommercial_atlases: bool = False,
) -> None:
    """Prepare cases: one orientation and spacing, intensities by modality, labels tied to concepts. Call it again to go on.

    Args:
        layout: how the dataset is laid out; atlas is the data in installed packages.
        graph: graph folder that labels are tied to.
        out: case store to write.
        input: the dataset's folder.
        modality: of every image, where the dataset does not say it.
        spacing_mm: voxel size to resample to.
        salt: secret that patient ids are hashed with.
        noncommercial_atlases: add atlases under non-commercial or unclear terms.
    """
    from vesalius.errors import InputError
    from vesalius.folder import sha256_of_folder
    from vesalius.knowledge.resolve import Resolver
    from vesalius.knowledge.store import read_graph
    from vesalius.train.progress import progress_bar
    from vesalius.volumes.layouts import LayoutOptions, layout_of
    from vesalius.volumes.prepare import PrepareSettings, prepare

    resolver = Resolver(read_graph(graph))
    options = LayoutOptions(folder=input, modality=modality, salt=salt, noncommercial=noncommercial_atlases)
    sources = list(layout_of(layout)(options))
    with progress_bar("Cases", total=len(sources)) as advance:
        outcome = prepare(
            sources,
            resolver=resolver,
            settings=PrepareSettings(spacing_mm=spacing_mm),
            out=out,
            inputs={"graph": sha256_of_folder(graph)},
            progress=lambda case_id, _done, _all: advance(1, note=case_id),
        )
    for label in outcome.unresolved:
        print(f"{label.case_id}: label {label.label!r}: {label.reason}")
    for reject in outcome.rejects:
        print(f"left out {reject.case_id}: {reject.reason}", file=sys.stderr)
    print(f"cases: {out} ({len(outcome.cases)} prepared, {len(outcome.rejects)} left out)")
    if outcome.rejects:
        raise InputError(
            f"{len(outcome.rejects)} of {len(sources)} cases were left out", where=out, remedy="see rejects.parquet"
        )


def train_text(
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
        recipe: name of a complete configuration: text.
        config: config.yaml of an earlier run, instead of a recipe.
        init: encoder to start from: minilm, a sentence-transformers folder, or hub:OWNER/NAME.
        num_steps: optimiser updates.
        batch_size: pairs a step.
        learning_rate: peak of the schedule.
        seed: of every draw.
    """
    from vesalius import recipes
    from vesalius.folder import sha256_of_folder
    from vesalius.knowledge.split import split_concepts
    from vesalius.knowledge.store import read_graph
    from vesalius.train.run import train_text as train
    from vesalius.train.text import TextSettings

    settings = recipes.resolved(
        TextSettings, recipes.TEXT_RECIPES, recipe=recipe, config=config,
        overrides={
            "init": init, "loop.num_steps": num_steps, "data.batch_size": batch_size,
            "loop.optim.learning_rate": learning_rate, "loop.seed": seed,
        },
    )  # fmt: skip
    read = read_graph(graph)
    train(read, split_concepts(read), settings, out=out, graph_hash=sha256_of_folder(graph))
    print(f"encoder: {out / 'encoder'}")


def train_regions(
    *,
    graph: Path,
    cases: Path,
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
        init: run folder of stage 1.
        out: run folder to write; its encoder/ is a sentence-transformers folder.
        recipe: name of a complete configuration: regions.
        config: config.yaml of an earlier run, instead of a recipe.
        size: U-Net: unet-tiny, or the published unet, unet-l, unet-h.
        num_steps: optimiser updates.
        learning_rate: peak of the schedule.
        seed: of every draw.
    """
    from vesalius import recipes
    from vesalius.folder import sha256_of_folder
    from vesalius.knowledge.split import split_concepts
    from vesalius.knowledge.store import read_graph
    from vesalius.train.regions import RegionSettings
    from vesalius.train.run import train_regions as train
    from vesalius.volumes.store import CaseStore

    settings = recipes.resolved(
        RegionSettings, recipes.REGION_RECIPES, recipe=recipe, config=config,
        overrides={
            "size": size, "loop.num_steps": num_steps, "loop.optim.learning_rate": learning_rate, "loop.seed": seed,
        },
    )  # fmt: skip
    read = read_graph(graph)
    hashes = {"graph": sha256_of_folder(graph), "cases": sha256_of_folder(cases)}
    train(read, split_concepts(read), CaseStore.open(cases), settings, init=init, out=out, hashes=hashes)
    print(f"encoder: {out / 'encoder'}")


def eval_encoder(
    encoders: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    graph: Path,
    out: Path,
    candidates: Literal["anatomy", "all"] = "anatomy",
) -> None:
    """Measure encoders on held-out concepts: definition → name, synonym → name.

    Args:
        encoders: run folders, sentence-transformers folders, or minilm.
        graph: graph folder.
        out: JSON file to write.
        candidates: what texts choose among: preferred names of anatomy, or all names and synonyms of all concepts.
    """
    import json

    from vesalius.errors import SettingError
    from vesalius.eval.encoder import evaluate_encoder, num_texts
    from vesalius.folder import write_text
    from vesalius.knowledge.split import split_concepts
    from vesalius.knowledge.store import read_graph
    from vesalius.train.progress import progress_bar
    from vesalius.train.run import load_encoder

    if not encoders:
        raise SettingError("no encoder named", remedy="name at least one run or encoder folder")
    read = read_graph(graph)
    test = {concept for concept, side in split_concepts(read).items() if side == "test"}
    results = {}
    for name in encoders:
        encoder = load_encoder(name)
        with progress_bar(f"Evaluate {Path(name).name}", total=num_texts(read, test, candidates)) as advance:
            found = evaluate_encoder(
                encoder, read, concepts=test, candidates=candidates, advance=lambda num: advance(num)
            )
        results[name] = {task: scores.as_json() for task, scores in found.tasks.items()}
    write_text(out, json.dumps({"candidates": candidates, "retrieval": results}, indent=2) + "\n")
    _print_retrieval(Console(), results)
    print(f"report: {out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 for what the user can put right, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        from vesalius.folder import version

        print(f"vesalius {version()}")
        return 0
    _quieten()
    try:
        tyro.cli(
            _COMMANDS,
            prog="vesalius",
            description="Teaches a text encoder human anatomy. Research software, not a medical device.",
            args=arguments or ["--help"],
            config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    except VesaliusError as error:
        print(f"vesalius: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("vesalius"):
            raise
        print(f"vesalius: {error.name} is not installed – pip install 'vesalius[demo]'", file=sys.stderr)
        return EXIT_USAGE
    return 0


def _print_retrieval(console: Console, results: dict[str, dict[str, dict[str, Any]]]) -> None:
    table = Table("encoder", "task", "R@1", "95 %", "R@5", "R@10", "MRR", title="Held-out concepts")
    for encoder, tasks in results.items():
        for task, scores in tasks.items():
            low, high = scores["recall_at_1_interval"]
            shares = [f"{100 * scores[key]:.1f}" for key in ("recall_at_1", "recall_at_5", "recall_at_10", "mrr")]
            shares.insert(1, f"{100 * low:.0f}–{100 * high:.0f}")
            table.add_row(encoder, task.replace("_to_", " → "), *shares)
    console.print(table)


def _print_regions(console: Console, results: dict[str, dict[str, Any]]) -> None:
    table = Table("task", "names", "n", "R@1", "R@5", "chance", title="Held-out image")
    for task, scores in results.items():
        for group, found in {
            "all": scores,
            **{key: scores[key] for key in ("seen", "unseen") if key in scores},
        }.items():
            shares = [f"{100 * found[key]:.1f}" for key in ("recall_at_1", "recall_at_5", "chance_at_1")]
            table.add_row(task.replace("_to_", " → "), group, str(found["num"]), *shares)
    console.print(table)


def _quieten() -> None:
    """Keeps other libraries' progress bars and notes off the terminal; ours are enough."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)


def _group(name: str, description: str, commands: dict[str, Callable[..., None]]) -> Any:
    choices = Union[  # noqa: UP007  built at run time
        tuple(
            Annotated[Any, tyro.conf.subcommand(name=command, constructor=function)]
            for command, function in commands.items()
        )
    ]

    chosen = make_dataclass(name.title(), [("command", choices)])
    return Annotated[Any, tyro.conf.subcommand(name=name, constructor=chosen, description=description)]


_COMMANDS: Any = Union[  # noqa: UP007  some members are built at run time
    Annotated[Any, tyro.conf.subcommand(name="demo", constructor=demo)],
    _group(
        "knowledge",
        "Anatomy in words: build a graph, look things up.",
        {"build": knowledge_build, "show": knowledge_show},
    ),
    _group("volumes", "Anatomy in voxels: prepare cases.", {"prepare": volumes_prepare}),
    _group("train", "Teach an encoder.", {"text": train_text, "regions": train_regions}),
    _group("eval", "Measure an encoder.", {"encoder": eval_encoder}),
]

if __name__ == "__main__":
    sys.exit(main())
