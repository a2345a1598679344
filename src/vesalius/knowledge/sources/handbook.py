"""The Vesalius handbook, which ships with the package (`vesalius.knowledge.handbook`)."""

from __future__ import annotations

from vesalius.folder import Origin, sha256_of, version
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.handbook.entry import OPPOSITES, SYMMETRIC
from vesalius.knowledge.handbook.expand import Handbook, HandbookConcept
from vesalius.knowledge.handbook.files import handbook_files, read_entries, shipped
from vesalius.knowledge.handbook.sentences import appearance_sentences, size_sentence
from vesalius.knowledge.staging import Staging

LICENCE = "CC-BY-4.0"
ATTRIBUTION = "The Vesalius handbook"

_INVERSE = {kept: derived for derived, kept in OPPOSITES.items()}


def stage_handbook(staging: Staging) -> tuple[Origin, ...]:
    """Stages the handbook: every concept with its names, its definition, how it looks, its size and its relations.

    Latin names and abbreviations are exact synonyms. What it looks like and how large it is are further definitions. Of
    relations with an opposite both directions are staged, and symmetric ones from both ends. The spellings of datasets
    are not staged: they are labels, not language (`vesalius.knowledge.handbook.spellings` reads them).

    Raises:
        InputError: an entry breaks the schema.
    """
    folder = shipped()
    handbook = Handbook(read_entries(folder))
    for concept in handbook:
        _stage_concept(staging, concept)
    for concept in handbook:
        for predicate, target in concept.relations:
            staging.relation(concept.concept_id, predicate, target, line=_line(staging, concept))
            if predicate in _INVERSE:
                staging.relation(target, _INVERSE[predicate], concept.concept_id, line=_line(staging, concept))
            elif predicate in SYMMETRIC and predicate != "mirror_of":
                staging.relation(target, predicate, concept.concept_id, line=_line(staging, concept))
    return (
        Origin(
            name=staging.source,
            version=version(),
            licence=LICENCE,
            attribution=ATTRIBUTION,
            sha256={path.name: sha256_of(path) for path in handbook_files(folder)},
        ),
    )


def _stage_concept(staging: Staging, concept: HandbookConcept) -> None:
    line = _line(staging, concept)
    body = concept.body
    staging.concept(concept.concept_id, concept.name, line=line)
    texts = {concept.name: Scope.EXACT}
    for text, scope in (
        *((synonym.text, synonym.scope) for synonym in body.synonyms),
        *((text, Scope.EXACT) for text in (*body.latin, *body.abbreviations)),
    ):
        if texts.setdefault(text, scope) is scope and text != concept.name:
            staging.synonym(concept.concept_id, text, scope, line=line)
    references = concept.entry.reviewed.references
    sentences = [concept.definition, *appearance_sentences(concept), *size_sentence(concept)]
    for sentence in sentences:
        staging.definition(concept.concept_id, sentence, references=references, line=line)
    for xref in body.xrefs:
        staging.xref(concept.concept_id, xref, line=line)


def _line(staging: Staging, concept: HandbookConcept) -> int:
    """Points the staging at the file of a concept's entry and returns its line."""
    staging.file, _, line = concept.entry.where.partition(":")
    return int(line)
