"""From a line of JSON to an `Entry`, refusing whatever `SCHEMA.md` does not allow."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn, cast

from vesalius.errors import InputError
from vesalius.ids import Laterality
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.handbook.entry import (
    AXES,
    BODY_KEYS,
    BY_RULE,
    OPPOSITES,
    PREDICATES,
    PREFIX,
    REGIONS,
    SIZES,
    SYSTEMS,
    Appearance,
    Body,
    Entry,
    HandbookSynonym,
    Interval,
    Member,
    Reviewed,
    Series,
    Sides,
    Spelling,
)

KEYS = (
    "concept_id", "parent", "name", "latin", "abbreviations", "synonyms", "spellings", "definition", "appearance",
    "size", "region", "system", "laterality", "number", "relations", "xrefs", "words", "sides", "series", "reviewed",
    "since",
)  # fmt: skip
"""The keys of an entry, in the order they are written."""
INNER_KEYS: Mapping[str, tuple[str, ...]] = {
    "sides": (*(key for key in KEYS if key in BODY_KEYS and key not in {"concept_id", "xrefs"}), "left", "right"),
    "series": ("kind", "axis", "before", "after", "template", "members"),
    "template": (*(key for key in KEYS if key in BODY_KEYS and key not in {"concept_id", "xrefs"}), "sides"),
    "member": ("number", *(key for key in KEYS if key in BODY_KEYS)),
    "side": tuple(key for key in KEYS if key in BODY_KEYS),
    "appearance": ("ct", "mr"),
    "ct": ("text", "density_hu", "enhanced_hu"),
    "mr": ("text",),
    "size": SIZES,
}
"""The keys of the objects inside an entry, in the order they are written."""
SIDED_PREDICATES = ("{side}_of", "{other_side}_of")
HU = (-1100.0, 3500.0)
LARGEST = 1e5
"""Millilitres, millimetres: nothing in a body is larger."""

_SENTENCES = re.compile(r"[A-Z{0-9].*[.}]", re.DOTALL)
_CURIE = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*:[A-Za-z0-9][A-Za-z0-9_.\-]*")
_SIDE_CURIE = re.compile(rf"{_CURIE.pattern}|[A-Za-z][A-Za-z0-9_.\-]*:\{{[A-Za-z_]+\}}")
_TARGET = re.compile(rf"(?:{_CURIE.pattern}(?:#(?:\d+|\{{number\}}))?(?:@(?:left|right|other|unsided))?|\{{[a-z_]+\}})")
_VERSION = re.compile(r"\d+\.\d+")


def parse_line(line: str, *, where: str) -> Entry:
    """Returns the entry that `line` holds.

    Raises:
        InputError: it is no JSON object, or breaks the schema; the message names `where` and the key.
    """
    try:
        raw = json.loads(line, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"no JSON object ({error})", where=where, remedy="one object a line") from error
    read = _Reader(where)
    entry = read.record(
        raw, "", KEYS, required=("concept_id", "name", "definition", "region", "system", "reviewed", "since")
    )
    concept = read.curie(entry["concept_id"], "concept_id")
    parent = read.curie(entry["parent"], "parent") if "parent" in entry else None
    if (parent is not None) != concept.startswith(f"{PREFIX}:"):
        read.fail("parent", f"belongs to every {PREFIX}: concept, and to no other")
    return Entry(
        body=read.body(entry, ""),
        parent=parent,
        region=read.one_of(entry["region"], "region", REGIONS),
        system=read.one_of(entry["system"], "system", SYSTEMS),
        laterality=cast("Laterality | None", read.optional(entry, "laterality", ("left", "right"))),
        number=read.natural(entry["number"], "number") if "number" in entry else None,
        sides=read.sides(entry["sides"], "sides") if "sides" in entry else None,
        series=read.series(entry["series"]) if "series" in entry else None,
        reviewed=read.reviewed(entry["reviewed"]),
        since=read.matching(entry["since"], "since", _VERSION, "a version such as 0.1"),
        where=where,
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key is written twice among {[key for key, _ in pairs]}")
    return found


class _Reader:
    """Reads values of one line; whatever is wrong is raised with the file, the line and the key."""

    def __init__(self, where: str) -> None:
        self.where = where

    def fail(self, key: str, what: str) -> NoReturn:
        raise InputError(f"{key} {what}", where=self.where, remedy="see knowledge/handbook/SCHEMA.md")

    def record(self, value: Any, key: str, keys: tuple[str, ...], *, required: tuple[str, ...] = ()) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fail(key or "line", f"is {type(value).__name__}, not an object")
        for name, held in value.items():
            if name not in keys:
                self.fail(f"{key}.{name}".lstrip("."), f"is not a key of the schema; known: {', '.join(keys)}")
            if held in ("", [], None) or (held == {} and name not in {"left", "right", "sides"}):
                self.fail(f"{key}.{name}".lstrip("."), "is empty: leave it out")
        for name in required:
            if name not in value:
                self.fail(f"{key}.{name}".lstrip("."), "is missing")
        if (order := [name for name in keys if name in value]) != list(value):
            self.fail(key or "line", f"has its keys in another order than {', '.join(order)}")
        return value

    def text(self, value: Any, key: str) -> str:
        if not isinstance(value, str) or not value.strip():
            self.fail(key, f"is {value!r}, not a text")
        if value != " ".join(value.split()):
            self.fail(key, "holds white space at an end, twice in a row, or a line break")
        return value

    def sentences(self, value: Any, key: str) -> str:
        text = self.text(value, key)
        if not _SENTENCES.fullmatch(text):
            self.fail(key, f"does not start with a capital and end with a full stop: {text!r}")
        if re.search(r"\bHU\b|Hounsfield", text):
            self.fail(key, "speaks of HU: write density_hu, the sentence is made by rule")
        return text

    def matching(self, value: Any, key: str, pattern: re.Pattern[str], meant: str) -> str:
        text = self.text(value, key)
        if not pattern.fullmatch(text):
            self.fail(key, f"is {text!r}, not {meant}")
        return text

    def curie(self, value: Any, key: str) -> str:
        return self.matching(value, key, _CURIE, "a CURIE such as UBERON:0002107")

    def side_curie(self, value: Any, key: str) -> str:
        return self.matching(value, key, _SIDE_CURIE, "a CURIE such as UBERON:0002107, or UBERON:{a word}")

    def target(self, value: Any, key: str) -> str:
        return self.matching(value, key, _TARGET, "a target: ID, ID#5, ID@left, {previous}, {next}, {a word}")

    def one_of(self, value: Any, key: str, known: tuple[str, ...]) -> str:
        if value not in known:
            self.fail(key, f"is {value!r}; known: {', '.join(known)}")
        return value

    def optional(self, record: dict[str, Any], key: str, known: tuple[str, ...]) -> str | None:
        return self.one_of(record[key], key, known) if key in record else None

    def natural(self, value: Any, key: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.fail(key, f"is {value!r}, not a whole number")
        return value

    def items(self, value: Any, key: str) -> list[tuple[str, Any]]:
        if not isinstance(value, list):
            self.fail(key, f"is {type(value).__name__}, not a list")
        for index, item in enumerate(value):
            if item in value[:index]:
                self.fail(key, f"holds {item!r} twice")
        return [(f"{key}[{index}]", item) for index, item in enumerate(value)]

    def texts(self, value: Any, key: str) -> tuple[str, ...]:
        return tuple(self.text(item, place) for place, item in self.items(value, key))

    def interval(self, value: Any, key: str, bounds: Interval) -> Interval:
        numbers = isinstance(value, list) and len(value) == 2 and all(type(item) in (int, float) for item in value)
        if not numbers:
            self.fail(key, f"is {value!r}, not two numbers")
        low, high = value
        if not bounds[0] <= low < high <= bounds[1]:
            self.fail(key, f"is {value}: not rising, or outside {bounds[0]:g} to {bounds[1]:g}")
        return float(low), float(high)

    def scope(self, record: dict[str, Any], key: str) -> Scope:
        return Scope(self.one_of(record.get("scope", "exact"), f"{key}.scope", tuple(Scope)))

    def synonym(self, value: Any, key: str) -> HandbookSynonym:
        record = self.record(value, key, ("text", "scope"), required=("text", "scope"))
        return HandbookSynonym(text=self.text(record["text"], f"{key}.text"), scope=self.scope(record, key))

    def spelling(self, value: Any, key: str) -> Spelling:
        record = self.record(value, key, ("text", "dataset", "scope"), required=("text", "dataset"))
        written = record["dataset"]
        datasets = self.texts(written if isinstance(written, list) else [written], f"{key}.dataset")
        return Spelling(text=self.text(record["text"], f"{key}.text"), datasets=datasets, scope=self.scope(record, key))

    def appearance(self, value: Any, key: str) -> dict[str, Appearance]:
        return {
            modality: self.seen(seen, f"{key}.{modality}", modality)
            for modality, seen in self.record(value, key, INNER_KEYS["appearance"]).items()
        }

    def seen(self, value: Any, key: str, modality: str) -> Appearance:
        record = self.record(value, key, INNER_KEYS[modality])
        read = {name: self.interval(held, f"{key}.{name}", HU) for name, held in record.items() if name != "text"}
        return Appearance(text=self.sentences(record["text"], f"{key}.text") if "text" in record else "", **read)

    def size(self, value: Any, key: str) -> dict[str, Interval]:
        return {
            name: self.interval(held, f"{key}.{name}", (0.0, LARGEST))
            for name, held in self.record(value, key, INNER_KEYS["size"]).items()
        }

    def relation(self, value: Any, key: str, *, sided: bool) -> tuple[str, str]:
        if not isinstance(value, list) or len(value) != 2:
            self.fail(key, f"is {value!r}, not [predicate, target]")
        known = (
            *(name for name in PREDICATES if name not in BY_RULE),
            *OPPOSITES,
            *(SIDED_PREDICATES if sided else ()),
        )
        return self.one_of(value[0], f"{key}[0]", known), self.target(value[1], f"{key}[1]")

    def body(self, record: dict[str, Any], key: str, *, sided: bool = False) -> Body:
        at = f"{key}." if key else ""
        read: dict[str, Any] = {}
        readers = {
            "concept_id": self.side_curie if sided else self.curie, "name": self.text, "latin": self.texts, "abbreviations": self.texts,
            "definition": self.sentences, "appearance": self.appearance, "size": self.size, "words": self.words,
        }  # fmt: skip
        for name, reader in readers.items():
            if name in record:
                read[name] = reader(record[name], at + name)
        for name, reader in {"synonyms": self.synonym, "spellings": self.spelling, "xrefs": self.curie}.items():
            if name in record:
                read[name] = tuple(reader(item, place) for place, item in self.items(record[name], at + name))
        if "relations" in record:
            items = self.items(record["relations"], f"{at}relations")
            read["relations"] = tuple(self.relation(item, place, sided=sided) for place, item in items)
        return Body(**read)

    def words(self, value: Any, key: str) -> dict[str, str]:
        if not isinstance(value, dict):
            self.fail(key, f"is {type(value).__name__}, not an object")
        for name in value:
            if not re.fullmatch(r"[A-Za-z_]+", name):
                self.fail(key, f"names {name!r}, which is no placeholder (letters and _ only)")
        return {name: self.text(text, f"{key}.{name}") for name, text in value.items()}

    def sides(self, value: Any, key: str) -> Sides:
        record = self.record(value, key, INNER_KEYS["sides"])
        one = {
            side: self.body(
                self.record(record.get(side, {}), f"{key}.{side}", INNER_KEYS["side"]), f"{key}.{side}", sided=True
            )
            for side in ("left", "right")
        }
        return Sides(both=self.body(record, key, sided=True), left=one["left"], right=one["right"])

    def series(self, value: Any) -> Series:
        record = self.record(value, "series", INNER_KEYS["series"], required=("kind", "template", "members"))
        template = self.record(
            record["template"], "series.template", INNER_KEYS["template"], required=("name", "definition")
        )
        members = tuple(self.member(item, place) for place, item in self.items(record["members"], "series.members"))
        numbers = [member.number for member in members]
        if numbers != sorted(set(numbers)) or not numbers:
            self.fail("series.members", "are none, or their numbers do not rise")
        return Series(
            kind=self.text(record["kind"], "series.kind"),
            axis=self.optional(record, "axis", AXES),
            before=self.target(record["before"], "series.before") if "before" in record else None,
            after=self.target(record["after"], "series.after") if "after" in record else None,
            template=self.body(template, "series.template"),
            sides=self.sides(template["sides"], "series.template.sides") if "sides" in template else None,
            members=members,
        )

    def member(self, value: Any, key: str) -> Member:
        record = self.record(value, key, INNER_KEYS["member"], required=("number",))
        return Member(number=self.natural(record["number"], f"{key}.number"), body=self.body(record, key))

    def reviewed(self, value: Any) -> Reviewed:
        record = self.record(value, "reviewed", ("references", "read"), required=("references", "read"))
        return Reviewed(
            references=self.texts(record["references"], "reviewed.references"),
            read=self.natural(record["read"], "reviewed.read"),
        )
