"""What several rooms' tests need."""

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
