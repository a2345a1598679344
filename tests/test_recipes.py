"""Recipes: each one is whole, and those of the published method are that."""

from dataclasses import replace

import pytest
import torch

from vesalius import recipes
from vesalius.cli import main
from vesalius.corpus.pair_index import write_pair_index
from vesalius.errors import SettingError
from vesalius.folder import sha256_of_folder
from vesalius.knowledge.concept import Relation
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.predicates import IS_A_OR_PART_OF
from vesalius.model.aligner import Aligner
from vesalius.model.region_encoder import UNET_SIZES, RegionEncoder
from vesalius.model.region_model import make_aligner
from vesalius.train.config import from_yaml, to_yaml
from vesalius.train.log import read_metrics
from vesalius.train.regions import RegionSettings
from vesalius.train.run import train_regions_on, train_text_on
from vesalius.train.text import TextSettings


@pytest.mark.parametrize("kind", [TextSettings, RegionSettings])
def test_every_recipe_survives_yaml(tmp_path, kind):
    named = recipes.TEXT_RECIPES if kind is TextSettings else recipes.REGION_RECIPES
    for make in named.values():
        (tmp_path / "config.yaml").write_text(to_yaml(make()))
        assert from_yaml(kind, tmp_path / "config.yaml") == make()


def test_sat_regions_is_what_is_published():
    settings = recipes.sat_regions()
    assert settings.network.unet.channels == (64, 64, 128, 256, 512, 768)
    assert settings.network.unet.in_channels == 3
    assert (settings.network.width, settings.network.last_gelu) == (768, False)
    assert (settings.crops.size, settings.crops.max_regions, settings.crops.sampler) == ((288, 288, 96), 8, "published")
    assert (settings.updates, settings.positives, settings.memory.size) == ("alternating", "own", 0)
    assert settings.text == replace(recipes.sat_text().data, batch_size=2 * 128)
    assert settings.text.window_share == 0.5
    assert settings.loop.num_steps == 2 * 100_000
    assert settings.loop.optim == recipes.sat_text().loop.optim
    assert settings.text_learning_rate_scale == 1.0
    assert (settings.train_layers, settings.train_embeddings) == (3, False)


@pytest.mark.parametrize(
    ("name", "num_convs", "widths"),
    [("unet", 2, (1792, 768, 768)), ("unet-l", 2, (3584, 1536, 768)), ("unet-h", 3, (3584, 1536, 768))],
)
def test_published_sizes_have_the_published_names_and_shapes(name, num_convs, widths):
    size = recipes.with_unet(recipes.sat_regions(), name).network
    with torch.device("meta"):
        encoder = RegionEncoder(size.unet)
        aligner = make_aligner(size, text_width=768, region_width=encoder.width)
    expected = {}
    before = 3
    for stage, channels in enumerate(UNET_SIZES[name].channels):
        for conv in range(num_convs):
            place = f"stages.{stage}.0.convs.{conv}."
            expected[f"{place}conv.weight"] = (channels, before, 3, 3, 3)
            expected |= {f"{place}{key}": (channels,) for key in ("conv.bias", "norm.weight", "norm.bias")}
            before = channels
    assert {key: tuple(tensor.shape) for key, tensor in encoder.state_dict().items()} == expected
    assert isinstance(aligner, Aligner)
    shapes = {key: tuple(tensor.shape) for key, tensor in aligner.region_projection.state_dict().items()}
    feature, hidden, shared = widths
    assert shapes == {
        "0.weight": (hidden, feature), "0.bias": (hidden,), "2.weight": (shared, hidden), "2.bias": (shared,),
    }  # fmt: skip


def test_an_unknown_size_is_refused_and_a_small_one_keeps_its_own_projection():
    with pytest.raises(SettingError, match="known are: unet-tiny, unet, unet-l, unet-h"):
        recipes.with_unet(recipes.regions(), "unet-xl")
    assert recipes.with_unet(recipes.regions(), "unet-l").network.region_hidden_width is None


@pytest.fixture
def related(graph):
    """The graph with relations of its own source."""
    concepts = [concept.concept_id for concept in graph]
    more = [
        Relation(subject=one, predicate=IS_A_OR_PART_OF, object=other, source="uberon")
        for one, other in zip(concepts[1:20], concepts[21:40], strict=True)
    ]
    return Graph(list(graph), [*graph.relations, *more], graph.origins)


def test_the_published_method_runs_whole_in_small(related, store_graph, tiny_encoder, tiny_cases, tmp_path):
    folder = store_graph(related)
    write_pair_index(folder)
    text = replace(recipes.sat_text_tiny(), init=str(tiny_encoder))
    train_text_on(folder, text, out=tmp_path / "text", graph_hash="g")
    regions, hashes = recipes.sat_regions_tiny(), {"graph": sha256_of_folder(folder), "cases": tiny_cases.sha256}
    train_regions_on(folder, tiny_cases, regions, init=tmp_path / "text", out=tmp_path / "regions", hashes=hashes)
    lines = read_metrics(tmp_path / "regions")
    assert [("region_loss" in line, "text_loss" in line) for line in lines if "loss" in line] == 5 * [
        (True, False), (False, True),
    ]  # fmt: skip
    assert {"validation/definition_to_name_mrr", "validation/synonym_to_name_mrr"} <= set(lines[-1])
    assert (tmp_path / "regions" / "encoder" / "modules.json").is_file()


def test_overrides_of_the_command_line_reach_the_run(graph, store_graph, tiny_encoder, tiny_cases, tmp_path):
    folder = str(store_graph(graph))
    text, regions = tmp_path / "text", tmp_path / "regions"
    few = ["--num-steps", "2", "--cached-gradients", "--train-layers", "1"]
    start = ["--recipe", "text-tiny", "--init", str(tiny_encoder), "--freeze-embeddings", "--batch-size", "6"]
    assert main(["train", "text", "--graph", folder, "--out", str(text), *start, *few]) == 0
    held = from_yaml(TextSettings, text / "config.yaml")
    assert (held.train_layers, held.train_embeddings, held.data.batch_size) == (1, False, 6)
    assert (held.loop.num_steps, held.loop.cached_gradients) == (2, True)
    start = ["--recipe", "regions-tiny", "--init", str(text), "--cases", str(tiny_cases.place.path)]
    more = ["--workers", "0", "--memory", "8", "--crops-per-step", "1", "--max-regions", "3", "--size", "unet-tiny"]
    assert main(["train", "regions", "--graph", folder, "--out", str(regions), *start, *few, *more]) == 0
    held = from_yaml(RegionSettings, regions / "config.yaml")
    assert (held.crop_workers, held.memory.size, held.crops_per_step, held.crops.max_regions) == (0, 8, 1, 3)
    assert (held.train_layers, held.loop.cached_gradients) == (1, True)
