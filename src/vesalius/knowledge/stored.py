"""A graph on disk, opened without reading it: memory does not grow with the graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb

from vesalius.errors import FolderError
from vesalius.folder import Origin, origins_of, read_manifest
from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Concept, Definition, Relation, Scope, Synonym, Xref
from vesalius.knowledge.names import normalise
from vesalius.knowledge.predicates import Predicate
from vesalius.knowledge.store import COLUMNS, KIND, SCHEMA
from vesalius.tables import parquet

DrawKind = Literal["name", "synonym", "definition", "relation"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """Rows of one kind and source that lie side by side.

    Attributes:
        kind: what the rows are.
        source: source of all of them.
        scope: of synonyms, the scope of all of them.
        first: number of the first row.
        num: how many there are.
    """

    kind: DrawKind
    source: str
    scope: Scope | None
    first: int
    num: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnRelation:
    """A relation with the preferred names of its ends."""

    relation: Relation
    subject_name: str
    object_name: str


class StoredGraph:
    """The graph of a folder, read through DuckDB as it is asked for.

    Attributes:
        folder: the graph folder.
        origins: the sources inside.
        draws: where the rows of each kind and source lie.

    Args:
        folder: a graph folder.
        memory_limit: most memory DuckDB may take.

    Raises:
        FolderError: `folder` holds no graph, a damaged one, or one of another schema.
    """

    def __init__(self, folder: Path, *, memory_limit: str = "1GB") -> None:
        manifest = read_manifest(folder, kind=KIND, schema=SCHEMA)
        self.folder = folder
        self.manifest = manifest
        self.origins: tuple[Origin, ...] = tuple(origins_of(manifest))
        self._connection = duckdb.connect(config={"memory_limit": memory_limit, "threads": 2})
        self._connection.execute("SET enable_progress_bar = false")
        for table in COLUMNS:
            if not self.path(table).is_file():
                raise FolderError("missing table", where=self.path(table), remedy="build the folder again")
        self.draws: tuple[Draw, ...] = tuple(
            Draw(kind=kind, source=source, scope=Scope(scope) if scope else None, first=first, num=num)
            for kind, source, scope, first, num in self.rows("draws")
        )

    def __len__(self) -> int:
        return sum(draw.num for draw in self.draws if draw.kind == "name")

    def __contains__(self, concept_id: object) -> bool:
        return bool(self._query("SELECT 1 FROM {concepts} WHERE concept_id = ?", [concept_id]))

    def __getitem__(self, concept_id: ConceptId) -> Concept:
        (concept,) = self.concepts([concept_id])
        return concept

    def path(self, table: str) -> Path:
        """Returns the Parquet file of a table."""
        return self.folder / f"{table}.parquet"

    def rows(
        self, table: str, *, columns: Sequence[str] | None = None, chunk: int = 10_000
    ) -> Iterator[tuple[Any, ...]]:
        """Yields the rows of a table in their order, without holding them.

        Args:
            table: a table of `knowledge.store`.
            columns: columns to read; None reads all.
            chunk: rows held at a time.
        """
        listed = ", ".join(f'"{column}"' for column in columns or COLUMNS[table])
        with self._reading(), contextlib.closing(self._connection.cursor()) as cursor:
            cursor.execute(self._with_files(f"SELECT {listed} FROM {{{table}}}"))
            while fetched := cursor.fetchmany(chunk):
                yield from fetched

    def count_by(self, table: str, *columns: str) -> list[tuple[Any, ...]]:
        """Returns each combination of values of `columns` and the number of its rows, in their order."""
        listed = ", ".join(f'"{column}"' for column in columns)
        return self._query(f"SELECT {listed}, count(*) FROM {{{table}}} GROUP BY ALL ORDER BY ALL")

    def num_rows(self, table: str) -> int:
        """Returns the number of rows of a table."""
        ((num,),) = self._query(f"SELECT count(*) FROM {{{table}}}")
        return num

    def find(self, text: str) -> list[Concept]:
        """Returns the concepts that `text` names: by id, by an id elsewhere or merged away, or by exact name."""
        if text in self:
            return [self[ConceptId(text)]]
        return self.having_xref(text) or self.named(text)

    def concepts(self, concept_ids: Sequence[ConceptId]) -> list[Concept]:
        """Returns concepts with all their texts, in the order of the ids.

        Raises:
            KeyError: an id is no concept of the graph.
        """
        marks = ", ".join("?" for _ in concept_ids)
        wanted = "SELECT number, concept_id, name, source FROM {concepts} WHERE concept_id IN (" + marks + ")"
        found = {row[1]: row for row in self._query(wanted, list(concept_ids))} if concept_ids else {}
        texts = self._texts_of([row[0] for row in found.values()])
        return [_concept(*found[concept_id], texts=texts) for concept_id in concept_ids]

    def named(self, text: str) -> list[Concept]:
        """Returns the concepts that bear `text` as exact name (normalised), those that prefer it first."""
        wanted = "SELECT concept_number FROM {names} WHERE normalised = ? ORDER BY is_preferred DESC, concept_number"
        numbers = [number for (number,) in self._query(wanted, [normalise(text)])]
        ids = self._at("concepts", numbers, "concept_id")
        return self.concepts([ConceptId(ids[number][0]) for number in numbers])

    def having_xref(self, target: str) -> list[Concept]:
        """Returns the concepts that name `target` as their id elsewhere; so ids that were merged away are found."""
        wanted = "SELECT DISTINCT concept_number, concept_id FROM {xrefs} WHERE target = ? ORDER BY ALL"
        return self.concepts([ConceptId(concept_id) for _, concept_id in self._query(wanted, [target])])

    def suggestions(self, text: str, *, num: int = 5) -> list[str]:
        """Returns up to `num` names of the graph that are spelled like `text`, the nearest first; reads every name."""
        wanted = (
            "SELECT normalised FROM (SELECT DISTINCT normalised, jaro_winkler_similarity(normalised, $text) AS near "
            "FROM {names} WHERE abs(length(normalised) - length($text)) <= 8) WHERE near >= 0.8 "
            "ORDER BY near DESC, normalised LIMIT $num"
        )
        return [found for (found,) in self._query(wanted, {"text": normalise(text), "num": num})]

    def relations_of(self, concept_ids: Sequence[ConceptId], *, most: int | None = None) -> list[DrawnRelation]:
        """Returns the relations whose subject is one of `concept_ids`, up to `most` of them."""
        return self._relations("subject_number", concept_ids, most)

    def relations_to(self, concept_ids: Sequence[ConceptId], *, most: int | None = None) -> list[DrawnRelation]:
        """Returns the relations whose object is one of `concept_ids`, up to `most` of them."""
        return self._relations("object_number", concept_ids, most)

    def _relations(self, end: str, concept_ids: Sequence[ConceptId], most: int | None) -> list[DrawnRelation]:
        ids = ", ".join("?" for _ in concept_ids)
        if not concept_ids:
            return []
        numbers = self._query(f"SELECT number FROM {{concepts}} WHERE concept_id IN ({ids})", list(concept_ids))
        if not numbers:
            return []
        limit = "" if most is None else f" LIMIT {int(most)}"
        rows = self._query(
            "SELECT subject, predicate, object, source, subject_number, object_number FROM {relations} "
            f"WHERE {end} IN ({_listed([number for (number,) in numbers])}) ORDER BY number{limit}"
        )
        return self._with_names(rows)

    def _with_names(self, rows: list[tuple[Any, ...]]) -> list[DrawnRelation]:
        names = self._at("concepts", [row[4] for row in rows] + [row[5] for row in rows], "name")
        return [
            DrawnRelation(
                relation=Relation(
                    subject=ConceptId(subject), predicate=Predicate(said), object=ConceptId(other), source=source
                ),
                subject_name=names[subject_number][0],
                object_name=names[object_number][0],
            )
            for subject, said, other, source, subject_number, object_number in rows
        ]

    def _texts_of(self, numbers: Sequence[int]) -> dict[str, dict[int, list[tuple[Any, ...]]]]:
        columns = {
            "synonyms": "text, scope, source",
            "definitions": 'text, source, "references"',
            "xrefs": "target, source",
        }
        found: dict[str, dict[int, list[tuple[Any, ...]]]] = {table: {} for table in columns}
        for table, listed in columns.items():
            if numbers:
                wanted = (
                    f"SELECT concept_number, {listed} FROM {{{table}}} "
                    f"WHERE concept_number IN ({_listed(numbers)}) ORDER BY number"
                )
                for number, *rest in self._query(wanted):
                    found[table].setdefault(number, []).append(tuple(rest))
        return found

    def _at(self, table: str, numbers: Sequence[int], columns: str) -> dict[int, tuple[Any, ...]]:
        if not numbers:
            return {}
        wanted = f"SELECT number, {columns} FROM {{{table}}} WHERE number IN ({_listed(numbers)})"
        return {number: tuple(rest) for number, *rest in self._query(wanted)}

    def _query(self, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        with self._reading():
            return self._connection.execute(self._with_files(sql), values).fetchall()

    def _with_files(self, sql: str) -> str:
        return sql.format(**{table: parquet(self.path(table)) for table in COLUMNS})

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            raise FolderError(
                f"damaged table ({str(error).splitlines()[0]})", where=self.folder, remedy="build it again"
            ) from error


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(int(number)) for number in dict.fromkeys(numbers))


def _concept(
    number: int, concept_id: str, name: str, source: str, *, texts: dict[str, dict[int, list[tuple[Any, ...]]]]
) -> Concept:
    return Concept(
        concept_id=ConceptId(concept_id),
        name=name,
        source=source,
        synonyms=tuple(
            Synonym(text=text, scope=Scope(scope), source=of) for text, scope, of in texts["synonyms"].get(number, ())
        ),
        definitions=tuple(
            Definition(text=text, source=of, references=tuple(references))
            for text, of, references in texts["definitions"].get(number, ())
        ),
        xrefs=tuple(Xref(target=target, source=of) for target, of in texts["xrefs"].get(number, ())),
    )
