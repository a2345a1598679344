"""The whole line on data that ships in installed packages: knowledge, cases, stage 1, stage 2, evaluation, report."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vesalius.errors import SettingError
from vesalius.eval.encoder import evaluate_encoder, num_texts
from vesalius.eval.landscape import body_systems, embedding_map, nearest_names, rows_by_system
from vesalius.eval.regions import CaseEmbeddings, embed_case, panel_regions, region_scores
from vesalius.eval.report import (
    Curve,
    EmbeddingMap,
    ImagePanel,
    Neighbours,
    PanelRegion,
    RegionRow,
    ReportContent,
    RetrievalRow,
    write_report,
)
from vesalius.eval.retrieval import RetrievalScores, candidate_names
from vesalius.folder import Origin, commit, sha256_of_folder, write_manifest, write_text, writing
from vesalius.ids import CaseId, ConceptId, Split
from vesalius.knowledge.build import NUM_STEPS_OF_MERGE, build
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.resolve import Resolver
from vesalius.knowledge.split import split_concepts
from vesalius.knowledge.store import read_graph
from vesalius.model.export import write_model_card
from vesalius.model.text_encoder import TextEncoder
from vesalius.recipes import DemoSettings
from vesalius.train.config import CONFIG, refuse_other_settings, to_yaml
from vesalius.train.log import read_metrics
from vesalius.train.progress import progress_bar, say
from vesalius.train.run import (
    ENCODER,
    copy_encoder,
    load_initial_encoder,
    load_region_model,
    read_run,
    train_regions,
    train_text,
)
from vesalius.volumes.layouts import LayoutOptions, layout_of
from vesalius.volumes.prepare import prepare
from vesalius.volumes.store import CaseStore

STAGES = {"base": "base", "text": "stage 1 (text)", "regions": "stage 2 (regions)"}
"""Name in ``report.json`` → name for people."""

TASKS = {
    "definition_to_name": "definition → name",
    "synonym_to_name": "synonym → name",
    "name_to_region": "name → region",
    "region_to_name": "region → name",
}
NUM_PANEL_REGIONS = 6
MIN_MAP_NAMES = 3
"""Fewer held-out names cannot be laid out in a plane; the report then has no map."""

REGION_CAVEAT = (
    "The brain images are averages over many people in one common space, all much alike, and one of them is held out. "
    "These numbers show that the machinery works; they say nothing about how it generalises to patients."
)


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """An encoder on held-out concepts.

    Attributes:
        scores: task → scores as in ``report.json``.
        embeddings: `m d` of the candidates.
    """

    scores: dict[str, dict[str, Any]]
    embeddings: Float32[np.ndarray, "m d"]


def run_demo(settings: DemoSettings, out: Path, *, recipe: str) -> dict[str, Any]:
    """Runs the whole line into `out` and returns what ``report.json`` holds; a second call goes on where the first stopped.

    Raises:
        SettingError: `out` holds a demo with other settings.
        VesaliusError: as each step says.
    """
    began = time.monotonic()
    _begin(out, settings)

    graph = _knowledge(settings, out / "graph")
    sides = split_concepts(graph)
    store = _cases(settings, graph, out / "cases")
    hashes = {"graph": sha256_of_folder(out / "graph"), "cases": sha256_of_folder(out / "cases")}

    base = _evaluated(
        out,
        "base",
        settings,
        graph,
        sides,
        lambda: load_initial_encoder(settings.text.init, pooling=settings.text.pooling),
    )
    train_text(graph, sides, settings.text, out=out / "text", graph_hash=hashes["graph"])
    text = _evaluated(out, "text", settings, graph, sides, lambda: TextEncoder.load(out / "text" / ENCODER))
    train_regions(graph, sides, store, settings.regions, init=out / "text", out=out / "regions", hashes=hashes)
    regions = _evaluated(out, "regions", settings, graph, sides, lambda: TextEncoder.load(out / "regions" / ENCODER))

    evaluated = {"base": base, "text": text, "regions": regions}
    embedded, seen = _embedded_cases(store, out / "regions")
    held_out = next(row.case_id for row in store.cases if row.split == "test")
    found = region_scores(embedded[held_out], seen=seen)
    results = {
        "retrieval": {stage: evaluated[stage].scores for stage in STAGES},
        "regions": {task: _region_json(scores) for task, scores in found.items()},
    }
    _hand_out(out, results)
    with progress_bar("Report", total=1) as advance:
        facts = _facts(recipe, time.monotonic() - began)
        write_report(
            _content(settings, out, graph, sides, store, evaluated, embedded, found, held_out, facts),
            out / "report.html",
        )
        advance(1)
    write_text(out / "report.json", json.dumps({**results, "facts": facts}, indent=2, ensure_ascii=False) + "\n")
    write_manifest(
        out, kind="demo", schema=1, origins=_origins(out), inputs=hashes, seed=settings.text.loop.seed,
        details={"recipe": recipe},
    )  # fmt: skip
    return results


def _begin(out: Path, settings: DemoSettings) -> None:
    if (out / CONFIG).is_file():
        refuse_other_settings(out, settings, what="demo")
    elif out.exists() and any(out.iterdir()):
        raise SettingError("is not empty and holds no demo", where=out, remedy="give another --out")
    write_text(out / CONFIG, to_yaml(settings))


def _knowledge(settings: DemoSettings, folder: Path) -> Graph:
    if not (folder / "manifest.json").is_file():
        total = len(settings.sources) + NUM_STEPS_OF_MERGE
        with progress_bar("Knowledge graph", total=total) as advance:
            build(settings.sources, folder, advance=lambda done: advance(1, note=done))
    return read_graph(folder)


def _cases(settings: DemoSettings, graph: Graph, folder: Path) -> CaseStore:
    sources = list(layout_of("atlas")(LayoutOptions(noncommercial=settings.noncommercial_atlases)))
    with progress_bar("Cases", total=len(sources)) as advance:
        outcome = prepare(
            sources,
            resolver=Resolver(graph),
            settings=settings.prepare,
            out=folder,
            progress=lambda case_id, _done, _all: advance(1, note=case_id),
        )
    for reject in outcome.rejects:
        say(f"left out: {reject.case_id}: {reject.reason}")
    return CaseStore.open(folder)


def _evaluated(
    out: Path,
    stage: str,
    settings: DemoSettings,
    graph: Graph,
    sides: Mapping[ConceptId, Split],
    load: Callable[[], TextEncoder],
) -> Evaluated:
    """Evaluates an encoder on the test side, or reads what an earlier call found."""
    path = out / "evaluation" / f"{stage}.npz"
    if not path.is_file():
        test = {concept for concept, side in sides.items() if side == "test"}
        total = num_texts(graph, test, settings.candidates)
        with progress_bar(f"Evaluate {STAGES[stage]}", total=total) as advance:
            found = evaluate_encoder(
                load(), graph, concepts=test, candidates=settings.candidates, advance=lambda num: advance(num)
            )
        scores = {task: scores.as_json() for task, scores in found.tasks.items()}
        with writing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, embeddings=found.embeddings, scores=np.array(json.dumps(scores)))
    with np.load(path, allow_pickle=False) as arrays:
        return Evaluated(scores=json.loads(str(arrays["scores"])), embeddings=arrays["embeddings"])


def _embedded_cases(store: CaseStore, run: Path) -> tuple[dict[CaseId, CaseEmbeddings], set[str]]:
    model, keys = load_region_model(run)
    with progress_bar("Evaluate regions", total=len(store.cases)) as advance:
        embedded = {}
        for row in store.cases:
            embedded[row.case_id] = embed_case(
                store, row.case_id, encoder=model.encoder, regions=model.regions, aligner=model.aligner
            )
            advance(1, note=row.case_id)
    return embedded, set(keys)


def _region_json(scores: Mapping[str, RetrievalScores]) -> dict[str, Any]:
    """Returns the scores of all names, with those of seen and unseen ones inside."""
    return {**scores["all"].as_json(), **{group: scores[group].as_json() for group in scores if group != "all"}}


def _hand_out(out: Path, results: Mapping[str, Any]) -> None:
    copy_encoder(out / "regions", out / ENCODER)
    shown = {task: TASKS[task] for task in results["retrieval"]["base"]}
    table = {
        "encoder": list(STAGES.values()),
        **{
            f"{name}, recall at 1": [
                f"{100 * results['retrieval'][stage][task]['recall_at_1']:.1f} %" for stage in STAGES
            ]
            for task, name in shown.items()
        },
    }
    recipe = (out / CONFIG).read_text(encoding="utf-8")
    write_model_card(out / ENCODER, title="Vesalius demo encoder", origins=_origins(out), results=table, recipe=recipe)


def _origins(out: Path) -> list[Origin]:
    return [Origin(**source) for source in read_run(out / "regions")["sources"]]


def _facts(recipe: str, seconds: float) -> dict[str, str]:
    return {
        "recipe": recipe,
        "commit": commit() or "installed package",
        "device": f"{_processor()}, {os.cpu_count()} cores",
        "time of this call": f"{seconds / 60:.1f} min",
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _content(
    settings: DemoSettings,
    out: Path,
    graph: Graph,
    sides: Mapping[ConceptId, Split],
    store: CaseStore,
    evaluated: Mapping[str, Evaluated],
    embedded: Mapping[CaseId, CaseEmbeddings],
    found: Mapping[str, Mapping[str, RetrievalScores]],
    held_out: CaseId,
    facts: Mapping[str, str],
) -> ReportContent:
    num_candidates = len(candidate_names(graph, settings.candidates)[0])
    counts = graph.counts()
    return ReportContent(
        title="Vesalius demo",
        summary=(
            "A small sentence encoder was taught anatomy on the processor it runs on: first from names, synonyms and "
            "definitions of UBERON and of the Vesalius handbook, then from labelled regions of a chest CT and a brain template."
        ),
        facts=facts,
        retrieval=[
            _retrieval_row(STAGES[stage], TASKS[task], scores)
            for stage, done in evaluated.items()
            for task, scores in done.scores.items()
        ],
        num_candidates=num_candidates,
        retrieval_note=(
            "A tenth of all concepts, chosen by a hash of their id before anything was trained, is held out with all its texts; "
            "another tenth chose the checkpoint. Intervals are 95 % bootstrap intervals over queries."
        ),
        regions=[
            RegionRow(
                task=TASKS[task], group=_GROUPS[group], num=scores.num, recall_at_1=scores.recall_at_1,
                recall_at_5=scores.recall_at_5, chance=scores.chance_at_1,
            )
            for task, groups in found.items()
            for group, scores in groups.items()
        ],
        held_out_image=held_out,
        caveats=[REGION_CAVEAT],
        curves=[_curve("Stage 1: text", out / "text", "loss"), _curve("Stage 2: regions", out / "regions", "region_loss")],
        maps=_maps(settings, graph, sides, evaluated),
        maps_note="Held-out names that belong to one body system, laid out by t-SNE on 30 principal components.",
        neighbours=_neighbours(settings, graph, evaluated),
        images=[_panel(store, embedded[row.case_id]) for row in store.cases],
        graph_counts={f"{kind} ({source})": num for source, kinds in counts.items() for kind, num in kinds.items() if num},
        untied_labels=sorted({region.name for case in embedded.values() for region in case.regions if region.tied_by == "none"}),
        origins=_origins(out),
        config_yaml=to_yaml(settings),
    )  # fmt: skip


_GROUPS = {"all": "all names", "seen": "seen names", "unseen": "unseen names"}


def _retrieval_row(stage: str, task: str, scores: Mapping[str, Any]) -> RetrievalRow:
    low, high = scores["recall_at_1_interval"]
    return RetrievalRow(
        stage=stage, task=task, num=scores["num"], recall_at_1=scores["recall_at_1"], recall_at_1_interval=(low, high),
        recall_at_5=scores["recall_at_5"], recall_at_10=scores["recall_at_10"], mrr=scores["mrr"],
    )  # fmt: skip


def _curve(stage: str, run: Path, loss: str) -> Curve:
    lines = read_metrics(run)
    steps = [line for line in lines if loss in line]
    validations = [line for line in lines if "validation/definition_to_name_mrr" in line]
    return Curve(
        stage=stage,
        steps=[line["step"] for line in steps],
        losses=[line[loss] for line in steps],
        validation_steps=[line["step"] for line in validations],
        validation_values=[line["validation/definition_to_name_mrr"] for line in validations],
        validation_name="definition → name MRR, validation",
        learning_rates=[line["lr"] for line in steps],
        logit_scales=[line["logit_scale"] for line in steps],
    )


def _maps(
    settings: DemoSettings, graph: Graph, sides: Mapping[ConceptId, Split], evaluated: Mapping[str, Evaluated]
) -> list[EmbeddingMap]:
    _, owners = candidate_names(graph, settings.candidates)
    test = [place for place, owner in enumerate(owners) if sides[owner] == "test"]
    systems = {
        place: system
        for place, system in zip(test, body_systems(graph, [owners[place] for place in test]), strict=True)
        if system is not None
    }
    rows = rows_by_system(systems, settings.num_map_names)
    if len(rows) < MIN_MAP_NAMES:
        return []
    return [
        embedding_map(evaluated[stage].embeddings[rows], [systems[row] for row in rows], title=title)
        for stage, title in (("base", "before: base"), ("regions", "after: stage 2"))
    ]


def _neighbours(settings: DemoSettings, graph: Graph, evaluated: Mapping[str, Evaluated]) -> list[Neighbours]:
    names, owners = candidate_names(graph, settings.candidates)
    places = {name: place for place, name in reversed(list(enumerate(names)))}
    made = []
    for name in settings.neighbour_names:
        if name not in places:
            raise SettingError(f"{name!r} is no name of the graph", where="neighbour_names", remedy="choose another")
        place = places[name]
        before, after = (
            nearest_names(
                done.embeddings[place], done.embeddings, names=names, owners=owners, concept=owners[place], graph=graph
            )
            for done in (evaluated["base"], evaluated["regions"])
        )
        made.append(Neighbours(name=name, before=before, after=after))
    return made


def _panel(store: CaseStore, case: CaseEmbeddings) -> ImagePanel:
    row = store.case(case.regions[0].case_id)
    shown = []
    for place in panel_regions(case, num=NUM_PANEL_REGIONS, num_voxels=math.prod(row.shape)):
        region, called = case.regions[place], case.called(place)
        shown.append(
            PanelRegion(
                name=region.name, mask=store.read_mask(region), called=called, is_right=called[0] == region.name
            )
        )
    held_out = " – held out" if row.split == "test" else ""
    image = store.read_image(row.case_id)
    low, high = np.percentile(image, [1, 99.5])
    return ImagePanel(
        name=f"{row.case_id}{held_out}",
        modality=row.modality,
        image=image,
        display_range=(float(low), float(high)),
        spacing_mm=row.spacing_mm,
        regions=shown,
    )
