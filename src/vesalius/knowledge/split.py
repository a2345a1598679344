"""Which concepts are trained on, and which are held out."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

import duckdb

from vesalius.ids import ConceptId, Split
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.names import normalise
from vesalius.tables import parquet

TRAIN_SHARE = 0.8
VALIDATION_SHARE = 0.1


def split_concepts(graph: Graph) -> dict[ConceptId, Split]:
    """Puts every concept, with all its texts, on one side: 80 % train, 10 % validation, 10 % test.

    Concepts that share an xref, name each other as xref, or share an exact name (normalised) form a group; a group's side
    is decided by a hash of its smallest id alone. So no text of a held-out concept is trained on under another id, and the
    side of a concept does not change when others are added, unless they join it.
    """
    leader: dict[str, str] = {}

    def find(item: str) -> str:
        while leader.setdefault(item, item) != item:
            leader[item] = leader[leader[item]]
            item = leader[item]
        return item

    for concept in graph:
        mine = find(f"id {concept.concept_id}")
        joined = [f"name {normalise(text)}" for text in concept.exact_names()]
        joined += [f"id {xref.target}" for xref in concept.xrefs]
        for item in joined:
            leader[find(item)] = mine

    groups: dict[str, list[ConceptId]] = defaultdict(list)
    for concept in graph:
        groups[find(f"id {concept.concept_id}")].append(concept.concept_id)
    sides: dict[ConceptId, Split] = {}
    for members in groups.values():
        side = _side(min(members))
        sides.update(dict.fromkeys(members, side))
    return sides


def _side(concept_id: ConceptId) -> Split:
    share = int.from_bytes(hashlib.sha256(concept_id.encode()).digest()[:8], "big") / 2**64
    if share < TRAIN_SHARE:
        return "train"
    return "validation" if share < TRAIN_SHARE + VALIDATION_SHARE else "test"


def make_sides(connection: duckdb.DuckDBPyConnection, graph: Path) -> None:
    """Makes the table `sides` (number, concept_id, side) of a graph on disk: what `split_concepts` says, in SQL.

    The memory of this process does not grow with the graph; the database spills to its temporary folder. Concepts that share
    a name or an xref are tied to the first that bears it; then every concept takes the smallest label among its ties, and the
    label of its label, until nothing changes.

    Args:
        connection: where the temporary table is made.
        graph: a graph folder.
    """
    tables = {name: parquet(graph / f"{name}.parquet") for name in ("concepts", "names", "xrefs")}
    connection.execute(_TIES.format(**tables))
    while True:
        connection.execute(_SPREAD)
        (changed,) = connection.execute(
            "SELECT count(*) FROM spread JOIN labels USING (number) WHERE spread.label < labels.label"
        ).fetchall()[0]
        connection.execute("CREATE OR REPLACE TEMP TABLE labels AS SELECT * FROM spread")
        if not changed:
            break
    connection.execute(_SIDES.format(**tables), {"train": TRAIN_SHARE, "validation": TRAIN_SHARE + VALIDATION_SHARE})


_TIES = """
CREATE OR REPLACE TEMP TABLE ties AS
WITH borne AS (
    SELECT DISTINCT concept_number AS number, normalised AS item FROM {names}
), named AS (
    SELECT number, min(number) OVER (PARTITION BY item) AS other FROM borne
), elsewhere AS (
    SELECT DISTINCT x.concept_number AS number, x.target, c.number AS known
    FROM {xrefs} x LEFT JOIN {concepts} c ON c.concept_id = x.target
), referred AS (
    SELECT number, coalesce(known, min(number) OVER (PARTITION BY target)) AS other FROM elsewhere
)
SELECT DISTINCT number, other FROM (SELECT * FROM named UNION ALL SELECT * FROM referred) WHERE number <> other;
CREATE OR REPLACE TEMP TABLE tied AS
SELECT number, other FROM ties UNION SELECT other, number FROM ties;
CREATE OR REPLACE TEMP TABLE labels AS
SELECT DISTINCT number, number AS label FROM tied
"""

_SPREAD = """
CREATE OR REPLACE TEMP TABLE near AS
SELECT number, min(label) AS label FROM (
    SELECT number, label FROM labels
    UNION ALL SELECT tied.number, labels.label FROM tied JOIN labels ON labels.number = tied.other
) GROUP BY number;
CREATE OR REPLACE TEMP TABLE spread AS
SELECT near.number, least(near.label, further.label) AS label FROM near JOIN near further ON further.number = near.label
"""

_SIDES = """
CREATE OR REPLACE TEMP TABLE sides AS
WITH grouped AS (
    SELECT c.number, c.concept_id, coalesce(l.label, c.number) AS label FROM {concepts} c LEFT JOIN labels l USING (number)
), led AS (
    SELECT label, sha256(min(concept_id)) AS digest FROM grouped GROUP BY label
), shares AS (
    SELECT label, ('0x' || digest[1:16])::UBIGINT::DOUBLE / 18446744073709551616.0 AS share FROM led
)
SELECT number, concept_id,
    CASE WHEN share < $train THEN 'train' WHEN share < $validation THEN 'validation' ELSE 'test' END AS side
FROM grouped JOIN shares USING (label)
"""
