"""What several rooms' tests need."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from vesalius.folder import Origin
from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Concept, Definition, Relation, Scope, Synonym
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.predicates import IS_A_OR_PART_OF

ORGANS = ("liver", "spleen", "kidney", "lung", "heart", "brain", "stomach", "pancreas", "bladder", "colon")


@pytest.fixture
def graph() -> Graph:
    """Sixty anatomy concepts under a root, each with a definition and a synonym."""
    root = Concept(concept_id=ConceptId("UBERON:9999999"), name="organ", source="uberon")
    concepts = [
        Concept(
            concept_id=ConceptId(f"UBERON:{number:07d}"),
            name=f"{ORGANS[number % 10]} {number}",
            source="uberon",
            synonyms=(Synonym(text=f"organ no {number}", scope=Scope.EXACT, source="uberon"),),
            definitions=(
                Definition(text=f"An organ like the {ORGANS[number % 10]}, number {number}.", source="uberon"),
            ),
        )
        for number in range(60)
    ]
    relations = [
        Relation(
            subject=concept.concept_id, predicate=IS_A_OR_PART_OF, object=root.concept_id, source="uberon"
        )
        for concept in concepts
    ]
    origin = Origin(name="uberon", version="test", licence="CC0-1.0", attribution="made for tests")
    return Graph([root, *concepts], relations, [origin])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; tests that need it skip where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("no real data beside the checkout (../shared/data)")
    return path


@pytest.fixture
def store_graph(tmp_path) -> Callable[[Graph], Path]:
    """Writes a graph as a folder of Parquet tables and returns the folder."""

    def store(graph: Graph, name: str = "graph") -> Path:
        write_stored(graph, tmp_path / name)
        return tmp_path / name

    return store


def write_stored(graph: Graph, folder: Path) -> None:
    """Writes what `knowledge.store` says a graph folder holds, row by row."""
    from vesalius.folder import write_manifest
    from vesalius.knowledge import store
    from vesalius.knowledge.names import normalise
    from vesalius.tables import write_table

    folder.mkdir(parents=True)
    sources = [origin.name for origin in graph.origins]
    concepts = sorted(graph, key=lambda c: (sources.index(c.source), c.concept_id))
    number = {concept.concept_id: place for place, concept in enumerate(concepts)}
    scopes = list(Scope)
    rows = {
        "concepts": [(number[c.concept_id], c.concept_id, c.name, c.source) for c in concepts],
        "synonyms": sorted(
            ((c.concept_id, s.text, str(s.scope), s.source, number[c.concept_id]) for c in concepts for s in c.synonyms),
            key=lambda row: (sources.index(row[3]), scopes.index(Scope(row[2])), row[4]),
        ),
        "definitions": sorted(
            (
                (c.concept_id, d.text, list(d.references), d.source, number[c.concept_id])
                for c in concepts
                for d in c.definitions
            ),
            key=lambda row: (sources.index(row[3]), row[4]),
        ),
        "relations": sorted(
            (
                (r.subject, r.predicate, r.object, r.source, number[r.subject], number[r.object])
                for r in graph.relations
            ),
            key=lambda row: (sources.index(row[3]), row[:3]),
        ),
        "xrefs": sorted(
            ((c.concept_id, x.target, x.source, number[c.concept_id]) for c in concepts for x in c.xrefs),
            key=lambda row: (sources.index(row[2]), row[3]),
        ),
        "names": [
            (text, number[c.concept_id], text == normalise(c.name))
            for c in concepts
            for text in dict.fromkeys(normalise(name) for name in c.exact_names())
        ],
        "conflicts": [],
        "rejects": [],
    }
    for table in ("synonyms", "definitions", "relations", "xrefs"):
        rows[table] = [(place, *row) for place, row in enumerate(rows[table])]
    rows["draws"] = _draws(rows)
    for table, columns in store.COLUMNS.items():
        write_table(folder / f"{table}.parquet", rows[table], schema=columns)
    write_manifest(folder, kind=store.KIND, schema=store.SCHEMA, origins=graph.origins)


def _draws(rows: dict[str, list[tuple]]) -> list[tuple]:
    keys = {
        "name": ("concepts", lambda row: (row[3], None)),
        "synonym": ("synonyms", lambda row: (row[4], row[3])),
        "definition": ("definitions", lambda row: (row[4], None)),
        "relation": ("relations", lambda row: (row[4], None)),
    }
    found = []
    for kind, (table, key) in keys.items():
        for (source, scope), group in itertools.groupby(rows[table], key=key):
            listed = list(group)
            found.append((kind, source, scope, listed[0][0], len(listed)))
    return found
