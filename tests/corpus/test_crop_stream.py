"""Crops drawn ahead by worker processes: the same crops for any number of them, and errors that say where."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest
import torch

from vesalius.corpus.crop_stream import CropStream, is_alive
from vesalius.corpus.crops import CropSampler, CropSettings
from vesalius.errors import InputError, SettingError
from vesalius.volumes.store import CaseStore


def name_of(region):
    return [region.name, f"the {region.name}"]


def sampler(store, **more):
    settings = CropSettings(size=(12, 12, 8), max_regions=3)
    return CropSampler(store, splits=["train"], prompts=name_of, settings=settings, **more)


def equal(one, other):
    return (
        torch.equal(one.image, other.image)
        and torch.equal(one.masks, other.masks)
        and (one.keys, one.prompts, one.name) == (other.keys, other.prompts, other.name)
    )


@pytest.fixture
def damaged(tiny_cases, tmp_path):
    """A copy of the store without the folder of one case, or with its files replaced by pipes that never give a byte."""

    def damage(case, *, pipes):
        shutil.copytree(tiny_cases.place.path, tmp_path / "store")
        (folder,) = (path for path in (tmp_path / "store" / "cases").iterdir() if path.name.startswith(case))
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            path.unlink()
            if pipes:
                os.mkfifo(path)
        return sampler(CaseStore.open(tmp_path / "store"))

    return damage


def first_of(drawn, case):
    return next(number for number in range(100) if drawn.case_at(number) == case)


def test_workers_give_the_crops_of_none_step_after_step_from_any_step_on(tiny_cases):
    drawn = sampler(tiny_cases)
    drawn.draw_at(0)  # arrays are open here: the workers open their own
    plain, ahead = (CropStream(drawn, crops_per_step=3, workers=workers) for workers in (0, 2))
    steps = [plain.draw() for _ in range(5)]
    for step, crops in enumerate(steps):
        assert all(equal(one, drawn.draw_at(3 * step + place)) for place, one in enumerate(crops))
        assert all(equal(one, other) for one, other in zip(crops, ahead.draw(), strict=True))
    assert plain.state_dict() == ahead.state_dict() == {"step": 5}
    ahead.load_state_dict({"step": 2})
    assert all(equal(one, other) for one, other in zip(steps[2], ahead.draw(), strict=True))


@pytest.mark.parametrize("num_processes", [1, 2, 3, 5])
def test_processes_share_the_crops_of_one(tiny_cases, num_processes):
    drawn = sampler(tiny_cases)
    alone = CropStream(drawn, crops_per_step=4)
    shares = [CropStream(drawn, crops_per_step=4, rank=r, num_processes=num_processes) for r in range(num_processes)]
    for _ in range(2):
        crops, shared = alone.draw(), [share.draw() for share in shares]
        assert all(equal(crop, shared[place % num_processes].pop(0)) for place, crop in enumerate(crops))
        assert not any(shared)


@pytest.mark.parametrize(("workers", "by"), [(0, "this process"), (2, r"worker [01] \(process \d+\)")])
def test_a_crop_that_cannot_be_drawn_is_told_with_worker_number_and_case(damaged, workers, by):
    drawn = damaged("case1", pipes=False)
    stream = CropStream(drawn, crops_per_step=1, workers=workers)
    number = first_of(drawn, "case1")
    for _ in range(number):
        stream.draw()
    with pytest.raises(InputError, match=rf"^crop {number}, of case1: {by} cannot draw it: .*prepare it again"):
        stream.draw()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_defect_while_a_crop_is_drawn_keeps_its_trace_and_says_which_crop(tiny_cases, workers):
    drawn = sampler(tiny_cases)
    drawn._texts.clear()
    with pytest.raises(RuntimeError, match="crop 0, of case") as caught:
        CropStream(drawn, crops_per_step=1, workers=workers).draw()
    assert "KeyError" in str(caught.value) + repr(caught.value.__cause__)


def test_a_worker_that_is_killed_is_told_with_the_crop_it_was_at(damaged):
    drawn = damaged("case1", pipes=True)
    number = first_of(drawn, "case1")
    stream = CropStream(drawn, crops_per_step=1, workers=2)
    for _ in range(number):
        stream.draw()
    worker = number % 2
    until = time.monotonic() + 30
    while stream._places[worker, 1] != number and time.monotonic() < until:
        time.sleep(0.05)
    process = int(stream._places[worker, 0])
    os.kill(process, signal.SIGKILL)
    expected = rf"^crop {number}, of case1: worker {worker} \(process {process}\) was killed – .*/dev/shm"
    with pytest.raises(InputError, match=expected):
        stream.draw()


def test_a_worker_that_is_killed_with_crops_ready_is_told(tiny_cases):
    stream = CropStream(sampler(tiny_cases), crops_per_step=1, workers=1)
    stream.draw()
    os.kill(int(stream._places[0, 0]), signal.SIGKILL)

    def draw_all():
        for _ in range(10):
            stream.draw()

    with pytest.raises(InputError, match=r"worker 0 \(process \d+\) was killed"):
        draw_all()


def test_workers_do_not_heed_the_signals_that_end_a_job(tiny_cases):
    drawn = sampler(tiny_cases)
    stream = CropStream(drawn, crops_per_step=2, workers=1)
    stream.draw()
    for sent in (signal.SIGTERM, signal.SIGUSR1):
        os.kill(int(stream._places[0, 0]), sent)
    for step in range(1, 6):
        assert equal(stream.draw()[0], drawn.draw_at(2 * step))


ABANDON = """
import os, pickle, signal, sys
from vesalius.corpus.crop_stream import CropStream, is_alive

if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        stream = CropStream(pickle.load(file), crops_per_step=1, workers=1)
    stream.draw()
    print(int(stream._places[0, 0]), flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_workers_end_with_the_process_they_draw_for(damaged, tmp_path, how):
    """Though the next crop is one they would wait for for ever."""
    drawn = damaged("case1", pipes=True)
    drawn._seed = next(
        seed for seed in range(100) if [sampler_at(drawn, seed, n) == "case1" for n in (0, 1)] == [False, True]
    )
    (tmp_path / "sampler").write_bytes(pickle.dumps(drawn))
    (tmp_path / "abandon.py").write_text(ABANDON)
    command = [sys.executable, str(tmp_path / "abandon.py"), str(tmp_path / "sampler"), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == (-signal.SIGKILL if how == "killed" else 0), done.stderr
    process, until = int(done.stdout), time.monotonic() + 20
    while is_alive(process) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_alive(process)


def sampler_at(drawn, seed, number):
    drawn._seed = seed
    return drawn.case_at(number)


def test_a_billion_draws_cost_no_more_than_ten(tiny_cases):
    drawn = sampler(tiny_cases)
    drawn.draw_at(0)
    tracemalloc.start()
    stream = CropStream(drawn, crops_per_step=2)
    stream.load_state_dict({"step": 10**9})
    (crop, _) = stream.draw()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert equal(crop, drawn.draw_at(2 * 10**9))
    assert peak < 1e6


def test_senseless_streams_are_refused(tiny_cases):
    with pytest.raises(SettingError, match="crops_per_step is 0"):
        CropStream(sampler(tiny_cases), crops_per_step=0)
    with pytest.raises(SettingError, match="-1 workers"):
        CropStream(sampler(tiny_cases), crops_per_step=1, workers=-1)
