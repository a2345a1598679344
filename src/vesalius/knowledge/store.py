"""The graph on disk: five Parquet tables and a manifest.

| table | columns |
|---|---|
| `concepts` | concept_id, name, source |
| `synonyms` | concept_id, text, scope, source |
| `definitions` | concept_id, text, source |
| `relations` | subject, predicate, object, source |
| `xrefs` | concept_id, target, source |
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from vesalius.folder import origins_of, read_manifest, write_manifest, writing_folder
from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Concept, Definition, Predicate, Relation, Scope, Synonym, Xref
from vesalius.knowledge.graph import Graph
from vesalius.tables import read_table, write_table

KIND = "graph"
SCHEMA = 1

_TEXT = "VARCHAR"
_COLUMNS = {
    "concepts": {"concept_id": _TEXT, "name": _TEXT, "source": _TEXT},
    "synonyms": {"concept_id": _TEXT, "text": _TEXT, "scope": _TEXT, "source": _TEXT},
    "definitions": {"concept_id": _TEXT, "text": _TEXT, "source": _TEXT},
    "relations": {"subject": _TEXT, "predicate": _TEXT, "object": _TEXT, "source": _TEXT},
    "xrefs": {"concept_id": _TEXT, "target": _TEXT, "source": _TEXT},
}


def write_graph(graph: Graph, folder: Path) -> None:
    """Writes `graph` to `folder`, whole or not at all; an older graph there is replaced."""
    rows = {
        "concepts": ((c.concept_id, c.name, c.source) for c in graph),
        "synonyms": ((c.concept_id, s.text, s.scope, s.source) for c in graph for s in c.synonyms),
        "definitions": ((c.concept_id, d.text, d.source) for c in graph for d in c.definitions),
        "relations": ((r.subject, r.predicate, r.object, r.source) for r in graph.relations),
        "xrefs": ((c.concept_id, x.target, x.source) for c in graph for x in c.xrefs),
    }
    with writing_folder(folder) as temporary:
        for table, columns in _COLUMNS.items():
            write_table(temporary / f"{table}.parquet", rows[table], schema=columns)
        write_manifest(temporary, kind=KIND, schema=SCHEMA, origins=graph.origins, details={"counts": graph.counts()})


def read_graph(folder: Path) -> Graph:
    """Reads the graph that `write_graph` wrote.

    Raises:
        FolderError: `folder` holds no graph, a damaged one, or one of another schema.
    """
    manifest = read_manifest(folder, kind=KIND, schema=SCHEMA)
    rows = {table: read_table(folder / f"{table}.parquet", schema=columns) for table, columns in _COLUMNS.items()}
    synonyms: dict[str, list[Synonym]] = defaultdict(list)
    for concept, text, scope, source in rows["synonyms"]:
        synonyms[concept].append(Synonym(text=text, scope=Scope(scope), source=source))
    definitions: dict[str, list[Definition]] = defaultdict(list)
    for concept, text, source in rows["definitions"]:
        definitions[concept].append(Definition(text=text, source=source))
    xrefs: dict[str, list[Xref]] = defaultdict(list)
    for concept, target, source in rows["xrefs"]:
        xrefs[concept].append(Xref(target=target, source=source))
    return Graph(
        (
            Concept(
                concept_id=ConceptId(concept), name=name, source=source,
                synonyms=tuple(synonyms[concept]), definitions=tuple(definitions[concept]), xrefs=tuple(xrefs[concept]),
            )
            for concept, name, source in rows["concepts"]
        ),
        (
            Relation(subject=ConceptId(s), predicate=Predicate(p), object=ConceptId(o), source=source)
            for s, p, o, source in rows["relations"]
        ),
        origins_of(manifest),
    )  # fmt: skip
