"""Which ids are live, which are given up, and what those that were replaced became."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from vesalius.knowledge.merge.workspace import Fault, Workspace

_DATE = re.compile(r"(?<!\d)(\d{4})[-_/]?(0[1-9]|1[0-2])[-_/]?(0[1-9]|[12]\d|3[01])(?!\d)|(\d{4})(AA|AB)")


def release_date(version: str) -> str | None:
    """Returns the day of a release as ``YYYY-MM-DD`` where its version names one (of ``2024AA``: May, of ``2024AB``: November)."""
    found = _DATE.search(version)
    if found is None:
        return None
    if found[4]:
        return f"{found[4]}-{'05' if found[5] == 'AA' else '11'}-01"
    return f"{found[1]}-{found[2]}-{found[3]}"


def settle_obsolete(workspace: Workspace) -> None:
    """Makes the tables ``live`` (one row a live concept and source that states it) and ``replaced`` (old id → live id).

    A concept is what the newest release that states it says; of releases of one day, or without one, the source
    given first says it. Of a concept given up, what other sources say follows `replaced_by` to the one live concept at the end of
    the chain; where there is none, or more than one, it is dropped.

    Raises:
        InputError: an id is stated twice by one source, or `replaced_by` names an id that no source knows.
    """
    _refuse_duplicates(workspace)
    given_up = _given_up(workspace)
    workspace.load("given_up", {"concept_id": "VARCHAR"}, ((concept_id,) for concept_id in sorted(given_up)))
    workspace.run(
        "CREATE TABLE live AS SELECT concept_id, name, domain, source, rank, key FROM "
        "(SELECT * FROM staged_concepts ANTI JOIN given_up USING (concept_id)) ANTI JOIN duplicates USING (key)"
    )
    workspace.run("CREATE TABLE prefixes AS SELECT DISTINCT split_part(concept_id, ':', 1) AS prefix FROM live")
    live = {
        concept_id
        for (concept_id,) in workspace.rows(
            "SELECT DISTINCT concept_id FROM live SEMI JOIN "
            "(SELECT unnest(replaced_by) AS concept_id FROM staged_obsolete) USING (concept_id)"
        )
    }
    _refuse_unknown(workspace, live, given_up)
    ends = {old: _ends(old, given_up, live) for old in given_up}
    rows = ((old, next(iter(found))) for old, found in sorted(ends.items()) if len(found) == 1)
    workspace.load("replaced", {"concept_id": "VARCHAR", "became": "VARCHAR"}, rows)
    workspace.counts["obsolete"] = len(given_up)
    workspace.counts["replaced"] = sum(len(found) == 1 for found in ends.values())


def _refuse_duplicates(workspace: Workspace) -> None:
    workspace.run(
        "CREATE TABLE duplicates AS SELECT * FROM staged_concepts SEMI JOIN "
        "(SELECT concept_id, rank FROM staged_concepts GROUP BY ALL HAVING count(*) > 1) USING (concept_id, rank) "
        "QUALIFY row_number() OVER (PARTITION BY rank, concept_id ORDER BY key) > 1"
    )
    found = workspace.rows("SELECT concept_id, name, source, file, line FROM duplicates ORDER BY key")
    faults = [
        Fault(reason=f"{concept_id} is stated a second time", content=name, source=source, file=file, line=line)
        for concept_id, name, source, file, line in found
    ]
    workspace.refuse(faults, remedy="give each concept an id of its own")


def _given_up(workspace: Workspace) -> dict[str, Sequence[str]]:
    """Returns the ids that are obsolete in the newest release that states them → what replaces each."""
    dates = [
        max((date for origin in source.origins if (date := release_date(origin.version))), default="")
        for source in workspace.sources
    ]
    newest: dict[str, tuple[int, Sequence[str]]] = {}
    for concept_id, replaced_by, rank in workspace.rows(
        "SELECT concept_id, replaced_by, rank FROM staged_obsolete ORDER BY key"
    ):
        if concept_id not in newest or dates[rank] > dates[newest[concept_id][0]]:
            newest[concept_id] = (rank, replaced_by)
    stated: Mapping[str, list[int]] = defaultdict(list)
    for concept_id, rank in workspace.rows(
        "SELECT DISTINCT concept_id, rank FROM staged_concepts SEMI JOIN staged_obsolete USING (concept_id) ORDER BY rank"
    ):
        stated[concept_id].append(rank)
    return {
        concept_id: replaced_by
        for concept_id, (rank, replaced_by) in newest.items()
        if all(
            dates[rank] > dates[other] or (dates[rank] == dates[other] and rank < other) for other in stated[concept_id]
        )
    }


def _refuse_unknown(workspace: Workspace, live: set[str], given_up: Mapping[str, Sequence[str]]) -> None:
    prefixes = {prefix for (prefix,) in workspace.rows("SELECT prefix FROM prefixes")}
    faults = [
        Fault(
            reason=f"{concept_id} is replaced by {target}, which no source knows",
            content=f"{concept_id} replaced_by {target}", source=source, file=file, line=line,
        )
        for concept_id, replaced_by, source, file, line in workspace.rows(
            "SELECT concept_id, replaced_by, source, file, line FROM staged_obsolete ORDER BY key"
        )
        for target in replaced_by
        if concept_id in given_up and target not in live and target not in given_up and target.split(":")[0] in prefixes
    ]  # fmt: skip
    workspace.refuse(faults, remedy="correct the id")


def _ends(old: str, given_up: Mapping[str, Sequence[str]], live: set[str]) -> set[str]:
    """Returns the live ids at the ends of all chains from `old`; a cycle has no end."""
    ends: set[str] = set()
    seen = {old}
    waiting = [old]
    while waiting:
        for target in given_up.get(waiting.pop(), ()):
            if target in live:
                ends.add(target)
            elif target not in seen:
                seen.add(target)
                waiting.append(target)
    return ends
