import pytest

from vesalius.errors import FolderError, SettingError
from vesalius.ids import ConceptId
from vesalius.knowledge.build import build_graph
from vesalius.knowledge.concept import Concept, Relation, Scope, Synonym, WrittenRow
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.names import split_laterality
from vesalius.knowledge.predicates import PART_OF, Predicate
from vesalius.knowledge.split import split_concepts
from vesalius.knowledge.store import read_graph, write_graph


@pytest.fixture(scope="module")
def uberon():
    return build_graph(["uberon"])


def test_a_graph_written_and_read_is_equal(graph, tmp_path):
    write_graph(graph, tmp_path / "graph")
    assert read_graph(tmp_path / "graph") == graph


def test_rows_as_they_were_written_come_back_in_their_order(graph, tmp_path):
    one, other = graph.origins[0].name, next(iter(graph)).concept_id
    written = (
        WrittenRow(kind="definition", source=one, concept_id=other, name=" Ren ", text="Filters."),
        WrittenRow(
            kind="relation", source=one, concept_id=other, name="Ren", text="Part Of", predicate=PART_OF, target="REN",
            target_id=other,
        ),
    )  # fmt: skip
    with_rows = Graph(graph, graph.relations, graph.origins, written)
    write_graph(with_rows, tmp_path / "graph")
    assert read_graph(tmp_path / "graph") == with_rows != graph


def test_what_a_vocabulary_puts_above_is_an_ancestor():
    concepts = [Concept(concept_id=ConceptId(f"U:{n}"), name=f"{n}", source="u") for n in range(4)]
    said = [("child_of", 0, 1), ("narrower_than", 1, 2), ("related_to", 2, 3)]
    relations = [
        Relation(subject=ConceptId(f"U:{s}"), predicate=Predicate(p), object=ConceptId(f"U:{o}"), source="u")
        for p, s, o in said
    ]
    assert Graph(concepts, relations).ancestors(ConceptId("U:0")) == {"U:1", "U:2"}


def test_a_missing_graph_is_refused_by_name(tmp_path):
    with pytest.raises(FolderError, match="no graph folder here"):
        read_graph(tmp_path / "nothing")


def test_an_unknown_source_is_refused_with_those_known():
    with pytest.raises(SettingError, match="uberon"):
        build_graph(["ubberon"])


def test_uberon_holds_live_concepts_with_texts_and_parents(uberon):
    counts = uberon.counts()["uberon"]
    assert counts["concepts"] > 14_000
    assert counts["definitions"] > 11_000
    assert counts["synonyms"] > 20_000
    (liver,) = uberon.named("LIVER")
    assert liver.concept_id == "UBERON:0002107"
    assert not any(concept.name.startswith("obsolete") for concept in uberon)
    assert ConceptId("UBERON:0002113") in uberon.ancestors(ConceptId("UBERON:0004538"))  # left kidney, kidney


def test_the_split_is_a_function_of_the_ids(uberon):
    sides = split_concepts(uberon)
    shares = [sum(side == wanted for side in sides.values()) / len(sides) for wanted in ("train", "validation", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    assert sides == split_concepts(uberon)


def test_concepts_that_share_a_name_share_a_side():
    concepts = [
        Concept(
            concept_id=ConceptId(f"X:{number}"),
            name=f"name {number}",
            source="x",
            synonyms=(Synonym(text=f"Pair_{number // 2}", scope=Scope.EXACT, source="x"),),
        )
        for number in range(200)
    ]
    sides = split_concepts(Graph(concepts, []))
    assert all(sides[ConceptId(f"X:{n}")] == sides[ConceptId(f"X:{n + 1}")] for n in range(0, 200, 2))
    assert len(set(sides.values())) == 3


@pytest.mark.parametrize(
    ("label", "rest", "side"),
    [
        ("Left-Hippocampus", "hippocampus", "left"),
        ("kidney_right", "kidney", "right"),
        ("Precentral_L", "precentral", "left"),
        ("ctx-rh-cuneus", "cuneus", "right"),
        ("RightPutamen", "putamen", "right"),
        ("vertebrae_L1", "vertebrae l1", None),
        ("left and right lung", "left and right lung", None),
        ("L", "l", None),
    ],
)
def test_the_side_is_read_from_a_label(label, rest, side):
    assert split_laterality(label) == (rest, side)
