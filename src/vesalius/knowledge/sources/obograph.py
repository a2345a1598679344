"""OBO Graph JSON: graphs of nodes and edges.

Taken: of nodes of type ``CLASS`` (or of none) the label, synonyms by scope, definition with xrefs as references, xrefs,
``deprecated`` with ``IAO:0100001``, alternative ids; edges as relations; genus and restrictions of ``logicalDefinitionAxioms``
as relations; ``equivalentNodesSets`` as xrefs.

A node without label is no concept of the file: what is said of it may belong to a concept of another source. One that several
graphs of the file state under one label (an ontology written with its imports) is one concept with all they say. Individuals,
properties and the other axioms (domains, chains) are left out.

Source: https://github.com/geneontology/obographs (schema ``og-schema.json``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vesalius.errors import InputError
from vesalius.folder import Origin
from vesalius.knowledge.sources.concept_texts import OIO, SYNONYMS, ConceptTexts
from vesalius.knowledge.sources.iris import curie_of, local_part
from vesalius.knowledge.sources.json_text import JsonText
from vesalius.knowledge.sources.options import SourceOptions
from vesalius.knowledge.sources.predicate_names import predicate_name
from vesalius.knowledge.sources.provenance import origin_of, refuse_spec
from vesalius.knowledge.staging import Staging


def stage_obograph(path: Path, staging: Staging, options: SourceOptions) -> tuple[Origin, ...]:
    """Stages an OBO Graph JSON file, gzipped or not.

    Raises:
        InputError: it cannot be read or is no OBO Graph; or a row is refused and `staging` does not keep going.
        SettingError: a YAML was named.
    """
    refuse_spec(options, kind="obograph")
    said = _read(path)
    _stage(said, staging)
    header = said.header
    return (
        origin_of(
            path,
            name=staging.source,
            version=header.get("version") or header.get("versionInfo"),
            licence=header.get("license") or header.get("licence") or header.get("rights"),
            attribution=(header.get("title") or header.get("id"), header.get("homepage")),
        ),
    )


@dataclass(kw_only=True)
class _Said:
    """The pieces of all graphs of a file with their lines; refused ones apart, as reason, line and piece.

    Attributes:
        nodes: each with the number of its graph.
        labels: id of a property → its label.
        others: ids of nodes that are no classes.
        equivalents: id of the one and of the other node.
        header: local name of an annotation of the first graph (``license``, ``title``) → its first value.
    """

    num_graphs: int = 0
    nodes: list[tuple[int, ConceptTexts]] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    relations: list[tuple[int, str, str, str]] = field(default_factory=list)
    equivalents: list[tuple[int, str, str]] = field(default_factory=list)
    refused: list[tuple[str, int, Any]] = field(default_factory=list)
    header: dict[str, str] = field(default_factory=dict)

    def take(self, read: Callable[[_Said, int, Mapping[str, Any]], None], line: int, piece: Any) -> None:
        """Takes one piece, or notes that it is refused."""
        try:
            read(self, line, _typed(piece, dict, "the piece"))
        except InputError as error:
            self.refused.append((error.what, line, piece))


def _read(path: Path) -> _Said:
    said = _Said()
    text = JsonText(path)
    found = False
    for key in text.members():
        if key == "graphs":
            found = True
            for _ in text.elements():
                _read_graph(text, said)
        else:
            text.value()
    text.end()
    if not found:
        raise InputError("no key 'graphs'", where=path, remedy="is this OBO Graph JSON?")
    return said


def _read_graph(text: JsonText, said: _Said) -> None:
    header: dict[str, str] = {}
    said.num_graphs += 1
    for key in text.members():
        if key in _PIECES and text.is_array():
            for _ in text.elements():
                line = text.line
                said.take(_PIECES[key], line, text.value())
        elif key in {"id", "meta"}:
            line = text.line
            header |= _header(key, text.value())
        else:
            text.value()
    said.header = said.header or header


def _header(key: str, value: Any) -> dict[str, str]:
    if key == "id":
        return {"id": value} if isinstance(value, str) else {}
    found: dict[str, str] = {}
    if isinstance(value, dict):
        if isinstance(value.get("version"), str):
            found["version"] = value["version"]
        for one in value.get("basicPropertyValues") or ():
            if isinstance(one, dict) and isinstance(one.get("pred"), str) and isinstance(one.get("val"), str):
                found.setdefault(local_part(one["pred"]), one["val"])
    return found


def _node(said: _Said, line: int, node: Mapping[str, Any]) -> None:
    identifier = _text(node, "id")
    label = node.get("lbl")
    kind = node.get("type")
    if kind not in {None, "CLASS"}:
        said.others.add(identifier)
        if isinstance(label, str):
            said.labels.setdefault(identifier, label)
        return
    texts = ConceptTexts(concept_id=curie_of(identifier), line=line)
    if label is not None:
        texts.names.append(_typed(label, str, "lbl"))
    meta = _typed(node.get("meta") or {}, dict, "meta")
    texts.is_obsolete = meta.get("deprecated") is True
    definition = meta.get("definition")
    if definition is not None:
        references = _typed(_typed(definition, dict, "definition").get("xrefs") or [], list, "xrefs")
        texts.definitions.append((_text(definition, "val"), tuple(_typed(each, str, "xrefs") for each in references)))
    for synonym in _objects(meta, "synonyms"):
        texts.synonyms.append((_text(synonym, "val"), SYNONYMS[_synonym_property(synonym)]))
    for xref in _objects(meta, "xrefs"):
        texts.xrefs.append(curie_of(_text(xref, "val")))
    for value in _objects(meta, "basicPropertyValues"):
        texts.annotate(_text(value, "pred"), _text(value, "val"))
    said.nodes.append((said.num_graphs, texts))


def _synonym_property(synonym: Mapping[str, Any]) -> str:
    written = _text(synonym, "pred")
    address = written if written in SYNONYMS else f"{OIO}{local_part(written)}"
    if address not in SYNONYMS:
        raise InputError(f"synonym of unknown kind {written!r}")
    return address


def _edge(said: _Said, line: int, edge: Mapping[str, Any]) -> None:
    said.relations.append((line, _text(edge, "sub"), _text(edge, "pred"), _text(edge, "obj")))


def _logical_definition(said: _Said, line: int, axiom: Mapping[str, Any]) -> None:
    subject = _text(axiom, "definedClassId")
    for genus in _typed(axiom.get("genusIds") or [], list, "genusIds"):
        said.relations.append((line, subject, "is_a", _typed(genus, str, "genusIds")))
    for each in _typed(axiom.get("restrictions") or [], list, "restrictions"):
        if each is not None:  # written for a restriction that the format cannot say
            restriction = _typed(each, dict, "restrictions")
            said.relations.append((line, subject, _text(restriction, "propertyId"), _text(restriction, "fillerId")))


def _equivalents(said: _Said, line: int, nodes: Mapping[str, Any]) -> None:
    members = sorted(_typed(each, str, "nodeIds") for each in _typed(nodes.get("nodeIds") or [], list, "nodeIds"))
    said.equivalents += [(line, members[0], other) for other in members[1:]]


_PIECES = {
    "nodes": _node,
    "edges": _edge,
    "logicalDefinitionAxioms": _logical_definition,
    "equivalentNodesSets": _equivalents,
}


def _objects(meta: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    for value in _typed(meta.get(key) or [], list, key):
        yield _typed(value, dict, key)


def _text(piece: Mapping[str, Any], key: str) -> str:
    if key not in piece:
        raise InputError(f"{key!r} is missing")
    return _typed(piece[key], str, key)


def _typed(value: Any, kind: type, key: str) -> Any:
    if not isinstance(value, kind):
        raise InputError(f"{key} is {type(value).__name__}, not {kind.__name__}")
    return value


def _stage(said: _Said, staging: Staging) -> None:
    for reason, line, piece in said.refused:
        staging.reject(reason, line=line, row=piece)
    obsolete_ids = {node.concept_id for _, node in said.nodes if node.is_obsolete}
    stated: dict[str, tuple[int, list[str]]] = {}
    for graph, node in said.nodes:
        first, names = stated.setdefault(node.concept_id, (graph, node.names)) if node.names else (graph, [])
        if first != graph and names == node.names:
            node.names = []
        node.stage(staging, obsolete_ids=obsolete_ids)
    for line, one, other in said.equivalents:
        staging.xref(curie_of(one), curie_of(other), line=line)
    for line, subject, written, target in said.relations:
        if curie_of(subject) not in obsolete_ids and said.others.isdisjoint((subject, target)):
            predicate = predicate_name(curie_of(written), said.labels.get(written))
            staging.relation(curie_of(subject), predicate, curie_of(target), line=line)
