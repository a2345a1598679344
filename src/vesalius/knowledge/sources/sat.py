"""The published formats of SAT-Pretrain: definitions and relations of the UMLS as CSV, supplements and web entries as JSON.

| kind | file |
|---|---|
| ``sat-definitions`` | CSV with the columns ``cui``, ``name``, ``definition`` |
| ``sat-relations`` | CSV with the columns ``source``, ``target``, ``edge``: names and words |
| ``sat-json`` | ``{name: {cleaned_definition: text or list, relations: [[edge, target or list]], synonyms: list}}`` |

These formats name things by their text alone. So a concept gets an id made from its name (`name_id`), the same in every file, and
the target of a relation is a concept of its own even where it is a phrase ("subcutaneous tissue and skin"): only so do the
relations come back out. Names that differ in case or blanks are one concept, as in the published training, which lower-cases
them; the spelling of an entry wins over that of a target, and the first of several. Texts are data: ``NA`` is a name.

The published training draws rows as they stand in each file. So every row is staged once more as it was written (`Staging.written`):
names as this file spells them, the edge in its own words, a relation to itself, a row that another file has too. Rows of a CSV
that are equal in every field count once, as published; those of the JSON as often as they stand there.

Source: arXiv 2312.17183 and its published code, https://github.com/zhaoziheng/SAT-Pretrain, ``data/dataset.py`` (read for the
format).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vesalius.folder import Origin
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.sources.csv_rows import read_csv_rows
from vesalius.knowledge.sources.json_text import JsonText
from vesalius.knowledge.sources.name_ids import folded, name_id
from vesalius.knowledge.sources.options import SourceOptions
from vesalius.knowledge.sources.predicate_names import predicate_name
from vesalius.knowledge.sources.provenance import origin_of, refuse_spec
from vesalius.knowledge.staging import Staging

_KEYS = ("cleaned_definition", "relations", "synonyms")


def stage_sat_definitions(path: Path, staging: Staging, options: SourceOptions) -> tuple[Origin, ...]:
    """Stages ``umls_def.csv``: a concept ``UMLS:<cui>`` a CUI, with every definition; a second name of it becomes an exact synonym.

    Memory grows with the number of concepts (some hundred bytes each), not of rows.

    Raises:
        InputError: the file cannot be read, or lacks a column; or a row is refused and `staging` does not keep going.
        SettingError: a YAML was named.
    """
    refuse_spec(options, kind="sat-definitions")
    names: dict[str, set[str]] = {}
    for line, row in read_csv_rows(path, staging, columns=("cui", "name", "definition")):
        cui, name, definition = row["cui"].strip(), row["name"], row["definition"]
        if not cui or not name.strip():
            staging.reject("no cui or no name", line=line, row=row)
            continue
        concept = cui if ":" in cui else f"UMLS:{cui}"
        known = names.setdefault(concept, set())
        if not known:
            staging.concept(concept, name, line=line)
        elif folded(name) not in known:
            staging.synonym(concept, name, Scope.EXACT, line=line)
        known.add(folded(name))
        if staging.definition(concept, definition, line=line):
            staging.written("definition", concept, name, definition, line=line, once=_digest(row.values()))
    return (_origin(path, staging),)


def stage_sat_relations(path: Path, staging: Staging, options: SourceOptions) -> tuple[Origin, ...]:
    """Stages ``umls_kg.csv``: both ends of a row as concepts, once each, and the relation between them.

    Memory grows with the number of names (some hundred bytes each), not of rows.

    Raises:
        InputError: the file cannot be read, or lacks a column; or a row is refused and `staging` does not keep going.
        SettingError: a YAML was named.
    """
    refuse_spec(options, kind="sat-relations")
    named = _Named(staging)
    for line, row in read_csv_rows(path, staging, columns=("source", "target", "edge")):
        if not all(row[column].strip() for column in ("source", "target", "edge")):
            staging.reject("no source, target or edge", line=line, row=row)
            continue
        subject = named.concept(row["source"], line=line)
        target = named.concept(row["target"], line=line)
        predicate = predicate_name(row["edge"], row["edge"])
        if staging.relation(subject, predicate, target, line=line):
            staging.written(
                "relation", subject, row["source"], row["edge"], predicate=predicate, target=row["target"], target_id=target,
                line=line, once=_digest(row.values()),
            )  # fmt: skip
    return (_origin(path, staging),)


def stage_sat_json(path: Path, staging: Staging, options: SourceOptions) -> tuple[Origin, ...]:
    """Stages a JSON file of entries, the web's (lists of definitions) or the supplements' (one text).

    Synonyms are exact. Keys other than the three of the format, such as ``citations``, are not read.

    Raises:
        InputError: the file cannot be read or is not of this form; or an entry is refused and `staging` does not keep going.
        SettingError: a YAML was named.
    """
    refuse_spec(options, kind="sat-json")
    entries: dict[str, tuple[int, Any]] = {}
    for line, name, entry in _entries(path):
        problem = f"{name!r} stands twice" if name in entries else _problem(name, entry)
        if problem is None:
            entries[name] = line, entry
        else:
            staging.reject(problem, line=line, row={name: entry})
    named = _Named(staging)
    for name, (line, _) in entries.items():
        named.concept(name, line=line)
    for name, (line, entry) in entries.items():
        _stage_entry(name, entry, named, staging, line=line)
    return (_origin(path, staging),)


def _stage_entry(name: str, entry: Mapping[str, Any], named: _Named, staging: Staging, *, line: int) -> None:
    subject = name_id(name)
    for text in _listed(entry.get("synonyms")):
        if staging.synonym(subject, text, Scope.EXACT, line=line):
            staging.written("synonym", subject, name, text, line=line)
    for text in _listed(entry.get("cleaned_definition")):
        if staging.definition(subject, text, line=line):
            staging.written("definition", subject, name, text, line=line)
    for edge, targets in entry.get("relations", []):
        predicate = predicate_name(edge, edge)
        for target in _listed(targets):
            target_id = named.concept(target, line=line)
            if staging.relation(subject, predicate, target_id, line=line):
                staging.written(
                    "relation", subject, name, edge, predicate=predicate, target=target, target_id=target_id, line=line
                )


class _Named:
    """Stages a concept the first time its name comes up."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._known: set[str] = set()

    def concept(self, name: str, *, line: int) -> str:
        identifier = name_id(name)
        if identifier not in self._known:
            self._known.add(identifier)
            self._staging.concept(identifier, " ".join(name.split()), line=line)
        return identifier


