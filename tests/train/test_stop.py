"""A cluster takes its machine back: a checkpoint, a line, an exit code, and back into the queue."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import launched
import pytest

from vesalius.train.config import to_yaml
from vesalius.train.log import read_metrics
from vesalius.train.loop import LoopSettings
from vesalius.train.optim import OptimSettings
from vesalius.train.text import TextSettings
from vesalius.train.text_data import TextData

LOOP = LoopSettings(num_steps=5000, validate_every=5000, checkpoint_every=5000, optim=OptimSettings(learning_rate=1e-4))
PIPELINES = Path(__file__).resolve().parents[2] / "pipelines"
SCRIPTS = sorted(PIPELINES.glob("*.sbatch"))


@pytest.fixture
def training(graph, tiny_encoder, store_graph, tmp_path):
    """Arguments of a run that would take minutes."""
    settings = TextSettings(
        init=str(tiny_encoder), data=TextData(batch_size=8, neighbourhood_size=1), train_layers=1,
        train_embeddings=False, loop=LOOP,
    )  # fmt: skip
    (tmp_path / "config.yaml").write_text(to_yaml(settings))
    return ["train", "text", "--graph", str(store_graph(graph)), "--out", str(tmp_path / "run"),
            "--config", str(tmp_path / "config.yaml")]  # fmt: skip


def signal_when_training(run, number, which=slice(None)):
    def send(pids):
        for _ in range(1200):
            if len(read_metrics(run)) >= 3:
                break
            time.sleep(0.1)
        for pid in pids[which]:
            os.kill(pid, number)

    return send


@pytest.mark.parametrize(("num", "by", "number"), [(1, "torchrun", signal.SIGTERM), (2, "srun", signal.SIGUSR1)])
def test_a_stop_signal_ends_a_run_behind_a_checkpoint(launch, training, tmp_path, num, by, number):
    run = tmp_path / "run"
    meanwhile = signal_when_training(run, number, which=slice(1))  # of two processes, the first alone is told
    outcomes = launch(num, launched.command, tmp_path / "errors", *training, by=by, meanwhile=meanwhile)
    assert [outcome.exit_code for outcome in outcomes] == [75] * num
    said = re.findall(r"^vesalius: (.*)$", (tmp_path / "errors").read_text(), re.MULTILINE)
    steps = [line["step"] for line in read_metrics(run)]
    assert said == [f"stopped by {signal.Signals(number).name} after step {steps[-1]}, which is saved – "
                    "the same command goes on from there"]  # fmt: skip
    assert [path.name for path in (run / "checkpoints").iterdir()] == [f"step-{steps[-1]:08d}.pt"]
    assert steps == list(range(1, len(steps) + 1))


def test_an_interrupted_run_says_so_in_a_line(launch, training, tmp_path):
    meanwhile = signal_when_training(tmp_path / "run", signal.SIGINT)
    (outcome,) = launch(1, launched.command, tmp_path / "errors", *training, meanwhile=meanwhile)
    assert outcome.exit_code == 130
    error = (tmp_path / "errors").read_text()
    assert "interrupted; give the same command again to go on" in error
    assert "Traceback" not in error


def test_srun_that_does_not_say_how_many_run_on_a_machine_is_refused(launch, training, tmp_path):
    (outcome,) = launch(1, launched.command, tmp_path / "errors", *training, place={"SLURM_STEP_NUM_TASKS": "3"})
    assert outcome.exit_code == 2
    assert "give --nodes and --ntasks-per-node" in (tmp_path / "errors").read_text()


def faked(folder, name, text):
    (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
@pytest.mark.parametrize(("code", "requeued"), [(75, "requeue 77\n"), (0, ""), (2, ""), (143, "")])
def test_a_job_goes_back_into_the_queue_if_it_was_stopped(script, code, requeued, tmp_path):
    faked(tmp_path, "srun", f'echo "$@" > {tmp_path}/srun.txt; exit {code}')
    faked(tmp_path, "scontrol", f'echo "$@" > {tmp_path}/scontrol.txt')
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "77", "SLURM_CPUS_PER_TASK": "8"}
    job = subprocess.run(
        ["bash", script, "--graph", "a graph", "--out", "run"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert job.returncode == code
    stage = script.stem.removeprefix("train_")
    asked = (tmp_path / "srun.txt").read_text()
    assert asked == f"--kill-on-bad-exit=0 --wait=60 vesalius train {stage} --graph a graph --out run\n"
    asked = tmp_path / "scontrol.txt"
    assert (asked.read_text() if asked.exists() else "") == requeued


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_job_script_is_sound_and_refuses_to_run_without_arguments(script):
    assert len(SCRIPTS) == 2
    subprocess.run(["bash", "-n", script], check=True)
    job = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert job.returncode == 2
    assert job.stderr.startswith("usage: sbatch")
    options = re.findall(r"^#SBATCH --(\S+)", script.read_text(), re.MULTILINE)
    assert {"requeue", "open-mode=append", "signal=USR1@300", "ntasks-per-node=4"} <= set(options)


@pytest.mark.slow
def test_torchrun_and_a_job_script_train_for_real(training, tmp_path):
    """Two processes by torchrun; then the job script, whose srun is torchrun, goes on with the run to its end."""
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("5000", "20"))
    binaries = Path(sys.executable).parent
    torchrun = f"{binaries}/torchrun --nproc-per-node 2 --no-python"
    faked(tmp_path, "srun", f'shift 2; exec {torchrun} "$@"')
    environment = {**os.environ, "PATH": f"{tmp_path}:{binaries}:{os.environ['PATH']}", "SLURM_JOB_ID": "77"}
    subprocess.run(["bash", PIPELINES / "train_text.sbatch", *training[2:]], env=environment, check=True)
    assert [line["step"] for line in read_metrics(tmp_path / "run")][-1] == 20
    assert (tmp_path / "run" / "encoder" / "modules.json").is_file()
