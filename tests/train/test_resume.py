"""A run that was killed goes on as if it had not been, on as many processes as there are."""

import signal
from dataclasses import replace

import launched
import pytest
import torch

from vesalius.errors import FolderError
from vesalius.train import checkpoint
from vesalius.train.checkpoint import Checkpoints
from vesalius.train.log import METRICS, read_metrics
from vesalius.train.loop import LoopSettings
from vesalius.train.optim import OptimSettings
from vesalius.train.text import TextSettings
from vesalius.train.text_data import TextData

LOOP = LoopSettings(num_steps=8, validate_every=3, checkpoint_every=2, optim=OptimSettings(learning_rate=1e-3))


@pytest.fixture
def plan(graph, sides, tiny_encoder, tiny_cases):
    data = TextData(batch_size=12, neighbourhood_size=4)
    settings = TextSettings(data=data, train_layers=1, train_embeddings=False, loop=LOOP)
    return launched.Plan(settings=settings, encoder=tiny_encoder, graph=graph, sides=sides, cases=tiny_cases)


def test_a_killed_run_goes_on_bit_for_bit(launch, plan, tmp_path):
    (whole,) = launch(1, launched.train, plan, tmp_path / "whole")
    ends = [("draw", 4), ("validate", 2), ("write", 5)]
    for end, at in ends:
        run = tmp_path / f"{end}{at}"
        (killed,) = launch(1, launched.train, plan, run, end, at)
        assert killed.exit_code == -signal.SIGKILL
        (again,) = launch(1, launched.train, plan, run)
        assert again.answer == whole.answer
        assert (run / METRICS).read_bytes() == (tmp_path / "whole" / METRICS).read_bytes()
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
            "best.pt", "step-00000006.pt", "step-00000008.pt",
        ]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_run_goes_on_on_another_number_of_processes(launch, plan, tmp_path, before, after):
    (whole,) = launch(1, launched.train, plan, tmp_path / "whole")
    killed = launch(before, launched.train, plan, tmp_path / "run", "draw", 6)
    assert {outcome.exit_code for outcome in killed} == {-signal.SIGKILL}
    again = launch(after, launched.train, plan, tmp_path / "run")
    assert again[0].answer == pytest.approx(whole.answer, rel=1e-4, abs=1e-4)
    lines = zip(read_metrics(tmp_path / "run"), read_metrics(tmp_path / "whole"), strict=True)
    for line, other in lines:
        assert line == pytest.approx(other, rel=1e-4)


def state(step):
    tensors = {"weight": torch.full((1000,), float(step))}
    return {"step": step, "best": 0.0, "model": tensors, "optimiser": {}, "stage": {}, "random": []}


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep_last=3) as checkpoints:
        for step in range(1, 6):
            checkpoints.save(state(step), step=step)
        checkpoints.save_best({"weight": torch.ones(1)}, step=2, score=0.5)
        checkpoints.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", *(f"step-0000000{n}.pt" for n in (3, 4, 5))]
    assert checkpoints.load_best() == ({"weight": torch.ones(1)}, 2)
    assert checkpoints.best_score() == 0.5


def test_what_is_written_is_the_state_at_its_step(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        content = state(1)
        checkpoints.save(content, step=1)
        content["model"]["weight"].zero_()
        checkpoints.finish()
    found, _ = checkpoints.load_last()
    assert found is not None
    assert found["model"]["weight"][0] == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text", "another"])
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, damage):
    with Checkpoints(tmp_path, keep_last=1) as checkpoints:
        checkpoints.save(state(1), step=1)
        checkpoints.finish()
        good, bad = tmp_path / "step-00000001.pt", tmp_path / "step-00000002.pt"
        content = bytearray(good.read_bytes())
        content[len(content) // 2] ^= 1
        if damage == "another":
            torch.save([1, 2], bad)
        else:
            rubbish = {"cut": good.read_bytes()[:-30], "flipped": bytes(content), "empty": b"", "text": b"step 2\n"}
            bad.write_bytes(rubbish[damage])
        (tmp_path / ".step-00000003.pt.x").write_bytes(b"half")
        found, damaged = checkpoints.load_last()
        assert found is not None
        assert (found["step"], damaged) == (1, [bad])
        checkpoints.save(state(2), step=2)
        checkpoints.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002.pt"]


def test_no_checkpoint_that_can_be_read_begins_anew(tmp_path):
    (tmp_path / "step-00000002.pt").write_bytes(b"rubbish")
    assert Checkpoints(tmp_path).load_last() == (None, [tmp_path / "step-00000002.pt"])
    with pytest.raises(FolderError, match="missing or damaged"):
        Checkpoints(tmp_path).load_best()


def test_a_full_disk_costs_a_checkpoint_and_at_the_end_the_run(tmp_path, monkeypatch):
    save = torch.save

    def full(content, file):
        file.write(b"some of it")
        raise OSError(28, "No space left on device")

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(1), step=1)
        checkpoints.finish()
        monkeypatch.setattr(checkpoint.torch, "save", full)
        checkpoints.save(state(2), step=2)
        with pytest.raises(FolderError, match=r"step-00000002\.pt: could not be written \(.*No space left"):
            checkpoints.finish()
        assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]
        monkeypatch.setattr(checkpoint.torch, "save", save)
        checkpoints.save(state(3), step=3)
        checkpoints.finish()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000001.pt", "step-00000003.pt"]


def test_a_run_is_told_of_a_full_disk_and_goes_on(launch, plan, tmp_path):
    longer = replace(plan, settings=replace(plan.settings, loop=replace(LOOP, num_steps=6)))
    (outcome,) = launch(1, launched.train, longer, tmp_path / "run", "full", 3)
    assert "written" not in str(outcome.answer)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["best.pt", "step-00000002.pt", "step-00000006.pt"]
