import os
import subprocess
import sys

import duckdb
import pytest

from vesalius.cli import main
from vesalius.corpus.pair_index import write_pair_index
from vesalius.corpus.pair_table import PairIndex
from vesalius.errors import FolderError, SettingError
from vesalius.folder import UNWRITABLE
from vesalius.knowledge.build import BuildSettings, build
from vesalius.knowledge.database import telling_what_ran_out
from vesalius.knowledge.store import read_graph
from vesalius.knowledge.stored import StoredGraph

TERM = "format-version: 1.2\n\n[Term]\nid: A:1\nname: liver\n"


@pytest.fixture
def source(tmp_path):
    (tmp_path / "small.obo").write_text(TERM)
    return f"obo={tmp_path / 'small.obo'}"


def test_nothing_but_an_earlier_graph_is_replaced(source, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    for out in (mine, tmp_path / "small.obo"):
        with pytest.raises(SettingError, match="no earlier graph"):
            build([source], out)
    assert (mine / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "small.obo").read_text() == TERM
    for _ in range(2):
        build([source], tmp_path / "graph")
    assert StoredGraph(tmp_path / "graph").find("liver")


def test_a_build_may_write_into_the_folder_it_stands_in(source, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    build([source], tmp_path / "here" / "." / "graph")
    assert (tmp_path / "here" / "graph" / "manifest.json").is_file()


def test_what_finishes_a_graph_comes_before_the_graph_takes_its_place(source, tmp_path):
    out = tmp_path / "graph"
    build([source], out)
    before = (out / "manifest.json").read_bytes()

    def fail(folder):
        assert (folder / "manifest.json").is_file()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build([source], out, finish=fail)
    assert (out / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph", "small.obo"]


@pytest.mark.parametrize("name", ["a[b]", "a*", "what?", "it's", "x=1"])
def test_paths_that_look_like_patterns_are_paths(source, tmp_path, name):
    """Beside each lies what its pattern would find."""
    folder = tmp_path / name
    folder.mkdir()
    (tmp_path / "ab").mkdir()
    (folder / "rows.yaml").write_text("licence: CC0-1.0\nconcept: {name: name}\n")
    (folder / "rows[1]*.csv").write_text("name\nspleen\n")
    (folder / "rows1.csv").write_text("name\nlung\n")
    out = folder / "graph[0]"
    sources = [source, f"table={folder}/rows[1]*.csv,{folder}/rows.yaml"]
    build(sources, out, finish=write_pair_index)
    assert {concept.name for concept in read_graph(out)} == {"liver", "spleen"}
    assert len(PairIndex(out)) == 2
    assert StoredGraph(out).find("spleen")
    assert main(["knowledge", "export", str(out), "--format", "sentence-pairs", "--out", str(folder / "out?")]) == 0
    assert main(["knowledge", "diff", str(out), str(out)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "graph[0]",
        "out?",
        "rows.yaml",
        "rows1.csv",
        "rows[1]*.csv",
    ]


def test_too_little_memory_is_said_with_the_option_and_leaves_nothing(tmp_path):
    terms = "".join(f"\n[Term]\nid: A:{n}\nname: structure {n}\n" for n in range(20_000))
    (tmp_path / "large.obo").write_text("format-version: 1.2\n" + terms)
    with pytest.raises(SettingError, match=r"graph: out of memory \(--memory 3MB\) – give more with --memory"):
        build([f"obo={tmp_path / 'large.obo'}"], tmp_path / "graph", settings=BuildSettings(memory="3MB", threads=1))
    assert [path.name for path in tmp_path.iterdir()] == ["large.obo"]


def test_a_full_disk_is_said_and_leaves_nothing(source, tmp_path):
    """No file may grow beyond 8 kB, which the system reports as a disk does that is full: to Python and to DuckDB."""
    program = (
        "import resource, sys; from vesalius.cli import main; import vesalius.knowledge.build; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "knowledge", "build", source, "--out", str(tmp_path / "graph")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "graph: cannot be written (" in done.stderr
    assert "File too large" in done.stderr
    assert "make room there" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["small.obo"]


def test_an_out_that_cannot_be_made_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="graph: cannot be written"):
        build(["obo=nowhere.obo"], tmp_path / "file" / "graph")


@pytest.mark.parametrize(
    ("memory", "advised"),
    [
        ("4GB", "free memory, use a larger machine, or give less with --memory"),
        (None, "free memory, or use a larger machine"),
    ],
)
def test_memory_that_runs_out_beside_the_database_is_not_mended_by_a_higher_limit(tmp_path, memory, advised):
    with (
        pytest.raises(SettingError, match=rf"graph: the process is out of memory – {advised}$"),
        telling_what_ran_out(tmp_path / "graph", memory=memory),
    ):
        raise MemoryError


@pytest.mark.parametrize("said", [*map(os.strerror, sorted(UNWRITABLE)), "max_temp_directory_size"])
def test_what_duckdb_cannot_write_is_told_as_everywhere(tmp_path, said):
    with (
        pytest.raises(FolderError, match=rf"graph: cannot be written \(IO Error: .*{said}.*\) – make room there"),
        telling_what_ran_out(tmp_path / "graph"),
    ):
        raise duckdb.IOException(f"IO Error: Could not write: {said}")


def test_an_error_that_is_ours_stays_one(tmp_path):
    with pytest.raises(FileNotFoundError), telling_what_ran_out(tmp_path / "graph"):
        (tmp_path / "missing").read_text()
