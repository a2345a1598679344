from collections import Counter

import numpy as np
import pytest

from vesalius.corpus.mixture import MixturePart, MixtureSampler
from vesalius.corpus.pair_index import write_pair_index
from vesalius.corpus.pair_table import GraphPairs, PairIndex
from vesalius.errors import FolderError, SettingError
from vesalius.folder import Origin
from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Concept, Definition, Relation, Scope, Synonym
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.predicates import Predicate
from vesalius.knowledge.split import split_concepts

PARTS = (
    MixturePart(sources=("a",), kinds=("definition",), weight=0.5),
    MixturePart(sources=("b",), kinds=("definition", "synonym"), weight=1.0),
    MixturePart(sources=("a", "b"), kinds=("relation",), weight=0.3),
)


@pytest.fixture
def two_sources() -> Graph:
    """Forty concepts of two sources with texts and relations, some named with letters beyond ASCII."""
    concepts = [
        Concept(
            concept_id=ConceptId(f"{'AB'[n % 2]}:{n:03d}"),
            name=f"Nervus «{n}»",
            source="ab"[n % 2],
            synonyms=(
                Synonym(text=f"Nerf {n}", scope=Scope.EXACT, source="ab"[n % 2]),
                Synonym(text=f"Wide {n}", scope=Scope.BROAD, source="ab"[n % 2]),
            ),
            definitions=(Definition(text=f"Defined {n}", source="a"), Definition(text=f"Said {n}", source="b"))[
                : n % 3
            ],
        )
        for n in range(40)
    ]
    ids = [concept.concept_id for concept in concepts]
    relations = [
        Relation(
            subject=ids[n], predicate=Predicate(("is_a", "attached_to")[n % 2]), object=ids[n // 2], source="ab"[n % 2]
        )
        for n in range(1, 40)
    ]
    origins = [Origin(name=name, version="1", licence="CC0-1.0", attribution="tests") for name in "ab"]
    ordered = sorted(concepts, key=lambda c: (c.source, c.concept_id))
    return Graph(ordered, sorted(relations, key=lambda r: (r.source, r.subject, r.predicate, r.object)), origins)


def drawn(table, *, side="train", seed=0, steps=3):
    sampler = MixtureSampler(table, parts=PARTS, batch_size=32, side=side, seed=seed)
    return [sampler.draw() for _ in range(steps)]


@pytest.mark.parametrize("side", ["train", None])
def test_an_index_on_disk_and_a_graph_in_memory_draw_the_same(two_sources, store_graph, side):
    folder = store_graph(two_sources)
    write_pair_index(folder)
    index, memory = PairIndex(folder), GraphPairs(two_sources, split_concepts(two_sources))
    assert index.runs == memory.runs
    assert drawn(index, side=side) == drawn(memory, side=side)


def test_an_index_knows_ancestors_and_fillers_as_the_graph_does(two_sources, store_graph):
    folder = store_graph(two_sources)
    write_pair_index(folder)
    index, memory = PairIndex(folder), GraphPairs(two_sources, split_concepts(two_sources))
    everything = [concept.concept_id for concept in two_sources]
    pairs = [pair for batch in drawn(index, side=None) for pair in batch if pair.relation]
    assert pairs
    for pair in pairs:
        assert set(index.ancestors(pair.concept_id)) == memory.ancestors(pair.concept_id)
        fillers = index.fillers(pair.relation, among=everything)
        assert fillers == memory.fillers(pair.relation, among=everything)
        assert pair.concept_id in fillers


def test_a_restored_mixture_goes_on_exactly(two_sources):
    table = GraphPairs(two_sources, split_concepts(two_sources))
    whole = drawn(table, seed=5, steps=6)
    stopped = MixtureSampler(table, parts=PARTS, batch_size=32, seed=5)
    for _ in range(3):
        stopped.draw()
    again = MixtureSampler(table, parts=PARTS, batch_size=32, seed=5)
    again.load_state_dict(stopped.state_dict())
    assert [again.draw() for _ in range(3)] == whole[3:]


def test_nothing_of_a_held_out_concept_is_drawn_not_even_the_other_end(two_sources):
    sides = split_concepts(two_sources)
    pairs = [pair for batch in drawn(GraphPairs(two_sources, sides), steps=30) for pair in batch]
    spoken_of = {pair.concept_id for pair in pairs} | {pair.relation.named for pair in pairs if pair.relation}
    assert {sides[concept] for concept in spoken_of} == {"train"}
    assert any(side != "train" for side in sides.values())


def test_inexact_synonyms_are_never_drawn(two_sources):
    pairs = [pair for batch in drawn(GraphPairs(two_sources, split_concepts(two_sources)), side=None) for pair in batch]
    assert any(pair.kind == "synonym" for pair in pairs)
    assert not any(pair.text.startswith("Wide") for pair in pairs)


def test_parts_come_in_their_shares_and_rows_uniformly(two_sources):
    table = GraphPairs(two_sources, split_concepts(two_sources))
    sizes = {"a definition": 26, "b definition": 13, "b synonym": 20, "relation": 39}
    counted = Counter((run.source, run.kind) for run in table.runs for _ in range(run.num))
    assert counted["a", "definition"] == sizes["a definition"]
    assert counted["b", "definition"] + counted["b", "synonym"] == 33
    sampler = MixtureSampler(table, parts=PARTS, batch_size=20_000, side=None, seed=1)
    shares = np.array([round(0.5 * 26), round(1.0 * 33), round(0.3 * 39)], dtype=float)
    shares /= shares.sum()
    assert sampler.shares == pytest.approx(shares.tolist())
    pairs = sampler.draw()
    found = np.array([
        sum(pair.text.startswith("Defined") for pair in pairs),
        sum(pair.text.startswith(("Said", "Nerf")) for pair in pairs),
        sum(pair.kind == "relation" for pair in pairs),
    ])  # fmt: skip
    deviation = np.sqrt(20_000 * shares * (1 - shares))
    assert (np.abs(found - 20_000 * shares) < 4.5 * deviation).all()
    asked = sum(pair.relation.asked == "object" for pair in pairs if pair.relation)
    assert abs(asked - found[2] / 2) < 4.5 * np.sqrt(found[2]) / 2
    rows = Counter(pair.text for pair in pairs if pair.text.startswith("Defined"))
    expected = found[0] / 26
    assert len(rows) == 26
    assert sum((count - expected) ** 2 / expected for count in rows.values()) < 60  # chi-square, 25 degrees of freedom


def test_a_source_that_is_not_there_is_refused_with_those_that_are(two_sources):
    part = MixturePart(sources=("c",), kinds=("definition",))
    table = GraphPairs(two_sources, split_concepts(two_sources))
    with pytest.raises(SettingError, match=r"no texts of 'c'.*a, b"):
        MixtureSampler(table, parts=[part], batch_size=2)


def test_shares_that_round_to_nothing_are_refused(two_sources):
    part = MixturePart(sources=("a",), kinds=("definition",), weight=0.001)
    table = GraphPairs(two_sources, split_concepts(two_sources))
    with pytest.raises(SettingError, match="rounds to 0"):
        MixtureSampler(table, parts=[part], batch_size=2)


def test_an_index_of_another_graph_or_damaged_is_refused(two_sources, store_graph):
    folder = store_graph(two_sources)
    with pytest.raises(FolderError, match="no pairs folder"):
        PairIndex(folder)
    write_pair_index(folder)
    texts = folder / "pairs" / "names.texts"
    texts.write_bytes(texts.read_bytes()[:-1])
    with pytest.raises(FolderError, match="do not belong together"):
        PairIndex(folder)
    write_pair_index(folder)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"python"', '"pithon"'))
    with pytest.raises(FolderError, match="another graph"):
        PairIndex(folder)
