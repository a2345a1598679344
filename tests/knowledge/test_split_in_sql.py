"""The split made in SQL is the split made in memory."""

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vesalius.folder import Origin
from vesalius.ids import ConceptId
from vesalius.knowledge.build import build
from vesalius.knowledge.concept import Concept, Scope, Synonym, Xref
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.split import make_sides, split_concepts
from vesalius.knowledge.store import read_graph


def sides_in_sql(folder):
    with duckdb.connect() as connection:
        make_sides(connection, folder)
        rows = connection.execute("SELECT number, concept_id, side FROM sides ORDER BY number").fetchall()
    assert [number for number, _, _ in rows] == list(range(len(rows)))
    return {concept_id: side for _, concept_id, side in rows}


concept_lists = st.lists(
    st.tuples(
        st.sampled_from(["Rib", "rib_", "Ünder", "liver", "Left-rib", "a", "b"]),
        st.lists(st.sampled_from(["rib", "UNDER", "ünder", "c", "b"]), max_size=2),
        st.lists(st.sampled_from(["FMA:1", "FMA:2", "X:0", "X:3", "X:9"]), max_size=2),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(concept_lists)
def test_concepts_that_share_names_or_xrefs_share_a_side_in_sql_as_in_memory(tmp_path_factory, listed):
    from vesalius.knowledge.store import write_graph

    concepts = [
        Concept(
            concept_id=ConceptId(f"X:{place}"),
            name=name,
            source="x",
            synonyms=tuple(Synonym(text=text, scope=Scope.EXACT, source="x") for text in dict.fromkeys(synonyms)),
            xrefs=tuple(Xref(target=target, source="x") for target in dict.fromkeys(xrefs)),
        )
        for place, (name, synonyms, xrefs) in enumerate(listed)
    ]
    graph = Graph(concepts, [], [Origin(name="x", version="1", licence="CC0-1.0", attribution="tests")])
    folder = tmp_path_factory.mktemp("split") / "graph"
    write_graph(graph, folder)
    assert sides_in_sql(folder) == split_concepts(graph)


def test_a_long_chain_of_shared_names_is_one_group(store_graph):
    concepts = [
        Concept(
            concept_id=ConceptId(f"X:{(place * 37) % 101:03d}"),
            name=f"link {place}",
            source="x",
            synonyms=(Synonym(text=f"link {place + 1}", scope=Scope.EXACT, source="x"),),
        )
        for place in range(101)
    ]
    graph = Graph(concepts, [], [Origin(name="x", version="1", licence="CC0-1.0", attribution="tests")])
    assert len(set(sides_in_sql(store_graph(graph)).values())) == 1


@pytest.mark.slow
def test_uberon_and_mondo_are_split_in_sql_as_in_memory(tmp_path):
    pytest.importorskip("zstandard")
    build(["uberon", "mondo"], tmp_path / "graph")
    assert sides_in_sql(tmp_path / "graph") == split_concepts(read_graph(tmp_path / "graph"))
