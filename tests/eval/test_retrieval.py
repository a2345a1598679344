import numpy as np
import pytest

from vesalius.eval.retrieval import definition_queries, retrieval_ranks, retrieval_scores, synonym_queries
from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Concept, Definition, Scope, Synonym
from vesalius.knowledge.graph import Graph


def test_ties_count_against_us():
    same = np.ones((4, 2), dtype=np.float32)
    ranks = retrieval_ranks(same[:1], same, answers=["a"], owners=["a", "b", "c", "d"])
    assert ranks.tolist() == [4]


def test_the_best_of_several_right_candidates_counts():
    candidates = np.eye(3, dtype=np.float32)
    ranks = retrieval_ranks(candidates[:1], candidates, answers=["a"], owners=["a", "b", "a"])
    assert ranks.tolist() == [1]


def test_an_excluded_candidate_takes_no_part():
    candidates = np.array([[1, 0], [0.9, 0.1], [0.8, 0.2]], dtype=np.float32)
    ranks = retrieval_ranks(candidates[:1], candidates, answers=["a"], owners=["a", "b", "a"], excluded=[0])
    assert ranks.tolist() == [2]


def test_scores_are_those_of_the_ranks():
    scores = retrieval_scores(np.array([1, 2, 6, 20]), num_candidates=50)
    assert (scores.recall_at_1, scores.recall_at_5, scores.recall_at_10) == (0.25, 0.5, 0.75)
    assert scores.mrr == pytest.approx((1 + 1 / 2 + 1 / 6 + 1 / 20) / 4)
    assert scores.recall_at_1_interval[0] <= 0.25 <= scores.recall_at_1_interval[1]
    assert scores.chance_at_1 == 0.02


def test_only_texts_of_the_asked_sources_are_queries():
    concept = Concept(
        concept_id=ConceptId("UBERON:1"),
        name="liver",
        source="uberon",
        synonyms=(
            Synonym(text="hepar", scope=Scope.EXACT, source="uberon"),
            Synonym(text="liver organ", scope=Scope.EXACT, source="handbook"),
        ),
        definitions=(
            Definition(text="An exocrine gland.", source="uberon"),
            Definition(text="The largest gland.", source="handbook"),
        ),
    )
    graph = Graph([concept], [])
    assert definition_queries(graph, {concept.concept_id}).texts == ["An exocrine gland."]
    assert synonym_queries(graph, {concept.concept_id}).texts == ["hepar"]
    both = ("uberon", "handbook")
    assert len(definition_queries(graph, {concept.concept_id}, sources=both).texts) == 2
    assert len(synonym_queries(graph, {concept.concept_id}, sources=both).texts) == 2