def _entries(path: Path) -> Iterator[tuple[int, str, Any]]:
    text = JsonText(path)
    for name in text.members():
        line = text.line
        yield line, name, text.value()
    text.end()


def _problem(name: str, entry: Any) -> str | None:
    """Returns why an entry cannot be taken, or None."""
    if not name.strip():
        return "an entry without a name"
    if not isinstance(entry, Mapping):
        return f"{name!r} is {type(entry).__name__}, not an object with {', '.join(_KEYS)}"
    if not any(key in entry for key in _KEYS):
        return f"{name!r} has none of {', '.join(_KEYS)}"
    for key in ("cleaned_definition", "synonyms"):
        if not _is_texts(entry.get(key, [])):
            return f"{name!r}: {key!r} is neither a text nor a list of texts"
    relations = entry.get("relations", [])
    if not isinstance(relations, list):
        return f"{name!r}: 'relations' is no list"
    for relation in relations:
        if not (
            isinstance(relation, list)
            and len(relation) == 2
            and isinstance(relation[0], str)
            and _is_texts(relation[1])
        ):
            return f"{name!r}: the relation {relation!r} is not [edge, target] or [edge, [target, …]]"
    return None


def _is_texts(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(text, str) for text in value))


def _digest(values: Iterable[str]) -> str:
    """Returns what tells one row of a CSV from another: no two different ones share it."""
    return hashlib.blake2b("\0".join(values).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _listed(value: str | list[str] | None) -> list[str]:
    """Returns the texts of a value; a blank one says nothing."""
    texts = [] if value is None else [value] if isinstance(value, str) else value
    return [text for text in texts if text.strip()]


def _origin(path: Path, staging: Staging) -> Origin:
    return origin_of(path, name=staging.source, attribution=(f"{path.name}, in the format of SAT-Pretrain",))
