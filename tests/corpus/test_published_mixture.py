"""The published mixture, against what the published rules give on the same files, computed here from the files alone."""

import csv
import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from vesalius import recipes
from vesalius.corpus.mixture import MixtureSampler
from vesalius.corpus.pair_index import write_pair_index
from vesalius.corpus.pair_table import PairIndex, held_out_concepts
from vesalius.errors import SettingError
from vesalius.knowledge.build import build
from vesalius.knowledge.split import split_concepts
from vesalius.knowledge.store import read_graph
from vesalius.knowledge.stored import StoredGraph
from vesalius.train.config import from_yaml, to_yaml
from vesalius.train.text import TextSettings
from vesalius.train.text_data import TextData, TextStream, validation_graph

ORGANS = ("Heart", "Lung", "Liver", "Spleen", "Kidney", "Stomach", "Colon", "Brain")


SHARED_WEB = {
    "heart 0": {
        "cleaned_definition": ["UMLS says 0.", " Pumps. ", " Pumps. "],
        "relations": [["edge kind 0", "Lung 1"], ["Edge Kind 0", "lung 1"], ["isa", "heart 0"], ["isa", "Organ"]],
    },
    "HEART 0 ": {"cleaned_definition": ["Pumps."], "relations": [["is_a", "Organ"], ["is_a", "Organ"]]},
    "Heart-0": {"cleaned_definition": ["Spelled with a hyphen."], "relations": [["Is a", "Organ"]]},
    "Cor": {"cleaned_definition": ["Latin."], "relations": [["near", "NA"]]},
}
"""Entries that repeat the CSVs, one another and themselves; the third is the first's concept by name, the last by a synonym."""

SHARED_EXTRA = {
    "Heart 0": {
        "cleaned_definition": " Pumps. ",
        "synonyms": ["Cor", "cor", "HEART 0", "Extra 1"],
        "relations": [["edge kind 0", "Lung 1"], ["isa", "Organ"], ["protects", "Heart 0"]],
    },
    "Extra-1": {"synonyms": ["Spelling 1"], "relations": [["lies near", "Extra 2"]]},
}
"""Likewise, with synonyms that other entries are called."""


