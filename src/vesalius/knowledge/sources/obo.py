"""OBO 1.2 and 1.4: a term a stanza.

Taken: name, synonyms with scope, definitions with their xrefs as references, xrefs, ``equivalent_to`` as xref, ``is_a``,
``relationship`` and the parts of ``intersection_of`` as relations, ``alt_id`` as an obsolete id replaced by the term, obsolete
terms with ``replaced_by``.

Left out, because it says nothing about the concept itself or nothing that is always true of it: relationships whose
``[Typedef]`` is a metadata tag (``dc-contributor``, ``present_in_taxon``), statements that hold in a context (modifiers
``gci_relation``, ``gci_filler``), for none or only for all (``cardinality="0"``, ``all_only="true"``), ``union_of``,
``disjoint_from``; ``consider``, which is a hint and no replacement; ``import`` lines, whose files are not fetched. Instances are
no concepts, and a term without a name is none of this file: what is said of it may belong to a concept of another source.

The file is read twice, since typedefs stand behind the terms that use them. Memory grows with neither.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vesalius.errors import InputError
from vesalius.folder import Origin
from vesalius.ids import concept_id as checked_id
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.sources.iris import curie_of
from vesalius.knowledge.sources.obo_text import Clause, Quoted, Stanza, modifiers, plain, quoted, read_stanzas, tokens
from vesalius.knowledge.sources.options import SourceOptions
from vesalius.knowledge.sources.predicate_names import predicate_name
from vesalius.knowledge.sources.provenance import origin_of, refuse_spec
from vesalius.knowledge.staging import Staging

_DEPRECATED_SYNONYMS = {f"{scope}_synonym": scope for scope in Scope}
"""Tags of OBO 1.0 that 1.2 still allows."""

_DATE = re.compile(r"^(\d{2}):(\d{2}):(\d{4})\b")
"""How ``date`` of a header begins: day, month, year."""

_IDS = {"xref", "equivalent_to", "alt_id", "is_a"}


def stage_obo(path: Path, staging: Staging, options: SourceOptions) -> tuple[Origin, ...]:
    """Stages an OBO file, gzipped or not.

    Raises:
        InputError: it cannot be read or is no OBO file; or a row is refused and `staging` does not keep going.
        SettingError: a YAML was named.
    """
    refuse_spec(options, kind="obo")
    context = _read_context(path)
    for stanza in read_stanzas(path):
        if stanza.kind == "Term":
            _stage_term(stanza, staging, context)
    return (_origin(path, staging.source, context.header),)


@dataclass(frozen=True, kw_only=True)
class _Context:
    """What terms need of the rest of the file.

    Attributes:
        header: the stanza before the first.
        predicates: id of a typedef → its predicate; None for a metadata tag.
        obsolete_ids: ids of obsolete terms; an ``alt_id`` among them is said already.
        synonym_types: declared synonym type → its scope, or None where it fixes none.
    """

    header: Stanza
    predicates: Mapping[str, str | None]
    obsolete_ids: frozenset[str]
    synonym_types: Mapping[str, Scope | None]


def _read_context(path: Path) -> _Context:
    stanzas = read_stanzas(path)
    header = next(stanzas)
    predicates: dict[str, str | None] = {}
    obsolete: set[str] = set()
    for stanza in stanzas:
        if stanza.kind == "Typedef":
            ids, predicate = _predicate(stanza)
            for typedef in ids:
                predicates.setdefault(typedef, predicate)
        elif stanza.kind == "Term" and _is_obsolete(stanza):
            obsolete.update(_ids(stanza, "id"))
    synonym_types = {
        clause.value.split(maxsplit=1)[0]: _scope_of_type(path, clause)
        for clause in header.all("synonymtypedef")
        if clause.value
    }
    return _Context(header=header, predicates=predicates, obsolete_ids=frozenset(obsolete), synonym_types=synonym_types)


def _predicate(typedef: Stanza) -> tuple[list[str], str | None]:
    """Returns the ids a typedef goes by, and its predicate; None for a metadata tag."""
    ids = _ids(typedef, "id", "xref")
    tag = typedef.first("is_metadata_tag")
    if tag is not None and tokens(tag.value, num=1) == ("true",):
        return ids, None
    name = typedef.first("name")
    return ids, predicate_name(ids[0] if ids else "", plain(name.value) if name else None)


def _ids(stanza: Stanza, *tags: str) -> list[str]:
    return [curie_of(word) for clause in stanza.all(*tags) for word in tokens(clause.value, num=1)]


def _scope_of_type(path: Path, clause: Clause) -> Scope | None:
    described = clause.value.split(maxsplit=1)[1:]
    if not described:
        return None
    try:
        words = quoted(described[0]).words
    except InputError as error:
        raise InputError(f"synonymtypedef: {error.what}", where=f"{path}:{clause.line}") from error
    return _SCOPES.get(words[0]) if words else None


_SCOPES = {scope.value.upper(): scope for scope in Scope}


def _stage_term(stanza: Stanza, staging: Staging, context: _Context) -> None:
    first = stanza.first("id")
    assert first is not None
    identifier = curie_of(next(iter(tokens(first.value, num=1)), ""))
    try:
        checked_id(identifier)
    except InputError as error:
        staging.reject(error.what, line=first.line, row=_row(first))
        return
    if _is_obsolete(stanza):
        _stage_obsolete(stanza, identifier, first.line, staging)
        return
    names = list(stanza.all("name"))
    for clause in names[:1]:
        staging.concept(identifier, plain(clause.value), line=first.line)
    for clause in names[1:]:
        staging.synonym(identifier, plain(clause.value), Scope.EXACT, line=clause.line)
    for clause in stanza.clauses:
        _stage_clause(clause, identifier, staging, context)


def _stage_clause(clause: Clause, identifier: str, staging: Staging, context: _Context) -> None:
    tag = clause.tag
    if tag in _IDS:
        words = [curie_of(word) for word in tokens(clause.value, num=1)]
        if not words:
            staging.reject(f"{tag} without an id", line=clause.line, row=_row(clause))
        elif tag == "is_a":
            _stage_relation(clause, "is_a", words[0], identifier, staging)
        elif tag == "alt_id" and words[0] not in context.obsolete_ids:
            staging.obsolete(words[0], replaced_by=(identifier,), line=clause.line)
        elif tag in {"xref", "equivalent_to"}:
            staging.xref(identifier, words[0], line=clause.line)
    elif tag in {"def", "synonym"} or tag in _DEPRECATED_SYNONYMS:
        _stage_text(clause, identifier, staging, context)
    elif tag in {"relationship", "intersection_of"}:
        _stage_relationship(clause, identifier, staging, context)


def _stage_text(clause: Clause, identifier: str, staging: Staging, context: _Context) -> None:
    try:
        text = quoted(clause.value)
        scope = None if clause.tag == "def" else _scope(clause.tag, text, context)
    except InputError as error:
        staging.reject(f"{clause.tag}: {error.what}", line=clause.line, row=_row(clause))
        return
    if scope is None:
        staging.definition(identifier, text.text, references=text.references, line=clause.line)
    else:
        staging.synonym(identifier, text.text, scope, line=clause.line)


def _scope(tag: str, synonym: Quoted, context: _Context) -> Scope:
    if tag in _DEPRECATED_SYNONYMS:
        return _DEPRECATED_SYNONYMS[tag]
    if not synonym.words:
        return Scope.RELATED
    word = synonym.words[0]
    if word in _SCOPES:
        return _SCOPES[word]
    if word in context.synonym_types:
        return context.synonym_types[word] or Scope.RELATED
    raise InputError(f"{word!r} is neither a scope ({', '.join(_SCOPES)}) nor a declared synonym type")


def _stage_relationship(clause: Clause, identifier: str, staging: Staging, context: _Context) -> None:
    words = tokens(clause.value, num=2)
    if clause.tag == "intersection_of" and len(words) == 1:
        words = ("is_a", *words)
    if len(words) < 2:
        staging.reject(f"{clause.tag} without predicate and id", line=clause.line, row=_row(clause))
        return
    written, target = words
    predicate = context.predicates[written] if written in context.predicates else predicate_name(written, None)
    if predicate is not None:
        _stage_relation(clause, predicate, target, identifier, staging)


def _stage_relation(clause: Clause, predicate: str, target: str, identifier: str, staging: Staging) -> None:
    if "{" in clause.value and not _always_holds(modifiers(clause.value)):
        return
    staging.relation(identifier, predicate, curie_of(target), line=clause.line)


def _always_holds(found: Mapping[str, str]) -> bool:
    """Says whether a relation with these modifiers holds for every instance of its subject."""
    if "gci_relation" in found or "gci_filler" in found:
        return False
    if "0" in (found.get("cardinality"), found.get("maxCardinality")):
        return False
    return found.get("all_only") != "true" or found.get("all_some") == "true"


def _is_obsolete(stanza: Stanza) -> bool:
    clause = stanza.first("is_obsolete")
    return clause is not None and tokens(clause.value, num=1) == ("true",)


def _stage_obsolete(stanza: Stanza, identifier: str, line: int, staging: Staging) -> None:
    name = stanza.first("name")
    staging.obsolete(
        identifier,
        name=plain(name.value) if name else None,
        replaced_by=_ids(stanza, "replaced_by"),
        line=line,
    )


def _origin(path: Path, source: str, header: Stanza) -> Origin:
    properties: dict[str, str] = {}
    for clause in header.all("property_value"):
        words = clause.value.split(maxsplit=1)
        if len(words) == 2:
            key = words[0].replace("-", "/").replace("#", "/").replace(":", "/").rsplit("/", 1)[-1]
            properties.setdefault(key, _property(path, clause, words[1]))
    ontology = header.first("ontology")
    return origin_of(
        path,
        name=source,
        version=_version(header),
        licence=properties.get("license") or properties.get("licence") or properties.get("rights"),
        attribution=(properties.get("title") or (ontology and plain(ontology.value)), properties.get("homepage")),
    )


def _property(path: Path, clause: Clause, value: str) -> str:
    if not value.startswith('"'):
        return next(iter(tokens(value, num=1)), "")
    try:
        return quoted(value).text
    except InputError as error:
        raise InputError(f"property_value: {error.what}", where=f"{path}:{clause.line}") from error


def _version(header: Stanza) -> str | None:
    """Returns the release as the header names it; its ``date``, which begins with the day (``dd:MM:yyyy``), with the year first."""
    version = header.first("data-version")
    if version is not None:
        return plain(version.value)
    date = header.first("date")
    return date and _DATE.sub(r"\3-\2-\1", plain(date.value))


def _row(clause: Clause) -> str:
    return f"{clause.tag}: {clause.value}"
