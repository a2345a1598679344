"""OWL in RDF/XML, OWL/XML or functional syntax, through py-horned-owl.

Taken, of named classes: ``rdfs:label`` as name; oboInOwl's synonyms by scope; ``IAO:0000115`` as definition, with the
``hasDbXref`` of the axiom as references; what FMA, SKOS, NCIt, RadLex and EFO write in their place (`concept_texts`);
``hasDbXref`` and named equivalent classes as xrefs; ``SubClassOf`` and the parts of intersections in ``EquivalentClasses`` as
relations: a named class is ``is_a``, an existential restriction (or one of at least one) is the label of its property;
``hasAlternativeId`` as an obsolete id replaced by the class; ``owl:deprecated`` with ``IAO:0100001``.

Texts marked with a language other than English are left out, and so are imports, which are not fetched. A class without a name
is no concept of the file; what is said of it may belong to a concept of another source.

Source: https://www.w3.org/TR/owl2-syntax/; https://github.com/geneontology/oboInOwl. A property that a file uses
without declaring it comes out of the parser as a data or object property, and is read as the annotation it is meant to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from vesalius.errors import InputError
from vesalius.folder import Origin
from vesalius.knowledge.sources.concept_texts import LABEL, XREF, ConceptTexts
from vesalius.knowledge.sources.iris import curie_of, local_part
from vesalius.knowledge.sources.options import SourceOptions
from vesalius.knowledge.sources.owl_file import OwlFile, safe_owl
from vesalius.knowledge.sources.predicate_names import predicate_name
from vesalius.knowledge.sources.provenance import origin_of, refuse_spec
from vesalius.knowledge.sources.text_file import read_lines
from vesalius.knowledge.staging import Staging

_NO_CONCEPTS = {"http://www.w3.org/2002/07/owl#Thing", "http://www.w3.org/2002/07/owl#Nothing"}
_IS_A = ""
"""Stands for the property of a superclass that is named."""

_AT_LEAST = {"ObjectMinCardinality", "ObjectExactCardinality"}
_POSITION = re.compile(r"line_col: Pos\(\((\d+), \d+\)\)")
_INVALID = re.compile(r'(Invalid\w+) \{ \w+: "((?:[^"\\]|\\.)*)"')
_MESSAGE = re.compile(r'Msg\("((?:[^"\\]|\\.)*)"\)')
_CULPRIT = re.compile(r"Unexpected text event: '(?:\\n|\s)*(.+?)(?:\\n|\s)*'|(\S+) is not")


def stage_owl(path: Path, staging: Staging, options: SourceOptions) -> tuple[Origin, ...]:
    """Stages an OWL file, gzipped or not.

    Raises:
        InputError: it cannot be read (`safe_owl`), or py-horned-owl is not installed; or a row is refused and `staging` does not
            keep going.
        SettingError: a YAML was named.
    """
    refuse_spec(options, kind="owl")
    with safe_owl(path) as file:
        said = _Said(lines=dict(file.lines))
        for annotated in _components(path, file):
            said.take(annotated.component, annotated.ann)
    _stage(said, staging)
    version = said.version or said.header.get("versionInfo")
    licence = said.header.get("license") or said.header.get("licence") or said.header.get("rights")
    attribution = (said.header.get("title") or said.iri, said.header.get("homepage"))
    return (origin_of(path, name=staging.source, version=version, licence=licence, attribution=attribution),)


def _components(path: Path, file: OwlFile) -> Iterable[Any]:
    try:
        import pyhornedowl  # noqa: PLC0415  only this reader needs it
    except ImportError as error:
        raise InputError(
            "OWL is read by py-horned-owl, which is not installed",
            where=path,
            remedy="pip install 'vesalius[knowledge]'",
        ) from error
    try:
        return pyhornedowl.open_ontology_from_file(str(file.path), file.serialization).get_components()
    except ValueError as error:
        raise _refusal(path, str(error)) from error


def _refusal(path: Path, error: str) -> InputError:
    """Returns what to raise where the parser fails. It names a line of functional syntax only; in XML its culprit is looked for."""
    position, invalid, message = _POSITION.search(error), _INVALID.search(error), _MESSAGE.search(error)
    said, culprit = "no axiom can be read here", None
    if invalid is not None:
        said, culprit = f"{invalid[1]} {invalid[2]!r}", invalid[2]
    elif message is not None:
        said, found = message[1], _CULPRIT.search(message[1])
        culprit = found and (found[1] or found[2])
    line = int(position[1]) if position is not None else None
    if line is None and culprit:
        line = next((number for number, text in read_lines(path) if escape(culprit) in text), None)
    return InputError(
        f"cannot be parsed as OWL ({said})",
        where=path if line is None else f"{path}:{line}",
        remedy="is the file cut off, or edited by hand?",
    )


@dataclass(kw_only=True)
class _Said:
    """What the axioms of a file say, by IRI; axioms come in no order of their own.

    Attributes:
        lines: IRI → line.
        classes: IRI of a declared or described class → its texts.
        annotations: subject, property, value, references.
        relations: subject, property or `_IS_A`, object.
        equivalents: pairs of named classes.
        header: local name of an annotation of the ontology (``license``, ``title``) → the first of its values in order.
    """

    lines: dict[str, int]
    classes: set[str] = field(default_factory=set)
    annotations: list[tuple[str, str, str, tuple[str, ...]]] = field(default_factory=list)
    relations: list[tuple[str, str, str]] = field(default_factory=list)
    equivalents: list[tuple[str, str]] = field(default_factory=list)
    header: dict[str, str] = field(default_factory=dict)
    iri: str | None = None
    version: str | None = None

    def take(self, component: Any, annotations: Iterable[Any]) -> None:
        """Takes one axiom with its annotations."""
        match type(component).__name__:
            case "DeclareClass":
                self.classes.add(str(component.first.first))
            case "AnnotationAssertion":
                self._annotation(component.subject, component.ann.ap.first, component.ann.av, annotations)
            case "DataPropertyAssertion":
                self._annotation(_iri(component.source), component.dp.first, component.target, annotations)
            case "ObjectPropertyAssertion":
                self._annotation(_iri(component.source), _iri(component.ope), _iri(component.target), annotations)
            case "SubClassOf":
                self._superclass(component.sub, component.sup)
            case "EquivalentClasses":
                self._equivalent(component.first)
            case "OntologyAnnotation":
                self._header(component.first)
            case "OntologyID":
                self.iri = str(component.iri) if component.iri is not None else None
                self.version = str(component.viri) if component.viri is not None else None

    def _annotation(self, subject: Any, address: Any, value: Any, annotations: Iterable[Any]) -> None:
        text = _text(value)
        if subject is None or address is None or text is None:
            return
        references = tuple(
            sorted(
                found for each in annotations if str(each.ap.first) == XREF and (found := _text(each.av)) is not None
            )
        )
        self.annotations.append((str(subject), str(address), text, references))

    def _superclass(self, subject: Any, superclass: Any) -> None:
        if type(subject).__name__ == "Class":
            iri = str(subject.first)
            self.relations += [(iri, address, target) for address, target in _parts(superclass)]

    def _equivalent(self, members: Iterable[Any]) -> None:
        named = sorted(str(member.first) for member in members if type(member).__name__ == "Class")
        for subject in named:
            for member in members:
                if type(member).__name__ == "ObjectIntersectionOf":
                    self.relations += [(subject, address, target) for address, target in _parts(member)]
        self.equivalents += [(named[0], other) for other in named[1:]]

    def _header(self, annotation: Any) -> None:
        key, text = local_part(str(annotation.ap.first)), _text(annotation.av)
        if text is not None:
            self.header[key] = min(text, self.header.get(key, text))


def _parts(expression: Any) -> Iterator[tuple[str, str]]:
    """Yields property (or `_IS_A`) and named class of everything an instance of `expression` must be or have."""
    kind = type(expression).__name__
    if kind == "Class":
        yield _IS_A, str(expression.first)
    elif kind == "ObjectIntersectionOf":
        for part in expression.first:
            yield from _parts(part)
    elif kind == "ObjectSomeValuesFrom" or (kind in _AT_LEAST and expression.n > 0):
        address = _iri(expression.ope)
        if address is not None and type(expression.bce).__name__ == "Class":
            yield address, str(expression.bce.first)


def _iri(thing: Any) -> str | None:
    """Returns the IRI of a named property or individual; None of an anonymous one or an inverse."""
    kind = type(thing).__name__
    if kind == "IRI":
        return str(thing)
    return str(thing.first) if kind in {"ObjectProperty", "NamedIndividual"} else None


def _text(value: Any) -> str | None:
    """Returns the text of a literal, or an IRI; None of another language than English, or of a thing without a name."""
    if value is None or isinstance(value, str):
        return value
    if type(value).__name__ == "IRI":
        return str(value)
    language = getattr(value, "lang", None)
    if language and language.lower().split("-")[0] != "en":
        return None
    return getattr(value, "literal", None)


def _stage(said: _Said, staging: Staging) -> None:
    texts: dict[str, ConceptTexts] = {}
    labels: dict[str, str] = {}
    subjects = said.classes | {subject for subject, _, _ in said.relations}
    for iri in sorted(subjects - _NO_CONCEPTS):
        texts[iri] = ConceptTexts(concept_id=curie_of(iri), line=said.lines.get(iri))
    for subject, address, text, references in sorted(said.annotations):
        if subject in texts:
            texts[subject].annotate(address, text, references)
        elif address == LABEL:
            labels.setdefault(subject, text)
    for one, other in sorted(said.equivalents):
        if one in texts and other not in _NO_CONCEPTS:
            texts[one].xrefs.append(curie_of(other))
    obsolete_ids = {said_of.concept_id for said_of in texts.values() if said_of.is_obsolete}
    for said_of in texts.values():
        said_of.stage(staging, obsolete_ids=obsolete_ids)
    for subject, address, target in sorted(set(said.relations)):
        if subject in texts and target not in _NO_CONCEPTS and not texts[subject].is_obsolete:
            predicate = "is_a" if address == _IS_A else predicate_name(curie_of(address), labels.get(address))
            staging.relation(texts[subject].concept_id, predicate, curie_of(target), line=texts[subject].line)
