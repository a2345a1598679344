"""What the columns of a table mean, as a small YAML says it.

```yaml
source: hospital-labels        # name of the source; the file's name if left out
version: "2026-05"
licence: CC-BY-4.0             # required
attribution: Radiology, Example Hospital
format: tsv                    # csv, tsv, jsonl or parquet; by the file's ending if left out
quote: none                    # csv, tsv: quotes are data; if left out, fields may stand in double quotes
separator: "|"                 # between several values of one cell; if left out, a cell is one value
concept: {id: concept_id, name: label}
synonyms:
  - {text: also_called, scope: exact}
definitions:
  - {text: meaning, references: sources}
relations:
  - {subject: concept_id, predicate: {constant: part_of}, object: whole}
xrefs:
  - {target: fma, prefix: FMA}
```

A column is named by its header; `{constant: TEXT}` stands for the same text in every row. `scope`, if left out, is ``related``; it
may be ``{column: NAME}``. `prefix` goes before a target (or, in `concept` and `relations`, before ids) that is no CURIE yet.

Concepts are told by `id`, or by `name` alone: then the id is made from the name, and building ties the concept to one that bears that
name, so that a label's further names reach it. With `id` and without `name`, rows add to a concept that another source brings. Likewise
``subject_name`` and ``object_name`` tell the ends of a relation by their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from vesalius.errors import InputError
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.sources.text_file import read_whole

Format = Literal["csv", "tsv", "jsonl", "parquet"]

FORMATS: tuple[Format, ...] = get_args(Format)
ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Where a text comes from: a column, or a constant."""

    column: str | None = None
    constant: str | None = None


@dataclass(frozen=True, kw_only=True)
class ConceptCells:
    """Which concept a row speaks of: by id, by name, or both."""

    id: Cell | None
    name: Cell | None
    prefix: str | None = None


@dataclass(frozen=True, kw_only=True)
class SynonymCells:
    """Further names of the row's concept."""

    text: Cell
    scope: Cell


@dataclass(frozen=True, kw_only=True)
class DefinitionCells:
    """Definitions of the row's concept."""

    text: Cell
    references: Cell | None


@dataclass(frozen=True, kw_only=True)
class XrefCells:
    """Ids of the row's concept elsewhere."""

    target: Cell
    prefix: str | None


@dataclass(frozen=True, kw_only=True)
class RelationCells:
    """A relation; either end without cells of its own is the row's concept."""

    subject: ConceptCells | None
    predicate: Cell
    object: ConceptCells | None


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """A table's YAML, checked.

    Attributes:
        path: the YAML.
        source: name of the source, or None for the file's.
        licence: its terms.
        format: None where the file's ending says it.
        quote: around fields; None where quotes are data.
        separator: between the values of a cell, or None where a cell is one value.
        concept: which concept a row speaks of; None where rows hold nothing but relations.
    """

    path: Path
    source: str | None
    version: str | None
    licence: str
    attribution: str | None
    format: Format | None
    quote: str | None
    separator: str | None
    concept: ConceptCells | None
    synonyms: tuple[SynonymCells, ...] = ()
    definitions: tuple[DefinitionCells, ...] = ()
    relations: tuple[RelationCells, ...] = ()
    xrefs: tuple[XrefCells, ...] = ()

    def columns(self) -> tuple[str, ...]:
        """Returns every column that is named, once each."""
        return tuple(dict.fromkeys(cell.column for cell in _cells(self) if cell.column is not None))


def _cells(thing: object) -> Iterator[Cell]:
    if isinstance(thing, Cell):
        yield thing
    elif isinstance(thing, tuple):
        for item in thing:
            yield from _cells(item)
    elif is_dataclass(thing):
        for each in fields(thing):
            yield from _cells(getattr(thing, each.name))


def read_table_spec(path: Path) -> TableSpec:
    """Reads a table's YAML.

    Raises:
        InputError: it cannot be read, is no YAML, has an unknown key or lacks one; the message names those known.
    """
    try:
        content = yaml.safe_load(read_whole(path))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that no calendar has
        mark = getattr(error, "problem_mark", None)
        where = path if mark is None else f"{path}:{mark.line + 1}"
        raise InputError(
            f"no YAML ({getattr(error, 'problem', None) or error})", where=where, remedy="see docs/knowledge-sources.md"
        ) from error
    return _Checked(path).spec(content)


_SECTIONS = ("concept", "synonyms", "definitions", "relations", "xrefs")
_TEXTS = ("source", "version", "licence", "attribution", "format", "quote", "separator")


