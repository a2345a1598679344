"""The graph on disk: Parquet tables with written schemas, and a manifest.

| table | columns | order |
|---|---|---|
| `concepts` | number, concept_id, name, source | source, concept_id |
| `synonyms` | number, concept_id, text, scope, source, concept_number | source, scope, concept |
| `definitions` | number, concept_id, text, references, source, concept_number | source, concept |
| `relations` | number, subject, predicate, object, source, subject_number, object_number | source, subject, predicate, object |
| `xrefs` | number, concept_id, target, source, concept_number | source, concept |
| `names` | normalised, concept_number, is_preferred | normalised, those that prefer it first |
| `draws` | kind, source, scope, first, num | |
| `conflicts` | kind, text, concept_ids, source, file, line | |
| `rejects` | reason, content, source, file, line | |

Sources come in the order they were given in, scopes as exact, narrow, broad, related. `number` counts a table's rows from 0, and
`*_number` is the `number` of a concept. So the rows of one source (of synonyms: of one source and scope) lie side by side; `draws` says
where: rows `first` to `first + num - 1` of the table of `kind` (``name``, ``synonym``, ``definition``, ``relation``). To draw one of a million
relations of a source is to draw a number, and to read a row by its number reads one small row group.

`conflicts` holds what might have tied concepts together and was not let to (`knowledge.merge`), `rejects` the rows that were left out.
An id whose concept became part of another is among the other's xrefs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vesalius.folder import origins_of, read_manifest, write_manifest, writing_folder
from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Concept, Definition, Relation, Scope, Synonym, Xref
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.names import normalise
from vesalius.knowledge.predicates import Predicate
from vesalius.tables import read_table, write_table

KIND = "graph"
SCHEMA = 2

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
