"""What tests of both stages need."""

import pytest

from vesalius.ids import ConceptId
from vesalius.knowledge.graph import Graph


@pytest.fixture
def sides(graph: Graph) -> dict[ConceptId, str]:
    """Every tenth concept validates, the next one tests, the others train."""
    kinds = {8: "validation", 9: "test"}
    return {concept.concept_id: kinds.get(int(concept.concept_id[-1]), "train") for concept in graph}