def write_files(folder):
    """Writes the four published files; they share names, definitions, synonyms and relations with one another and within."""
    folder.mkdir()
    rows = [(f"C{n:07d}", f"{ORGANS[n % 8]} {n}", f"UMLS says {n}.") for n in range(130)]
    rows += [rows[3], ("C0000004", "Kidney 4", "UMLS says more of 4."), ("C0000000", "Cardiac pump", "UMLS says 0.")]
    rows += [("C0000900", "heart 0", "UMLS says 0."), ("C0000003", " Spleen 3", "UMLS says 3.")]
    with (folder / "umls_def.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("cui", "name", "definition"), *rows])
    edges = [(f"{ORGANS[n % 8]} {n}", f"{ORGANS[(n + 1) % 8]} {n + 1}", f"edge kind {n % 3}") for n in range(125)]
    edges += [("heart 0", "Lung 1", "edge kind 0"), ("Heart 0", "Organ", "isa"), ("Heart 0", "Heart 0", "isa")]
    edges += [("Heart 0", "Organ", "Is_A"), ("Organ", "heart 0", "isa")]
    with (folder / "umls_kg.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("source", "target", "edge"), *edges, edges[0]])
    web = {
        f"Web {n}": {
            "cleaned_definition": [f"The web says {n}, {m}." for m in range(n % 3)],
            "relations": [["located between", f"Web {n + 1}"]] * (n % 2),
        }
        for n in range(40)
    } | SHARED_WEB
    (folder / "website_knowledge_lab2def_gpt.json").write_text(json.dumps(web))
    supplements = {
        f"Extra {n}": {
            **({"cleaned_definition": f"A model says {n}."} if n % 4 else {}),
            **({"synonyms": [f"Spelling {n}", f"CT of {n}"]} if n % 2 else {}),
            "relations": [["lies near", f"Extra {n + 1}"], ["protects", f"Phrase about {n}"]],
        }
        for n in range(30)
    } | SHARED_EXTRA
    (folder / "supplementary_lab2def_gpt.json").write_text(json.dumps(supplements))


def published_pools(folder):
    """Returns weight and rows of each pool by the published rules; a row is (label, text) or (source, edge, target)."""
    with (folder / "umls_def.csv").open(newline="") as file:
        definitions = [(row["name"].lower(), row["definition"]) for row in _different(csv.DictReader(file))]
    with (folder / "umls_kg.csv").open(newline="") as file:
        relations = [(r["source"].lower(), r["edge"], r["target"].lower()) for r in _different(csv.DictReader(file))]
    web = json.loads((folder / "website_knowledge_lab2def_gpt.json").read_text())
    extra = json.loads((folder / "supplementary_lab2def_gpt.json").read_text())
    pooled = [
        (key.lower(), entry["cleaned_definition"]) for key, entry in extra.items() if "cleaned_definition" in entry
    ]
    pooled += [(key.lower(), text) for key, entry in extra.items() for text in entry.get("synonyms", ())]
    return [
        (0.1, definitions),
        (0.02, relations),
        (1.0, [(key.lower(), text) for key, entry in web.items() for text in entry["cleaned_definition"]]),
        (0.5, [(key.lower(), edge, to.lower()) for key, entry in web.items() for edge, to in entry["relations"]]),
        (1.0, pooled),
        (1.0, [(key.lower(), edge, to.lower()) for key, entry in extra.items() for edge, to in entry["relations"]]),
    ]


def _different(rows):
    return [dict(row) for row in dict.fromkeys(tuple(row.items()) for row in rows)]


def expected_pairs(pools):
    """Returns (label, text) → its probability, from the shares round(weight × size) and uniform rows."""
    shares = [round(weight * len(rows)) for weight, rows in pools]
    expected = Counter()
    for share, (_, rows) in zip(shares, pools, strict=True):
        for row in rows:
            chance = share / sum(shares) / len(rows)
            if len(row) == 2:
                expected[row] += chance
            else:
                source, edge, target = row
                expected[target, f"{source} {edge}"] += chance / 2
                expected[source, f"{edge} {target}"] += chance / 2
    return expected


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The four files, and the graph built of them with its pair index."""
    folder = tmp_path_factory.mktemp("published")
    write_files(folder / "files")
    kinds = {
        "umls_def.csv": "sat-definitions", "umls_kg.csv": "sat-relations",
        "website_knowledge_lab2def_gpt.json": "sat-json", "supplementary_lab2def_gpt.json": "sat-json",
    }  # fmt: skip
    build([f"{kind}={folder / 'files' / file}" for file, kind in kinds.items()], folder / "graph")
    write_pair_index(folder / "graph")
    return folder


def drawn_pairs(table, sampler):
    """Returns (label, text) → its exact probability, from the shares of a sampler and the rows that each part draws alike."""
    found = Counter()
    for share, part in zip(sampler.shares, recipes.PUBLISHED_MIXTURE, strict=True):
        runs = [run for run in table.runs if run.source in part.sources and run.kind in part.kinds and run.is_written]
        num = sum(run.num for run in runs)
        for run in runs:
            for row in range(run.first, run.first + run.num):
                for asked in ("subject", "object") if run.kind == "relation" else (None,):
                    pair = table.written_pair(row, asked=asked)
                    found[pair.name, pair.text] += share / num / (1 if asked is None else 2)
    return found


def test_every_pair_is_drawn_exactly_as_often_as_published(published):
    expected = expected_pairs(published_pools(published / "files"))
    table = PairIndex(published / "graph")
    sampler = MixtureSampler(table, parts=recipes.PUBLISHED_MIXTURE, batch_size=1, side=None)
    found = drawn_pairs(table, sampler)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-12)


def test_other_readers_see_shared_rows_once(published):
    graph = read_graph(published / "graph")
    said = [(r.subject, r.predicate, r.object) for r in graph.relations]
    assert len(said) == len(set(said))
    (heart,) = graph.named("heart 0")[:1]
    assert len({s.text for s in heart.synonyms}) == len(heart.synonyms)
    assert len(graph.written) > len(graph.relations)


def test_the_mixture_can_draw_exactly_what_is_published_and_as_often(published):
    expected = expected_pairs(published_pools(published / "files"))
    assert math.isclose(sum(expected.values()), 1)
    sampler = MixtureSampler(
        PairIndex(published / "graph"), parts=recipes.PUBLISHED_MIXTURE, batch_size=10_000, side=None, seed=3
    )
    found = Counter((pair.name, pair.text) for pair in sampler.draw())
    assert set(found) <= set(expected)
    assert {pair for pair, chance in expected.items() if chance * 10_000 > 20} <= set(found)
    statistic = sum((found[pair] - 10_000 * chance) ** 2 / (10_000 * chance) for pair, chance in expected.items())
    freedom = len(expected) - 1
    assert abs(statistic - freedom) < 4.5 * math.sqrt(2 * freedom)


def test_the_shares_are_the_published_ones(published):
    pools = published_pools(published / "files")
    sizes = [round(weight * len(rows)) for weight, rows in pools]
    assert sizes == [13, 3, 45, 14, 58, 64]  # 134 rows without one repeat, 130, 39 + 6, 20 + 8, 52 + 6, 60 + 4
    sampler = MixtureSampler(PairIndex(published / "graph"), parts=recipes.PUBLISHED_MIXTURE, batch_size=1, side=None)
    assert sampler.shares == pytest.approx([size / sum(sizes) for size in sizes])


def test_the_recipe_holds_the_published_schedule_and_survives_yaml(tmp_path):
    settings = recipes.sat_text()
    assert (settings.data.batch_size, settings.data.max_length, settings.train_layers) == (128, 256, 3)
    assert (settings.loop.num_steps, settings.loop.optim.learning_rate) == (100_000, 1e-5)
    assert round(settings.loop.optim.warmup_share * settings.loop.num_steps) == 10_000
    assert settings.loop.optim.weight_decay == 0
    (tmp_path / "config.yaml").write_text(to_yaml(settings))
    assert from_yaml(TextSettings, tmp_path / "config.yaml") == settings


def test_batches_of_the_recipe_hold_out_and_mask(published):
    graph = read_graph(published / "graph")
    sides = split_concepts(graph)
    data = replace(recipes.sat_text().data, batch_size=64, window_share=0.0)
    from_disk = TextStream(graph, {}, data, seed=1, pairs=PairIndex(published / "graph"))
    in_memory = TextStream(graph, sides, data, seed=1)
    for _ in range(4):
        one, other = from_disk.draw(), in_memory.draw()
        assert (one.left, one.right) == (other.left, other.right)
        assert one.positives.equal(other.positives)
        assert one.ignored.equal(other.ignored)
        assert {sides[concept] for concept in one.concept_ids} == {"train"}


def test_a_large_graph_validates_by_some_held_out_concepts(published):
    pairs = PairIndex(published / "graph")
    graph, sides = validation_graph(StoredGraph(published / "graph"), pairs, recipes.sat_text().data)
    assert len(graph) == len(sides) > 5
    whole = split_concepts(read_graph(published / "graph"))
    assert {whole[each.concept_id] for each in graph} == {"validation"}
    assert all(each.definitions or each.synonyms for each in graph)
    assert len(held_out_concepts(pairs, "validation", sources=["umls_def"], num=3)) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": ("uberon",)}, "sources has no effect"),
        ({"neighbourhood_size": 8}, "neighbourhood_size has no effect"),
        ({"relation_share": 0.5}, "relation_share has no effect"),
    ],
)
def test_what_a_mixture_does_not_use_is_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        replace(recipes.sat_text().data, **settings)


def test_forms_without_relations_are_refused():
    with pytest.raises(SettingError, match="relation_forms has no effect"):
        TextData(relation_forms=("published",))
    assert np.isclose(TextData(relation_forms=("published",), relation_share=0.2).relation_share, 0.2)


def test_a_mixture_that_the_graph_cannot_give_is_refused_before_anything_is_fetched(published, tmp_path, capsys):
    from vesalius.cli import main

    build([f"sat-json={published / 'files' / 'supplementary_lab2def_gpt.json'}"], tmp_path / "graph")
    arguments = [
        "train",
        "text",
        "--graph",
        str(tmp_path / "graph"),
        "--out",
        str(tmp_path / "run"),
        "--recipe",
        "sat-text",
    ]
    assert main(arguments) == 2
    assert "no pairs folder" in capsys.readouterr().err
    write_pair_index(tmp_path / "graph")
    assert main(arguments) == 2
    assert "the graph has no texts of 'umls_def'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
