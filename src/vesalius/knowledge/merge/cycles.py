"""``is_a`` cycles inside a source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from vesalius.knowledge.merge.workspace import CONFLICTS, Fault, Workspace

Node = tuple[int, int]
"""Place of a source, number of a concept."""

SMALL = 300_000
"""Relations that Python walks; more are thinned out in SQL first."""


def refuse_cycles(workspace: Workspace) -> None:
    """Finds ``is_a`` relations on a cycle within one source: refused, or noted where the source allows them.

    The table ``joined`` of `relations` must hold them with `subject_number`, `object_number`, `place`, `key`, `is_loop` and
    `is_moved`. A concept that is a kind of itself is a cycle of one. Where only following `replaced_by` has closed a cycle, the
    source is not to blame: the relations that were moved are noted, and fall away.

    Raises:
        InputError: there is a cycle.
    """
    workspace.run(
        "CREATE OR REPLACE TABLE kinds AS SELECT subject_number AS below, object_number AS above, place, key, "
        "is_moved AND NOT is_loop AS is_moved FROM joined WHERE predicate = 'is_a' AND (is_loop OR subject_number <> object_number)"
    )
    _thin_out(workspace)
    on_cycle = _on_cycles(workspace, "NOT is_moved")
    _load(workspace, on_cycle)
    allowing = [name for source in workspace.sources if source.allows_cycles for name in source.kept]
    found = workspace.rows(
        "SELECT subject, object, source, file, line, key FROM staged_relations SEMI JOIN on_cycle USING (key) ORDER BY key"
    )
    faults = []
    noted = []
    for subject, other, source, file, line, key in found:
        if source in allowing:
            noted.append(("is_a cycle", f"{subject} is_a {other}", [subject, other], source, file, line))
            on_cycle.discard(key)
        else:
            faults.append(
                Fault(
                    reason=f"{subject} is_a {other} closes an is_a cycle", content=f"{subject} is_a {other}",
                    source=source, file=file, line=line,
                )
            )  # fmt: skip
    _note(workspace, noted)
    workspace.refuse(faults, remedy="take one of its relations out")
    _drop(workspace, on_cycle)
    _drop_moved(workspace)


def _drop_moved(workspace: Workspace) -> None:
    """Notes and drops the relations on cycles that only following `replaced_by` has closed."""
    moved = {key for (key,) in workspace.rows("SELECT key FROM kinds WHERE is_moved")}
    on_cycle = moved and moved & _on_cycles(workspace, "true")
    _load(workspace, on_cycle)
    found = workspace.rows(
        "SELECT subject, object, source, file, line FROM staged_relations SEMI JOIN on_cycle USING (key) ORDER BY key"
    )
    _note(
        workspace,
        [
            ("is_a cycle by replacement", f"{subject} is_a {other}", [subject, other], source, file, line)
            for subject, other, source, file, line in found
        ],
    )
    _drop(workspace, on_cycle)


def _load(workspace: Workspace, keys: set[int]) -> None:
    workspace.load("on_cycle", {"key": "BIGINT"}, ((key,) for key in sorted(keys)))


def _drop(workspace: Workspace, keys: set[int]) -> None:
    _load(workspace, keys)
    for table in ("joined", "kinds"):
        workspace.run(f"DELETE FROM {table} WHERE key IN (SELECT key FROM on_cycle)")


def _note(workspace: Workspace, rows: Sequence[Sequence[Any]]) -> None:
    workspace.load("noted", CONFLICTS, rows)
    workspace.run("INSERT INTO conflicts SELECT * FROM noted")


def _thin_out(workspace: Workspace) -> None:
    """Takes away, again and again, relations that nothing leads to or away from, while there are many and some go."""
    left = workspace.number("SELECT count(*) FROM kinds")
    while left > SMALL:
        workspace.run(
            "CREATE OR REPLACE TABLE thinned AS SELECT * FROM kinds "
            "SEMI JOIN (SELECT DISTINCT place, above AS below FROM kinds) USING (place, below); "
            "CREATE OR REPLACE TABLE kinds AS SELECT * FROM thinned "
            "SEMI JOIN (SELECT DISTINCT place, below AS above FROM thinned) USING (place, above)"
        )
        before, left = left, workspace.number("SELECT count(*) FROM kinds")
        if left == before:
            return


def _on_cycles(workspace: Workspace, condition: str) -> set[int]:
    """Returns the keys of relations of ``kinds`` that meet `condition` and whose two ends lie on one cycle of their source."""
    above: dict[tuple[int, int], list[tuple[tuple[int, int], int]]] = defaultdict(list)
    for below, over, place, key in workspace.rows(
        f"SELECT below, above, place, key FROM kinds WHERE {condition} ORDER BY key"
    ):
        above[place, below].append(((place, over), key))
    group = strong_groups({node: [over for over, _ in listed] for node, listed in above.items()})
    return {
        key
        for node, listed in above.items()
        for over, key in listed
        if node == over or group[node] == group.get(over, -1)
    }


def strong_groups(above: dict[Node, list[Node]]) -> dict[Node, int]:
    """Returns for each node of a directed graph the number of the strongly connected group it is in.

    Source: Tarjan, Depth-first search and linear graph algorithms (1972), with a stack of its own in place of recursion.
    """
    order: dict[Node, int] = {}
    lowest: dict[Node, int] = {}
    group: dict[Node, int] = {}
    path: list[Node] = []
    for root, direct in above.items():
        if root in order:
            continue
        walk = [(root, iter(direct))]
        order[root] = lowest[root] = len(order)
        path.append(root)
        while walk:
            node, following = walk[-1]
            for over in following:
                if over not in order:
                    order[over] = lowest[over] = len(order)
                    path.append(over)
                    walk.append((over, iter(above.get(over, ()))))
                    break
                if over not in group:
                    lowest[node] = min(lowest[node], order[over])
            else:
                walk.pop()
                if walk:
                    lowest[walk[-1][0]] = min(lowest[walk[-1][0]], lowest[node])
                if lowest[node] == order[node]:
                    _close(node, path, group, order[node])
    return group


def _close(node: Node, path: list[Node], group: dict[Node, int], number: int) -> None:
    while True:
        member = path.pop()
        group[member] = number
        if member == node:
            return
