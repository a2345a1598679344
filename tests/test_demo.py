"""The whole line, on knowledge and cases small enough to walk it in seconds."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from vesalius import demo, recipes
from vesalius.corpus.crops import CropSettings
from vesalius.demo import run_demo
from vesalius.errors import SettingError
from vesalius.folder import Origin
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.sources import BUILT_IN
from vesalius.train import run as runs
from vesalius.train.regions import RegionStage
from vesalius.train.text_data import TextData
from vesalius.volumes.layouts import LAYOUTS

OWNED = Origin(name="uberon", version="test", licence="CC0-1.0", attribution="made for tests")


@pytest.fixture
def settings(graph, tiny_encoder, tiny_sources, monkeypatch):
    """A demo whose knowledge is the graph of the tests, and whose cases are three small ones."""

    def stage(staging):
        for line, concept in enumerate(graph, start=1):
            staging.concept(concept.concept_id, concept.name, line=line)
            for synonym in concept.synonyms:
                staging.synonym(concept.concept_id, synonym.text, Scope.EXACT, line=line)
            for definition in concept.definitions:
                staging.definition(concept.concept_id, definition.text, line=line)
        for line, relation in enumerate(graph.relations, start=1):
            staging.relation(relation.subject, relation.predicate, relation.object, line=line)
        return (OWNED,)

    monkeypatch.setitem(BUILT_IN, "uberon", stage)
    monkeypatch.setitem(LAYOUTS, "atlas", lambda options: tiny_sources)
    full = recipes.demo_quick()
    text = replace(full.text, init=str(tiny_encoder), train_layers=1, data=TextData(batch_size=8, neighbourhood_size=2))
    regions = replace(
        full.regions,
        crops=CropSettings(size=(24, 24, 16), max_regions=4),
        train_layers=1,
        text=TextData(batch_size=8, neighbourhood_size=1),
        loop=replace(full.regions.loop, num_steps=3, validate_every=3, checkpoint_every=1),
    )
    return replace(full, sources=("uberon",), text=text, regions=regions, neighbour_names=("liver 0", "spleen 1"))


def test_the_whole_line_writes_what_it_promises(settings, tmp_path):
    out = tmp_path / "demo"
    results = run_demo(settings, out, recipe="tiny")
    report = json.loads((out / "report.json").read_text())
    assert report["retrieval"] == results["retrieval"]
    for stage in ("base", "text", "regions"):
        for task in ("definition_to_name", "synonym_to_name"):
            assert {"num", "recall_at_1", "recall_at_5", "recall_at_10", "mrr"} <= set(report["retrieval"][stage][task])
    for task in ("name_to_region", "region_to_name"):
        assert {"num", "recall_at_1", "recall_at_5", "chance_at_1"} <= set(report["regions"][task])
        assert report["regions"][task]["chance_at_1"] == pytest.approx(0.25)
    page = (out / "report.html").read_text()
    assert "case2 – held out" in page
    assert "liver 0" in page
    assert [source["name"] for source in json.loads((out / "manifest.json").read_text())["sources"]] == [
        "uberon",
        "made",
    ]
    assert "made for tests" in (out / "encoder" / "README.md").read_text()


def test_the_encoder_loads_where_vesalius_is_not(settings, tmp_path):
    run_demo(settings, tmp_path / "demo", recipe="tiny")
    script = (
        "import sys; sys.modules['vesalius'] = None\n"
        "from sentence_transformers import SentenceTransformer\n"
        f"print(SentenceTransformer({str(tmp_path / 'demo' / 'encoder')!r}, device='cpu').encode(['liver 0']).shape)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "(1, 32)"


def test_an_interrupted_demo_goes_on_and_a_finished_one_is_only_written_again(settings, tmp_path, monkeypatch):
    whole = run_demo(settings, tmp_path / "whole", recipe="tiny")
    draw, drawn = RegionStage.draw, []

    def draw_and_stop(stage):
        drawn.append(stage)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return draw(stage)

    monkeypatch.setattr(RegionStage, "draw", draw_and_stop)
    with pytest.raises(KeyboardInterrupt):
        run_demo(settings, tmp_path / "stopped", recipe="tiny")
    assert not (tmp_path / "stopped" / "report.html").exists()
    monkeypatch.setattr(RegionStage, "draw", draw)
    assert run_demo(settings, tmp_path / "stopped", recipe="tiny") == whole
    monkeypatch.setattr(runs, "fit", None)
    monkeypatch.setattr(demo, "evaluate_encoder", None)
    assert run_demo(settings, tmp_path / "stopped", recipe="tiny") == whole


def test_a_folder_of_another_demo_is_refused(settings, tmp_path):
    run_demo(settings, tmp_path / "demo", recipe="tiny")
    with pytest.raises(SettingError, match="other settings"):
        run_demo(replace(settings, num_map_names=7), tmp_path / "demo", recipe="tiny")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(SettingError, match="holds no demo"):
        run_demo(settings, tmp_path / "mine", recipe="tiny")


def test_a_name_to_show_that_the_graph_lacks_is_refused_by_name(settings, tmp_path):
    with pytest.raises(SettingError, match="unicorn horn"):
        run_demo(replace(settings, neighbour_names=("unicorn horn",)), tmp_path / "demo", recipe="tiny")
