"""Ontologies as they ship in packages, read once for all tests of this room."""

import pytest

from vesalius.knowledge.build import build_graph
from vesalius.knowledge.graph import Graph


@pytest.fixture(scope="session")
def uberon_and_mondo() -> Graph:
    """UBERON and MONDO in one graph."""
    return build_graph(["uberon", "mondo"])
