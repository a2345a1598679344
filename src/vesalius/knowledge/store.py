"""The graph on disk: Parquet tables with written schemas, and a manifest.

| table | columns | order |
|---|---|---|
| `concepts` | number, concept_id, name, source | source, concept_id |
| `synonyms` | number, concept_id, text, scope, source, concept_number | source, scope, concept |
| `definitions` | number, concept_id, text, references, source, concept_number | source, concept |
| `relations` | number, subject, predicate, object, source, subject_number, object_number | source, subject, predicate, object |
| `xrefs` | number, concept_id, target, source, concept_number | source, concept |
| `written` | number, kind, source, name, text, predicate, target, concept_number, target_number | source, kind, row of the file |
| `names` | normalised, concept_number, is_preferred | normalised, those that prefer it first |
| `draws` | kind, source, scope, first, num | |
| `conflicts` | kind, text, concept_ids, source, file, line | |
| `rejects` | reason, content, source, file, line | |

Sources come in the order they were given in, scopes as exact, narrow, broad, related. `number` counts a table's
rows from 0, and `*_number` is the `number` of a concept. So the rows of one source (of synonyms: of one source and scope) lie side
by side; `draws` says where: rows `first` to `first + num - 1` of the table of `kind` (``name``, ``synonym``, ``definition``,
``relation``). To draw one of a million relations of a source is to draw a number, and to read a row by its number reads one
small row group.

`conflicts` holds what might have tied concepts together and was not let to (`knowledge.merge`), `rejects` the rows that were left out.
`written` holds rows of the published formats as they were written (`knowledge.concept.WrittenRow`), to draw from as published; the
other tables say the same once, for all sources. An id whose concept became part of another is among the other's xrefs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vesalius.folder import origins_of, read_manifest, refuse_to_replace, write_manifest, writing_folder
from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Concept, Definition, Relation, Scope, Synonym, WrittenRow, Xref
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.names import normalise
from vesalius.knowledge.predicates import Predicate
from vesalius.tables import count_by, read_table, write_table

KIND = "graph"
SCHEMA = 3

_TEXT = "VARCHAR"
_NUMBER = "BIGINT"

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "concepts": {"number": _NUMBER, "concept_id": _TEXT, "name": _TEXT, "source": _TEXT},
    "synonyms": {
        "number": _NUMBER, "concept_id": _TEXT, "text": _TEXT, "scope": _TEXT, "source": _TEXT, "concept_number": _NUMBER,
    },
    "definitions": {
        "number": _NUMBER, "concept_id": _TEXT, "text": _TEXT, "references": "VARCHAR[]", "source": _TEXT,
        "concept_number": _NUMBER,
    },
    "relations": {
        "number": _NUMBER, "subject": _TEXT, "predicate": _TEXT, "object": _TEXT, "source": _TEXT,
        "subject_number": _NUMBER, "object_number": _NUMBER,
    },
    "xrefs": {"number": _NUMBER, "concept_id": _TEXT, "target": _TEXT, "source": _TEXT, "concept_number": _NUMBER},
    "written": {
        "number": _NUMBER, "kind": _TEXT, "source": _TEXT, "name": _TEXT, "text": _TEXT, "predicate": _TEXT, "target": _TEXT,
        "concept_number": _NUMBER, "target_number": _NUMBER,
    },
    "names": {"normalised": _TEXT, "concept_number": _NUMBER, "is_preferred": "BOOLEAN"},
    "draws": {"kind": _TEXT, "source": _TEXT, "scope": _TEXT, "first": _NUMBER, "num": _NUMBER},
    "conflicts": {
        "kind": _TEXT, "text": _TEXT, "concept_ids": "VARCHAR[]", "source": _TEXT, "file": _TEXT, "line": _NUMBER,
    },
    "rejects": {"reason": _TEXT, "content": _TEXT, "source": _TEXT, "file": _TEXT, "line": _NUMBER},
}  # fmt: skip
"""Table → column → DuckDB type."""

ROW_GROUP_SIZE = 20_480
"""Rows read to have one of them by its number."""

SCOPES = tuple(Scope)
"""In the order of the table."""


def write_graph(graph: Graph, folder: Path) -> None:
    """Writes `graph` to `folder`, whole or not at all; an older graph there is replaced.

    Sources come in the order of `graph.origins`, then as they turn up.

    Raises:
        SettingError: `folder` holds something else than a graph.
    """
    refuse_to_replace(folder, kind=KIND)
    tables = _tables(graph)
    with writing_folder(folder) as temporary:
        for table, columns in COLUMNS.items():
            write_table(temporary / f"{table}.parquet", tables[table], schema=columns, row_group_size=ROW_GROUP_SIZE)
        order = [origin.name for origin in graph.origins]
        write_manifest(
            temporary, kind=KIND, schema=SCHEMA, origins=graph.origins,
            details={"counts": count_rows(temporary, order), "merged": {}, "excluded": []},
        )  # fmt: skip


def read_graph(folder: Path) -> Graph:
    """Reads a whole graph into memory; for a big one open a `StoredGraph` instead.

    Raises:
        FolderError: `folder` holds no graph, a damaged one, or one of another schema.
    """
    manifest = read_manifest(folder, kind=KIND, schema=SCHEMA)
    synonyms: dict[str, list[Synonym]] = defaultdict(list)
    for concept, text, scope, source in _read(folder, "synonyms", "concept_id", "text", "scope", "source"):
        synonyms[concept].append(Synonym(text=text, scope=Scope(scope), source=source))
    definitions: dict[str, list[Definition]] = defaultdict(list)
    for concept, text, references, source in _read(folder, "definitions", "concept_id", "text", "references", "source"):
        definitions[concept].append(Definition(text=text, source=source, references=tuple(references)))
    xrefs: dict[str, list[Xref]] = defaultdict(list)
    for concept, target, source in _read(folder, "xrefs", "concept_id", "target", "source"):
        xrefs[concept].append(Xref(target=target, source=source))
    return Graph(
        (
            Concept(
                concept_id=ConceptId(concept), name=name, source=source,
                synonyms=tuple(synonyms[concept]), definitions=tuple(definitions[concept]), xrefs=tuple(xrefs[concept]),
            )
            for concept, name, source in _read(folder, "concepts", "concept_id", "name", "source")
        ),
        (
            Relation(subject=ConceptId(s), predicate=Predicate(p), object=ConceptId(o), source=source)
            for s, p, o, source in _read(folder, "relations", "subject", "predicate", "object", "source")
        ),
        origins_of(manifest),
        _read_written(folder),
    )  # fmt: skip


def _read_written(folder: Path) -> list[WrittenRow]:
    columns = ("kind", "source", "name", "text", "predicate", "target", "concept_number", "target_number")
    rows = _read(folder, "written", *columns)
    ids = [ConceptId(concept) for (concept,) in _read(folder, "concepts", "concept_id")] if rows else []
    return [
        WrittenRow(
            kind=kind, source=source, concept_id=ids[number], name=name, text=text, predicate=said, target=target,
            target_id=None if other is None else ids[other],
        )
        for kind, source, name, text, said, target, number, other in rows
    ]  # fmt: skip


def count_rows(folder: Path, order: Sequence[str]) -> dict[str, dict[str, int]]:
    """Returns source → table → number of its rows, sources in `order` first."""
    kinds = ("concepts", "synonyms", "definitions", "relations", "xrefs")
    counts: dict[str, dict[str, int]] = {source: dict.fromkeys(kinds, 0) for source in order}
    for table in kinds:
        for source, num in count_by(folder / f"{table}.parquet", "source"):
            counts.setdefault(source, dict.fromkeys(kinds, 0))[table] = num
    return counts


def _read(folder: Path, table: str, *columns: str) -> list[tuple[Any, ...]]:
    return read_table(folder / f"{table}.parquet", schema={column: COLUMNS[table][column] for column in columns})


def _tables(graph: Graph) -> dict[str, list[tuple[Any, ...]]]:
    places: dict[str, int] = {origin.name: place for place, origin in enumerate(graph.origins)}

    def place(source: str) -> int:
        return places.setdefault(source, len(places))

    concepts = sorted(graph, key=lambda concept: place(concept.source))
    numbers = {concept.concept_id: number for number, concept in enumerate(concepts)}
    synonyms = [
        (c.concept_id, s.text, str(s.scope), s.source, numbers[c.concept_id]) for c in concepts for s in c.synonyms
    ]
    definitions = [
        (c.concept_id, d.text, list(d.references), d.source, numbers[c.concept_id])
        for c in concepts
        for d in c.definitions
    ]
    xrefs = [(c.concept_id, x.target, x.source, numbers[c.concept_id]) for c in concepts for x in c.xrefs]
    relations = [
        (r.subject, r.predicate, r.object, r.source, numbers[r.subject], numbers[r.object]) for r in graph.relations
    ]
    tables: dict[str, list[tuple[Any, ...]]] = {
        "concepts": _numbered((c.concept_id, c.name, c.source) for c in concepts),
        "synonyms": _numbered(sorted(synonyms, key=lambda row: (place(row[3]), SCOPES.index(Scope(row[2])), row[4]))),
        "definitions": _numbered(sorted(definitions, key=lambda row: (place(row[3]), row[4]))),
        "relations": _numbered(sorted(relations, key=lambda row: (place(row[3]), row[4], row[1], row[5]))),
        "xrefs": _numbered(sorted(xrefs, key=lambda row: (place(row[2]), row[3]))),
        "written": _numbered(
            (
                w.kind, w.source, w.name, w.text, w.predicate, w.target, numbers[w.concept_id],
                None if w.target_id is None else numbers[w.target_id],
            )
            for w in sorted(graph.written, key=lambda row: (place(row.source), row.kind))
        ),
        "conflicts": [],
        "rejects": [],
    }  # fmt: skip
    names = {
        (normalise(text), numbers[c.concept_id]): normalise(text) == normalise(c.name)
        for c in concepts
        for text in c.exact_names()
    }
    tables["names"] = [
        (*key, is_preferred) for key, is_preferred in sorted(names.items(), key=lambda i: (i[0][0], not i[1], i[0][1]))
    ]
    tables["draws"] = _draws(tables)
    return tables


def _numbered(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(number, *row) for number, row in enumerate(rows)]


def _draws(tables: Mapping[str, list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """Returns where the rows of each kind, source and scope lie."""
    groups: dict[tuple[str, str, str | None], list[int]] = defaultdict(list)
    for number, _, _, source in tables["concepts"]:
        groups["name", source, None].append(number)
    for number, _, _, scope, source, _ in tables["synonyms"]:
        groups["synonym", source, scope].append(number)
    for number, _, _, _, source, _ in tables["definitions"]:
        groups["definition", source, None].append(number)
    for number, _, _, _, source, _, _ in tables["relations"]:
        groups["relation", source, None].append(number)
    return [(*key, numbers[0], len(numbers)) for key, numbers in sorted(groups.items(), key=str)]
