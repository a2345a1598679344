"""Several real processes train as one would."""

import json
from dataclasses import replace

import launched
import numpy as np
import pytest
import torch

from vesalius.corpus.crops import CropSettings
from vesalius.errors import VesaliusError
from vesalius.model.region_encoder import UNetSize
from vesalius.model.region_model import RegionModelSize
from vesalius.train.log import PERFORMANCE, read_metrics
from vesalius.train.loop import LoopSettings
from vesalius.train.optim import OptimSettings
from vesalius.train.processes import Processes
from vesalius.train.region_memory import RegionMemorySettings
from vesalius.train.regions import RegionSettings
from vesalius.train.text import TextSettings
from vesalius.train.text_data import TextData

LOOP = LoopSettings(
    num_steps=4, validate_every=2, checkpoint_every=2, optim=OptimSettings(learning_rate=1e-3), keep="last"
)


@pytest.fixture
def text_plan(graph, sides, tiny_encoder, tiny_cases):
    settings = TextSettings(
        data=TextData(batch_size=13, neighbourhood_size=4), train_layers=2, train_embeddings=True, loop=LOOP
    )
    return launched.Plan(settings=settings, encoder=tiny_encoder, graph=graph, sides=sides, cases=tiny_cases)


@pytest.fixture
def region_plan(text_plan):
    settings = RegionSettings(
        network=RegionModelSize(unet=UNetSize(channels=(4, 6)), width=16),
        crops=CropSettings(size=(16, 16, 8), max_regions=4),
        crops_per_step=3,
        crop_workers=0,
        text=TextData(batch_size=8, neighbourhood_size=1),
        train_layers=1,
        train_embeddings=False,
        text_learning_rate_scale=0.1,
        loop=LOOP,
        memory=RegionMemorySettings(size=9),
    )
    return replace(text_plan, settings=settings)


def assert_equal(one, other, *, to):
    losses, gradients, values = one
    other_losses, other_gradients, other_values = other
    assert losses == pytest.approx(other_losses, rel=to)
    assert values == pytest.approx(other_values, rel=to)
    assert gradients.keys() == other_gradients.keys()
    largest = max(np.abs(gradient).max() for gradient in gradients.values())
    assert largest > 0.01
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, other_gradients[name], rtol=to, atol=to * float(largest), err_msg=name)


def test_what_two_processes_exchange(launch):
    first, second = (outcome.answer for outcome in launch(2, launched.laws))
    for answer in (first, second):
        assert answer["gathered"] == [[0.0, 1.0]]
        assert answer["objects"] == [{"rank": 0}, {"rank": 1}]
        assert answer["table"] == [[0.0, 7.0], [1.0, 7.0]]
        assert (answer["sum"], answer["from_first"], answer["broadcast"]) == (3, 0, 0.0)
        assert answer["gradients"] == [[1.0, 1.0], [3.0, 3.0], None]
    assert (first["gradient"], second["gradient"]) == ([], [[3.0, 3.0]])
    assert (first["share"], second["share"]) == ([0, 2, 4], [1, 3])
    assert first["failed"] == ("no room", "make some", False)
    assert second["failed"] == ("no room", "make some", True)


def test_one_process_is_given_back_what_it_gives():
    alone, features = Processes(), torch.zeros(2, 3, requires_grad=True)
    assert alone.gather(features) is features
    assert alone.share([1, 2, 3]) == [1, 2, 3]
    assert alone.gather_objects("a") == ["a"]
    assert alone.from_first(lambda: 5) == 5
    assert alone.table([1.0, 2.0]).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("stage", ["text", "region"])
def test_two_processes_give_the_loss_and_the_gradients_of_one(stage, launch, request):
    plan = request.getfixturevalue(f"{stage}_plan")
    (alone,) = launch(1, launched.gradients, plan, False)
    for cached in (False, True):
        for outcome in launch(2, launched.gradients, plan, cached):
            assert_equal(alone.answer, outcome.answer, to=1e-6)
    (cached,) = launch(1, launched.gradients, plan, True)
    assert_equal(alone.answer, cached.answer, to=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["text", "region"])
def test_four_processes_give_the_loss_and_the_gradients_of_one(stage, launch, request):
    plan = request.getfixturevalue(f"{stage}_plan")  # with regions, one of the four has no crop
    (alone,) = launch(1, launched.gradients, plan, False)
    for cached in (False, True):
        for outcome in launch(4, launched.gradients, plan, cached):
            assert_equal(alone.answer, outcome.answer, to=1e-6)


def test_a_process_without_a_crop_takes_part(launch, region_plan):
    plan = replace(region_plan, settings=replace(region_plan.settings, crops_per_step=1))
    (alone,) = launch(1, launched.gradients, plan, False)
    for outcome in launch(2, launched.gradients, plan, False):
        assert_equal(alone.answer, outcome.answer, to=1e-6)


@pytest.mark.parametrize("stage", ["text", "region"])
def test_a_run_of_two_processes_is_that_of_one_and_one_of_them_writes(stage, launch, request, tmp_path):
    plan = request.getfixturevalue(f"{stage}_plan")
    (alone,) = launch(1, launched.train, plan, tmp_path / "one")
    first, second = launch(2, launched.train, plan, tmp_path / "two")
    assert first.answer == second.answer == pytest.approx(alone.answer, rel=1e-4, abs=1e-4)
    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert [line.keys() for line in one] == [line.keys() for line in two]
    assert len(two) == 4 + 2
    for line, other in zip(one, two, strict=True):
        assert line == pytest.approx(other, rel=1e-5)
    performance = [json.loads(line) for line in (tmp_path / "two" / PERFORMANCE).read_text().splitlines()]
    assert [line["step"] for line in performance] == [1, 2, 3, 4]
    assert all(0 < line["data_share"] < 1 and line["peak_memory_mb"] > 0 for line in performance)
    assert [("checkpoint_s" in line) for line in performance] == [False, True, False, True]


def test_a_loss_that_is_not_finite_stops_every_process(launch, text_plan, tmp_path):
    steep = replace(LOOP, optim=OptimSettings(learning_rate=1e30, warmup_share=0.0))
    plan = replace(text_plan, settings=replace(text_plan.settings, loop=steep))
    errors = [outcome.answer for outcome in launch(2, launched.train, plan, tmp_path)]
    assert [error.is_told for error in errors] == [False, True]
    for error in errors:
        assert "of step 2 is not finite; the batch holds UBERON:" in str(error)
        assert "smaller learning rate" in str(error)


def test_a_process_that_ends_is_missed_in_a_line(launch, text_plan, tmp_path):
    first, second = launch(2, launched.train, text_plan, tmp_path, "exit", 3)
    assert "a crop that cannot be read" in str(second.answer)
    assert isinstance(first.answer, VesaliusError)
    assert "lost the other processes" in str(first.answer)
