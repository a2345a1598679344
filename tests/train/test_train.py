import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from vesalius import recipes
from vesalius.errors import FolderError, SettingError, VesaliusError
from vesalius.model.aligner import LogitScale
from vesalius.train.config import differences, from_yaml, to_yaml
from vesalius.train.engine import Engine
from vesalius.train.log import METRICS, PERFORMANCE, read_metrics
from vesalius.train.loop import LoopSettings, fit
from vesalius.train.optim import OptimSettings, ParameterGroup


class Line:
    """Fits a line: the smallest stage there is."""

    name = "line"

    def __init__(self, *, stop_at=None):
        torch.manual_seed(0)
        self.module = nn.Linear(3, 1)
        self.position = 0
        self.stop_at = stop_at

    def parameter_groups(self):
        return [ParameterGroup(parameters=list(self.module.parameters()))]

    def draw(self):
        if self.position == self.stop_at:
            raise KeyboardInterrupt
        self.position += 1
        return torch.randn(8, 3, generator=torch.Generator().manual_seed(self.position))

    def parts(self, batch):
        return batch.split(3)

    def encode(self, part):
        return self.module(part)

    def contrast(self, features, batch):
        return ((torch.cat(features)[:, 0] - batch.sum(dim=1)) ** 2).mean(), {}

    def describe(self, batch):
        return f"{len(batch)} rows"

    def num_examples(self, batch):
        return len(batch)

    def validate(self):
        score = -float(self.module.bias.detach().abs().sum())
        return score, {"score": score}

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


LOOP = LoopSettings(
    num_steps=10, validate_every=4, checkpoint_every=3, optim=OptimSettings(learning_rate=0.1), keep="last"
)


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
    whole, stopped = Line(), Line(stop_at=8)
    fit(whole, LOOP, run=tmp_path / "whole", engine=Engine(accelerator="cpu"))
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, LOOP, run=tmp_path / "stopped", engine=Engine(accelerator="cpu"))
    again = Line()
    fit(again, LOOP, run=tmp_path / "stopped", engine=Engine(accelerator="cpu"))
    assert read_metrics(tmp_path / "stopped") == read_metrics(tmp_path / "whole")
    assert torch.equal(again.module.weight, whole.module.weight)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    whole = Line()
    fit(whole, LOOP, run=tmp_path, engine=Engine(accelerator="cpu"))
    newest = max((tmp_path / "checkpoints").glob("step-*.pt"))
    newest.write_bytes(newest.read_bytes()[:100])
    again = Line()
    fit(again, LOOP, run=tmp_path, engine=Engine(accelerator="cpu"))
    assert torch.equal(again.module.weight, whole.module.weight)


def test_a_loss_that_is_not_finite_stops_the_run_with_step_and_batch(tmp_path):
    line = Line()
    line.module.weight.data.fill_(float("nan"))
    with pytest.raises(VesaliusError, match=r"step 1 .* 8 rows"):
        fit(line, LOOP, run=tmp_path, engine=Engine(accelerator="cpu"))


def test_settings_survive_yaml(tmp_path):
    for make in recipes.DEMO_RECIPES.values():
        (tmp_path / "config.yaml").write_text(to_yaml(make()))
        assert from_yaml(recipes.DemoSettings, tmp_path / "config.yaml") == make()


def test_what_differs_between_settings_is_named(tmp_path):
    path, settings = tmp_path / "config.yaml", recipes.regions()
    path.write_text(to_yaml(settings))
    assert differences(settings, path) == []
    loop = replace(settings.loop, seed=9, checkpoint_every=settings.loop.checkpoint_every + 1)
    crops = replace(settings.crops, size=(32, 32, 48))
    changed = replace(settings, loop=loop, crops=crops, crop_workers=settings.crop_workers + 1)
    assert differences(changed, path) == [
        f"crops.size: {list(settings.crops.size)}, now [32, 32, 48]",
        "loop.seed: 0, now 9",
    ]
    path.write_text(to_yaml(settings).replace("positives:", "negatives:"))
    assert differences(settings, path) == ["positives: not given", "negatives: not known"]


