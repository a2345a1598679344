import pytest

from vesalius.errors import SettingError
from vesalius.knowledge.build import build
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
