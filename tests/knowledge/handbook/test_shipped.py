"""The handbook that ships with the package."""

import json
import re

import pytest

from vesalius.knowledge.handbook.check import check_all, check_wording, read_decisions
from vesalius.knowledge.handbook.expand import Handbook
from vesalius.knowledge.handbook.files import read_entries, shipped
from vesalius.knowledge.handbook.sentences import appearance_sentences, size_sentence
from vesalius.knowledge.handbook.spellings import coverage, read_labels, read_unresolved


@pytest.fixture(scope="module")
def book():
    return Handbook(read_entries())


def test_nothing_is_wrong_with_it_as_far_as_a_machine_can_say(uberon_and_mondo):
    outcome = check_all(shipped(), uberon_and_mondo)
    assert [f"{problem.where}: {problem.what}" for problem in outcome.problems] == []


def test_it_covers_the_labels_of_public_datasets(book, shared_data):
    labels = read_labels(shared_data / "labels.tsv")
    found = coverage(book, labels, read_unresolved(shipped()))
    assert found.missing == ()
    resolved = {label.label for label in found.matches}
    assert len(resolved) >= 0.95 * len({label.label for label in labels})


def test_no_excuse_and_no_decision_is_left_over(book, shared_data):
    labels = {label.label for label in read_labels(shared_data / "labels.tsv")}
    assert {label.label for label in read_unresolved(shipped())} <= labels
    for subject, predicate, target in read_decisions(shipped() / "decisions.tsv"):
        said = {(said, str(other)) for said, other in book[subject].relations}
        assert predicate == "name" or (predicate, target) in said, (subject, predicate, target)


def test_it_shares_no_run_of_words_with_the_published_sample(book, shared_data):
    sample = json.loads((shared_data / "sat" / "supplementary_sample.json").read_text(encoding="utf-8"))
    texts = [(name, str(entry)) for name, entry in sample.items()]
    assert len(texts) > 50
    assert [problem.what for problem in check_wording(book, texts)] == []


def test_a_sided_definition_names_its_side(book):
    silent = [
        concept.concept_id
        for concept in book
        if concept.unsided and not re.search(rf"\b{concept.laterality}\b", concept.definition, re.IGNORECASE)
    ]
    assert silent == []


def test_no_two_concepts_share_a_definition(book):
    seen = {}
    for concept in book:
        assert seen.setdefault(concept.definition, concept.concept_id) == concept.concept_id


def test_ranges_are_said_with_their_units(book):
    left = book["UBERON:0004538"]
    assert size_sentence(left)[0].startswith("Size in adults: volume ")
    assert re.search(r"Its mean density on unenhanced CT is -?\d+ to \d+ HU\.", appearance_sentences(left)[0])
    assert size_sentence(book["UBERON:0000062"]) == []
