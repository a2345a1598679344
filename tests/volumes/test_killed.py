"""A preparation that the system kills, wherever it stands: the next call completes it, and nothing tells that it was killed."""

import json
import os
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest

from vesalius.volumes.store import CaseStore

NUM_CASES = 6


@pytest.fixture
def dataset(tmp_path):
    """Six cases of two organs, large enough that each takes a moment."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "dataset"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(NUM_CASES):
        labels = np.zeros((64, 64, 48), dtype=np.uint8)
        labels[8:24, 8:24, 8:24], labels[40:56, 8:24, 8:24] = 1, 2
        image = rng.normal(40, 20, labels.shape).astype(np.float32)
        for name, array in (("images", image), ("labels", labels)):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1.5, 1.5, 2.0, 1.0])), folder / name / f"c{number}.nii.gz")
    (folder / "labels.json").write_text(json.dumps({"1": "liver 1", "2": "spleen 2"}))
    return folder


def told(out):
    """Returns all that a store holds, without the times of writing."""
    store = CaseStore.open(out)
    manifest = {key: value for key, value in store.manifest.items() if key != "created"}
    cases = [
        (row, store.affine(row.case_id).tolist(), store.regions(row.case_id), store.read_image(row.case_id).tobytes(),
         [store.read_mask(region).tobytes() for region in store.regions(row.case_id)])
        for row in store.cases
    ]  # fmt: skip
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return manifest, cases, files, store.sha256


@pytest.mark.slow
def test_killed_at_any_point_the_next_call_completes_the_same_store(dataset, graph, store_graph, tmp_path):
    command = [
        sys.executable, "-c", "from vesalius.cli import main; raise SystemExit(main())", "volumes", "prepare",
        "--layout", "nifti-pairs", "--modality", "ct", "--input", str(dataset), "--graph", str(store_graph(graph)),
    ]  # fmt: skip
    whole = tmp_path / "whole"
    subprocess.run([*command, "--out", str(whole)], check=True, capture_output=True)
    expected = told(whole)
    assert len(expected[1]) == NUM_CASES

    out, num_killed = tmp_path / "out", 0
    for seen, workers in ((1, 1), (2, 1), (3, 2), (4, 1), (5, 2), (6, 1)):
        process = subprocess.Popen(
            [*command, "--workers", str(workers), "--out", str(out)], start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        # As soon as the folder of the next case begins to be written, or is there: in the midst of a case.
        while process.poll() is None and time.monotonic() < deadline:
            if (out / "cases").is_dir() and len(list((out / "cases").iterdir())) >= seen:
                break
            time.sleep(0.001)
        num_killed += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert num_killed >= 3
    finished = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert told(out) == expected