@dataclass(frozen=True)
class _Checked:
    """Turns what a YAML holds into a spec; what does not fit is refused by its key."""

    path: Path

    def spec(self, content: Any) -> TableSpec:
        given = self.mapping(content, "the file", (*_TEXTS, *_SECTIONS))
        texts = {key: self.text(given.get(key), key) for key in _TEXTS}
        if texts["licence"] is None:
            raise self.error("'licence' is missing", "state the terms of the table, such as CC-BY-4.0 or proprietary")
        if texts["format"] not in {None, *FORMATS}:
            raise self.error(f"unknown format {texts['format']!r}", f"known are: {', '.join(FORMATS)}")
        quote = texts["quote"]
        if quote not in {None, "none"} and len(quote or "") != 1:
            raise self.error(f"quote {quote!r} is not one character", "write one, or none")
        concept = given.get("concept")
        spec = TableSpec(
            path=self.path,
            source=texts["source"],
            version=texts["version"],
            licence=texts["licence"],
            attribution=texts["attribution"],
            format=texts["format"],  # pyright: ignore[reportArgumentType]  checked above
            quote={None: '"', "none": None}.get(quote, quote),
            separator=texts["separator"],
            concept=None if concept is None else self.concept(concept, "concept", ("id", "name")),
            synonyms=tuple(self.synonym(item) for item in self.listed(given, "synonyms")),
            definitions=tuple(self.definition(item) for item in self.listed(given, "definitions")),
            relations=tuple(self.relation(item) for item in self.listed(given, "relations")),
            xrefs=tuple(self.xref(item) for item in self.listed(given, "xrefs")),
        )
        self.check(spec)
        return spec

    def check(self, spec: TableSpec) -> None:
        relations_need = any(relation.subject is None or relation.object is None for relation in spec.relations)
        if spec.concept is None and (spec.synonyms or spec.definitions or spec.xrefs or relations_need):
            raise self.error("'concept' is missing", "say which column holds the id or the name of a row's concept")
        for relation in spec.relations:
            if relation.subject is None and relation.object is None:
                raise self.error("a relation has neither subject nor object", "name the column of one of them")
        if not spec.columns():
            raise self.error("no column is named", f"say what the columns mean, under {', '.join(_SECTIONS)}")

    def concept(self, value: Any, key: str, keys: tuple[str, str]) -> ConceptCells:
        given = self.mapping(value, key, (*keys, "prefix"))
        identifier, name = (self.cell(given[each], each) if given.get(each) is not None else None for each in keys)
        if identifier is None and name is None:
            raise self.error(f"{key!r} names no column", f"give {' or '.join(keys)}")
        return ConceptCells(id=identifier, name=name, prefix=self.text(given.get("prefix"), "prefix"))

    def synonym(self, value: Any) -> SynonymCells:
        given = self.mapping(value, "synonyms", ("text", "scope"), needed=("text",))
        scope = given.get("scope", Scope.RELATED.value)
        if isinstance(scope, str):
            if scope not in set(Scope):
                raise self.error(
                    f"unknown scope {scope!r}", f"known are: {', '.join(Scope)}; or write {{column: NAME}}"
                )
            scope = {"constant": scope}
        return SynonymCells(text=self.cell(given["text"], "text"), scope=self.cell(scope, "scope"))

    def definition(self, value: Any) -> DefinitionCells:
        given = self.mapping(value, "definitions", ("text", "references"), needed=("text",))
        references = given.get("references")
        return DefinitionCells(
            text=self.cell(given["text"], "text"),
            references=None if references is None else self.cell(references, "references"),
        )

    def relation(self, value: Any) -> RelationCells:
        known = ("subject", "subject_name", "predicate", "object", "object_name", "prefix")
        given = self.mapping(value, "relations", known, needed=("predicate",))
        ends = {}
        for end in ("subject", "object"):
            keys = (end, f"{end}_name")
            cells = {key: given[key] for key in (*keys, "prefix") if key in given}
            ends[end] = self.concept(cells, "relations", keys) if any(key in given for key in keys) else None
        return RelationCells(
            subject=ends["subject"], predicate=self.cell(given["predicate"], "predicate"), object=ends["object"]
        )

    def xref(self, value: Any) -> XrefCells:
        given = self.mapping(value, "xrefs", ("target", "prefix"), needed=("target",))
        return XrefCells(target=self.cell(given["target"], "target"), prefix=self.text(given.get("prefix"), "prefix"))

    def cell(self, value: Any, key: str) -> Cell:
        if isinstance(value, str) and value:
            return Cell(column=value)
        given = self.mapping(value, key, ("column", "constant"))
        if len(given) != 1:
            raise self.error(
                f"{key!r} is neither a column nor a constant", "write a column's name, or {constant: TEXT}"
            )
        ((kind, text),) = given.items()
        return Cell(**{kind: self.text(text, key)})

    def listed(self, given: Mapping[str, Any], key: str) -> Sequence[Any]:
        value = given.get(key) or []
        if not isinstance(value, list):
            raise self.error(f"{key!r} is no list", "begin each item with '- '")
        return value

    def mapping(self, value: Any, key: str, known: Sequence[str], *, needed: Sequence[str] = ()) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self.error(f"{key!r} is no mapping", f"its keys may be: {', '.join(known)}")
        for each in value:
            if each not in known:
                raise self.error(f"unknown key {each!r} in {key!r}", f"known are: {', '.join(known)}")
        for each in needed:
            if value.get(each) is None:
                raise self.error(f"{each!r} is missing in {key!r}", f"its keys may be: {', '.join(known)}")
        return value

    def text(self, value: Any, key: str) -> str | None:
        if value is None or (isinstance(value, str) and value):
            return value
        raise self.error(f"{key!r} is {value!r}, no text", "put it in quotes")

    def error(self, what: str, remedy: str) -> InputError:
        return InputError(what, where=self.path, remedy=remedy)
