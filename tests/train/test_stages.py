"""Both stages on a graph, an encoder and cases small enough to run whole."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vesalius import recipes
from vesalius.corpus.crops import CropSettings
from vesalius.errors import FolderError, InputError, SettingError
from vesalius.knowledge.graph import Graph
from vesalius.model.text_encoder import TextEncoder
from vesalius.train import run as runs
from vesalius.train.checkpoint import Checkpoints
from vesalius.train.config import from_yaml
from vesalius.train.log import read_metrics
from vesalius.train.region_memory import RegionMemorySettings
from vesalius.train.regions import RegionSettings, RegionStage, region_prompts
from vesalius.train.run import load_region_model, read_run, train_regions, train_text
from vesalius.train.sources import open_source
from vesalius.train.text import TextStage

GOLDEN = Path(__file__).with_name("golden_curves.json")
"""Losses of ten steps, fp32 on CPU. A change of method moves them and is told in CHANGELOG.md under Numbers."""


@pytest.fixture
def text_settings(tiny_encoder):
    return replace(recipes.text_tiny(), init=str(tiny_encoder))


@pytest.fixture
def region_settings():
    return recipes.regions_tiny()


@pytest.fixture
def text_run(graph, sides, text_settings, tmp_path):
    train_text(graph, sides, text_settings, out=tmp_path / "text", graph_hash="g")
    return tmp_path / "text"


def losses(run, name="loss"):
    return [line[name] for line in read_metrics(run) if name in line]


def test_ten_steps_of_stage_1_give_the_golden_curve(text_run):
    assert losses(text_run) == pytest.approx(json.loads(GOLDEN.read_text())["text"], rel=1e-3)


def test_ten_steps_of_stage_2_give_the_golden_curve(graph, sides, tiny_cases, text_run, region_settings, tmp_path):
    train_regions(graph, sides, tiny_cases, region_settings, init=text_run, out=tmp_path / "regions", hashes={})
    golden = json.loads(GOLDEN.read_text())["regions"]
    for name, values in golden.items():
        assert losses(tmp_path / "regions", name) == pytest.approx(values, rel=1e-3)


def test_both_stages_learn(graph, sides, tiny_cases, text_run, region_settings, tmp_path):
    longer = replace(region_settings, loop=replace(region_settings.loop, num_steps=40))
    train_regions(graph, sides, tiny_cases, longer, init=text_run, out=tmp_path / "regions", hashes={})
    text, regions = losses(text_run), losses(tmp_path / "regions", "region_loss")
    assert sum(text[-3:]) < sum(text[:3])
    assert sum(regions[-5:]) < 0.8 * sum(regions[:5])


KINDS = {
    "plain": {},
    "in turn": {"updates": "alternating", "positives": "own"},
    "with a memory": {"memory": RegionMemorySettings(size=20, begin_after=2)},
}


@pytest.mark.parametrize(("kind", "stop_at"), [("plain", 4), ("plain", 7), ("in turn", 8), ("with a memory", 8)])
def test_a_stopped_run_of_stage_2_goes_on_bit_for_bit(
    graph, sides, tiny_cases, text_run, region_settings, tmp_path, monkeypatch, kind, stop_at
):
    settings = replace(region_settings, **KINDS[kind])

    def train(out):
        train_regions(graph, sides, tiny_cases, settings, init=text_run, out=out, hashes={"cases": "c"})

    train(tmp_path / "whole")
    draw, drawn = RegionStage.draw, []

    def draw_and_stop(stage):
        drawn.append(stage)
        if len(drawn) == stop_at:
            raise KeyboardInterrupt
        return draw(stage)

    monkeypatch.setattr(RegionStage, "draw", draw_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped")
    monkeypatch.setattr(RegionStage, "draw", draw)
    train(tmp_path / "stopped")
    assert read_metrics(tmp_path / "stopped") == read_metrics(tmp_path / "whole")
    (one, keys), (other, _) = (load_region_model(tmp_path / name) for name in ("whole", "stopped"))
    assert keys == ["UBERON:0000002", "UBERON:0000012", "UBERON:0000022", "UBERON:0000032"]
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_updates_in_turn_train_by_regions_and_by_pairs_alone(
    graph, sides, tiny_cases, text_run, region_settings, tmp_path
):
    settings = replace(region_settings, updates="alternating")
    train_regions(graph, sides, tiny_cases, settings, init=text_run, out=tmp_path / "run", hashes={})
    lines = [line for line in read_metrics(tmp_path / "run") if "loss" in line]
    for step, line in enumerate(lines):
        if step % 2 == 0:
            assert line["loss"] == pytest.approx(line["region_loss"])
            assert "text_loss" not in line
        else:
            assert line["loss"] == pytest.approx(line["text_loss"] + line["projected_text_loss"])
            assert "region_loss" not in line


def test_a_memory_is_of_no_effect_before_it_begins_and_harder_then(
    graph, sides, tiny_cases, text_run, region_settings, tmp_path
):
    for name, memory in (
        ("plain", RegionMemorySettings()),
        ("remembering", RegionMemorySettings(size=50, begin_after=3)),
    ):
        settings = replace(region_settings, memory=memory)
        train_regions(graph, sides, tiny_cases, settings, init=text_run, out=tmp_path / name, hashes={})
    plain, remembering = (losses(tmp_path / name, "region_loss") for name in ("plain", "remembering"))
    assert plain[:4] == remembering[:4]  # begins after 3: remembers the 4th, is asked at the 5th
    assert plain[4] != remembering[4]


def test_a_run_goes_on_with_other_workers_and_other_checkpoints(
    graph, sides, tiny_cases, text_run, region_settings, tmp_path, monkeypatch
):
    whole, other = replace(region_settings, crop_workers=0), replace(region_settings, crop_workers=1)
    other = replace(other, loop=replace(other.loop, checkpoint_every=2, keep_last=1))
    train_regions(graph, sides, tiny_cases, whole, init=text_run, out=tmp_path / "whole", hashes={})
    saved, save = [], Checkpoints.save

    def save_and_stop(*given, **named):
        saved.append(given)
        if len(saved) == 2:
            raise KeyboardInterrupt
        return save(*given, **named)

    monkeypatch.setattr(Checkpoints, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train_regions(graph, sides, tiny_cases, whole, init=text_run, out=tmp_path / "run", hashes={})
    monkeypatch.setattr(Checkpoints, "save", save)
    train_regions(graph, sides, tiny_cases, other, init=text_run, out=tmp_path / "run", hashes={})
    assert read_metrics(tmp_path / "run") == read_metrics(tmp_path / "whole")
    assert from_yaml(RegionSettings, tmp_path / "run" / "config.yaml") == other


def test_workers_draw_what_the_training_process_would(graph, sides, tiny_cases, text_run, region_settings, tmp_path):
    for workers in (0, 1):
        settings = replace(region_settings, crop_workers=workers, loop=replace(region_settings.loop, num_steps=3))
        train_regions(graph, sides, tiny_cases, settings, init=text_run, out=tmp_path / str(workers), hashes={})
    assert read_metrics(tmp_path / "0") == read_metrics(tmp_path / "1")


def test_a_finished_run_is_not_trained_again(graph, sides, text_run, text_settings, monkeypatch):
    monkeypatch.setattr(runs, "fit", None)
    train_text(graph, sides, text_settings, out=text_run, graph_hash="g")
    with pytest.raises(SettingError, match="other inputs"):
        train_text(graph, sides, text_settings, out=text_run, graph_hash="another")
    with pytest.raises(SettingError, match=r"other settings \(train_layers: .*, now 1\)"):
        train_text(graph, sides, replace(text_settings, train_layers=1), out=text_run, graph_hash="g")


def test_a_text_run_holds_no_region_model(text_run, tmp_path):
    with pytest.raises(FolderError, match="stage 'text'"):
        load_region_model(text_run)
    with pytest.raises(FolderError, match="no run folder here"):
        load_region_model(tmp_path / "nowhere")


def test_no_held_out_synonym_is_asked_of_an_image(graph, sides, tiny_cases):
    asked = region_prompts(graph, sides)
    (case, *_) = tiny_cases.cases
    region = tiny_cases.regions(case.case_id)[0]
    assert asked(region) == ["kidney 2", "organ no 2"]
    held_out = {**sides, region.concept_id: "test"}
    assert region_prompts(graph, held_out)(region) == ["kidney 2"]


def test_the_handed_out_encoder_is_the_trained_one(text_run, tiny_encoder):
    trained, untrained = TextEncoder.load(text_run / "encoder"), TextEncoder.load(tiny_encoder)
    pairs = zip(trained.state_dict().values(), untrained.state_dict().values(), strict=True)
    assert any(not torch.equal(one, other) for one, other in pairs)
    best = torch.load(text_run / "checkpoints" / "best.pt", weights_only=True)["model"]
    for name, tensor in trained.state_dict().items():
        torch.testing.assert_close(tensor, best[f"encoder.{name}"])


def test_the_card_has_the_validation_of_the_weights_that_were_kept(graph, sides, text_settings, tmp_path, monkeypatch):
    scores = iter([0.75, 0.25])
    monkeypatch.setattr(TextStage, "validate", lambda _: (score := next(scores), {"name_mrr": score}))
    train_text(graph, sides, text_settings, out=tmp_path / "run", graph_hash="g")
    assert read_run(tmp_path / "run")["step"] == 5
    source = open_source(tmp_path / "run", base=None)
    assert source.step == 5
    for facts in ((tmp_path / "run" / "encoder" / "README.md").read_text(), str(source.facts())):
        assert "Validation after step 5" in facts
        assert "0.750" in facts


@pytest.mark.parametrize("stage", ["text", "regions"])
def test_a_run_that_nothing_could_validate_is_refused_at_its_start(
    graph, sides, tiny_cases, text_run, text_settings, region_settings, tmp_path, stage
):
    without = {concept: "train" if side == "validation" else side for concept, side in sides.items()}
    out = tmp_path / "run"
    train = {
        "text": lambda: train_text(graph, without, text_settings, out=out, graph_hash="g"),
        "regions": lambda: train_regions(
            graph, without, tiny_cases, region_settings, init=text_run, out=out, hashes={}
        ),
    }
    with pytest.raises(InputError, match="none of the 0 concepts held out for validation has a definition or an exact"):
        train[stage]()
    assert not (tmp_path / "run").exists()


def test_texts_of_another_source_than_uberon_are_validated_by_themselves(graph, sides, text_settings, tmp_path):
    concepts = [
        replace(
            concept,
            source="fma",
            synonyms=tuple(replace(synonym, source="fma") for synonym in concept.synonyms),
            definitions=tuple(replace(definition, source="fma") for definition in concept.definitions),
        )
        for concept in graph
    ]
    settings = replace(text_settings, data=replace(text_settings.data, sources=("fma",)))
    train_text(Graph(concepts, [], graph.origins), sides, settings, out=tmp_path / "run", graph_hash="g")
    assert len(losses(tmp_path / "run", "validation/definition_to_name_mrr")) == 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"crops_per_step": 0}, "give 1 or more"),
        ({"crop_workers": -1}, "give 0 or more"),
        ({"crops": CropSettings(size=(16, 16, 16))}, "more than 16 voxels"),
    ],
)
def test_region_settings_that_cannot_work_are_refused(region_settings, wrong, words):
    with pytest.raises(SettingError, match=words):
        replace(region_settings, **wrong)


def test_cached_gradients_work_beside_a_frozen_encoder(graph, sides, tiny_cases, text_run, region_settings, tmp_path):
    loop = replace(region_settings.loop, num_steps=2)
    for name, cached in (("plain", False), ("cached", True)):
        settings = replace(region_settings, train_layers=0, loop=replace(loop, cached_gradients=cached))
        train_regions(graph, sides, tiny_cases, settings, init=text_run, out=tmp_path / name, hashes={})
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"train_layers": 0, "train_embeddings": False}, "every layer of the encoder is frozen"),
        ({"data": replace(recipes.text_tiny().data, max_length=4000)}, "max_length is 4000, but the encoder has"),
    ],
)
def test_text_settings_that_cannot_work_are_refused(graph, sides, text_settings, tmp_path, wrong, words):
    with pytest.raises(SettingError, match=words):
        train_text(graph, sides, replace(text_settings, **wrong), out=tmp_path / "run", graph_hash="g")


def test_an_unfinished_run_does_not_go_on_from_other_inputs(
    graph, sides, tiny_cases, text_run, text_settings, region_settings, tmp_path, monkeypatch
):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    other = tmp_path / "other"
    train_text(graph, sides, replace(text_settings, train_layers=1), out=other, graph_hash="g")
    monkeypatch.setattr(runs, "fit", stopped)

    def train(init, cases):
        train_regions(
            graph, sides, tiny_cases, region_settings, init=init, out=tmp_path / "regions", hashes={"cases": cases}
        )

    with pytest.raises(KeyboardInterrupt):
        train(text_run, "c")
    for init, cases in ((text_run, "d"), (other, "c")):
        with pytest.raises(SettingError, match="on other inputs"):
            train(init, cases)