@pytest.mark.parametrize("rubbish", [b"\0\0\xff\n", b'{"loss": 1.0}\n', b"7\n", b'{"step": 7'])
def test_lines_that_the_machine_lost_are_written_again(tmp_path, rubbish):
    fit(Line(), LOOP, run=tmp_path / "whole", engine=Engine(accelerator="cpu"))
    with pytest.raises(KeyboardInterrupt):
        fit(Line(stop_at=8), LOOP, run=tmp_path / "run", engine=Engine(accelerator="cpu"))
    for name in (METRICS, PERFORMANCE):
        lines = (tmp_path / "run" / name).read_bytes().splitlines(keepends=True)
        saved = [line for line in lines if json.loads(line)["step"] <= 6]
        (tmp_path / "run" / name).write_bytes(b"".join([*saved, rubbish]))
    fit(Line(), LOOP, run=tmp_path / "run", engine=Engine(accelerator="cpu"))
    assert read_metrics(tmp_path / "run") == read_metrics(tmp_path / "whole")


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    fit(Line(), LOOP, run=tmp_path, engine=Engine(accelerator="cpu"))
    wider = Line()
    wider.module = nn.Linear(4, 1)
    with pytest.raises(FolderError, match=r"step 10 was saved of another network .* give another --out"):
        fit(wider, LOOP, run=tmp_path, engine=Engine(accelerator="cpu"))


class Scaled(Line):
    """Learns a multiplier: a large one in the first steps, a small one then."""

    def __init__(self):
        super().__init__()
        self.module = LogitScale(initial=90.0)

    def encode(self, part):
        return self.module().expand(len(part))

    def contrast(self, features, batch):
        scale = torch.cat(features)
        loss = -scale.mean() if self.position <= 5 else scale.mean()
        return loss, {"logit_scale": scale[0].item()}

    def validate(self):
        return 0.0, {"score": 0.0}


def test_a_multiplier_that_reached_its_limit_comes_back(tmp_path):
    loop = replace(LOOP, num_steps=60, optim=OptimSettings(learning_rate=0.3, warmup_share=0.0))
    fit(Scaled(), loop, run=tmp_path, engine=Engine(accelerator="cpu"))
    scales = [line["logit_scale"] for line in read_metrics(tmp_path) if "logit_scale" in line]
    assert max(scales) == pytest.approx(100)
    assert scales[-1] < 50


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: OptimSettings(learning_rate=float("nan")), "learning_rate is nan"),
        (lambda: OptimSettings(learning_rate=1.0, weight_decay=-0.1), "weight_decay is -0.1"),
        (lambda: OptimSettings(learning_rate=1.0, max_grad_norm=0.0), "max_grad_norm is 0.0"),
        (lambda: replace(LOOP, seed=-1), "seed is -1"),
        (lambda: replace(LOOP, seed=2**32), "give a number from 0 to 4294967295"),
        (
            lambda: replace(recipes.text(), logit_scale_learning_rate_scale=-1.0),
            "logit_scale_learning_rate_scale is -1",
        ),
        (lambda: replace(recipes.regions(), text_learning_rate_scale=-1.0), "text_learning_rate_scale is -1"),
        (lambda: replace(recipes.text().data, batch_size=0), "batch_size is 0"),
        (lambda: replace(recipes.text().data, max_length=2), "max_length is 2"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong, words):
    with pytest.raises(SettingError, match=words):
        wrong()


def test_a_number_may_be_written_as_people_write_it(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("learning_rate: 2e-5\nmax_grad_norm: .inf\nweight_decay: 0\n")
    expected = OptimSettings(learning_rate=2e-5, max_grad_norm=math.inf, weight_decay=0.0)
    assert from_yaml(OptimSettings, path) == expected
    for text in ("fast", "'2'", "e5", "true"):
        path.write_text(f"learning_rate: {text}\n")
        with pytest.raises(SettingError, match="is not of type float"):
            from_yaml(OptimSettings, path)


@pytest.mark.parametrize("text", ["colour: red\n", "sources: uberon\n", "[1, 2]\n"])
def test_rubbish_settings_are_refused_with_their_file(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SettingError, match=r"config\.yaml"):
        from_yaml(recipes.DemoSettings, tmp_path / "config.yaml")


def test_overrides_reach_nested_settings():
    settings = recipes.resolved(
        type(recipes.text()),
        recipes.TEXT_RECIPES,
        recipe="text",
        config=None,
        overrides={"loop.num_steps": 7, "init": None},
    )
    assert settings == replace(recipes.text(), loop=replace(recipes.text().loop, num_steps=7))
