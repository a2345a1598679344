"""`make bench-knowledge` at a size that takes seconds, and that it can fail."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "knowledge.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_of_knowledge", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_small_setting_builds_ties_and_stays_within_its_limits(tmp_path, benchmark):
    command = [sys.executable, str(SCRIPT), "--scale", "0.0002", "--work", str(tmp_path), "--memory", "1GB"]
    command += [
        "--patience",
        "20",
    ]  # what is slow is the machine that runs all tests at once; memory and ties do not depend on it
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    measured = benchmark.Measured(**json.loads((tmp_path / "results.jsonl").read_text()))
    assert (measured.concepts, measured.definitions) == (900, 100)
    assert (measured.tied_by_xref, measured.tied_by_name) == benchmark.expected_ties(0.0002) == (160, 40)
    assert measured.relations > 11_000


def test_sources_that_were_not_written_whole_are_written_again(tmp_path, benchmark):
    benchmark.write_missing_sources(tmp_path, 0.0001)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert list(tmp_path.glob(".*")) == []
    (tmp_path / "by_name.tsv").unlink()
    (tmp_path / "by_xref.tsv").write_text("id\tname\txref\nFIRST:0\tfir")
    (tmp_path / "MRDEF.RRF").write_text("whole, as MRSAB is there")
    benchmark.write_missing_sources(tmp_path, 0.0001)
    changed = [name for name, content in written.items() if (tmp_path / name).read_bytes() != content]
    assert changed == ["MRDEF.RRF"]
    (tmp_path / "MRSAB.RRF").unlink()
    benchmark.write_missing_sources(tmp_path, 0.0001)
    assert all((tmp_path / name).read_bytes() == content for name, content in written.items())


GOOD = {
    "scale": 1.0, "concepts": 1, "names": 1, "definitions": 1, "relations": 1, "metathesaurus_mb": 1, "graph_mb": 1,
    "build_s": 1200, "build_mb": 8000, "open_s": 5, "open_mb": 50, "tied_by_xref": 160_000, "tied_by_name": 40_000,
}  # fmt: skip


@pytest.mark.parametrize(
    ("worse", "said"),
    [
        ({"build_s": 1201}, "build, s: 1,201.0 of 1,200.0"),
        ({"build_mb": 8001}, "build, MB: 8,001.0 of 8,000.0"),
        ({"open_s": 5.1}, "open and draw, s: 5.1 of 5.0"),
        ({"tied_by_name": 39_999}, "tied 160,000 by xref and 39,999 by name, not 160,000 and 40,000"),
    ],
)
def test_what_exceeds_a_limit_is_named(benchmark, worse, said):
    good = benchmark.Measured(**GOOD)
    assert benchmark.exceeded(good) == []
    assert benchmark.exceeded(replace(good, **worse)) == [f"scale 1: {said}"]


def test_limits_grow_with_the_size(benchmark):
    assert benchmark.limits(1) == (1200, 8000, 5)
    assert benchmark.limits(0.05)[0] < 150
    assert benchmark.limits(0.05)[1] < 1900
