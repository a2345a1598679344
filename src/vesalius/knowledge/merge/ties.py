"""Which concepts of several sources are one: by xref, then by name."""

from __future__ import annotations

from collections.abc import Iterator

from vesalius.knowledge.components import components
from vesalius.knowledge.merge.names import normalised_names
from vesalius.knowledge.merge.workspace import Workspace
from vesalius.knowledge.prefixes import DOMAINS, NEVER_TIES, SAME_PREFIX


def tie_concepts(workspace: Workspace) -> None:
    """Makes the table ``nodes``: every live id with the node that its concept became, and fills ``conflicts``.

    A tie is an xref target that several nodes name or are, or a name that several bear exactly (normalised), at least one of
    them as its preferred name. It joins nothing, and is a conflict, where two concepts of one source share it, or concepts of
    two domains do (a disease is no structure, whatever its name). Where ties join two concepts of one source, or of two
    domains, through others, all of that component stays apart, as a conflict too. Names tie what xrefs left, and only
    between sources.
    """
    _make_nodes(workspace)
    workspace.counts["tied_by_xref"] = 0
    workspace.counts["tied_by_name"] = 0
    _xref_ties(workspace)
    _join(workspace, "xref")
    if len(workspace.sources) > 1:
        _name_ties(workspace)
        _join(workspace, "name")


def _make_nodes(workspace: Workspace) -> None:
    workspace.load("domains", {"prefix": "VARCHAR", "domain": "VARCHAR"}, DOMAINS.items())
    workspace.load("same_prefix", {"prefix": "VARCHAR", "one": "VARCHAR"}, SAME_PREFIX.items())
    workspace.run(  # DOID names the release in the prefix: SNOMEDCT_US_2024_09_01
        "INSERT INTO same_prefix SELECT dated.prefix, coalesce(one, plain) FROM ("
        "SELECT DISTINCT upper(split_part(target, ':', 1)) AS prefix, regexp_replace(prefix, '(_[0-9]+){3}$', '') AS plain "
        "FROM staged_xrefs) AS dated LEFT JOIN same_prefix ON same_prefix.prefix = plain WHERE plain <> dated.prefix"
    )
    workspace.run(
        "CREATE TABLE nodes AS SELECT row_number() OVER () - 1 AS node, node AS part_of, * FROM ("
        "SELECT concept_id, bit_or(1::BIGINT << rank) AS ranks, min(key) AS key, "
        "coalesce(min(live.domain), min(domains.domain)) AS domain "
        "FROM live LEFT JOIN domains ON domains.prefix = upper(split_part(concept_id, ':', 1)) "
        "GROUP BY concept_id ORDER BY min(rank), concept_id)"
    )


def _one_spelling(column: str) -> str:
    """Returns SQL for an id with the one spelling of its prefix, joined from ``same_prefix``."""
    return f"coalesce(one, upper(split_part({column}, ':', 1))) || ':' || substr({column}, strpos({column}, ':') + 1)"


def _xref_ties(workspace: Workspace) -> None:
    """Makes ``ties`` (tie, node): nodes that are, or name, one id; an id that was replaced stands for what replaced it."""
    never = ", ".join(f"'{prefix}'" for prefix in sorted(NEVER_TIES))
    workspace.run(
        "CREATE TABLE claims AS "
        f"SELECT {_one_spelling('target')} AS tie, node, min(claimed.key) AS key FROM ("
        "SELECT DISTINCT coalesce(became, xrefs.concept_id) AS concept_id, target, key FROM staged_xrefs AS xrefs "
        "LEFT JOIN replaced USING (concept_id)) AS claimed "
        "JOIN nodes USING (concept_id) LEFT JOIN same_prefix ON prefix = upper(split_part(target, ':', 1)) "
        f"WHERE strpos(target, ':') > 1 AND upper(split_part(target, ':', 1)) NOT IN ({never}) GROUP BY tie, node"
    )
    workspace.run(
        f"CREATE TABLE own AS SELECT {_one_spelling('spelled.concept_id')} AS tie, node FROM "
        "(SELECT concept_id, concept_id AS became FROM nodes UNION ALL SELECT concept_id, became FROM replaced) AS spelled "
        "JOIN nodes ON nodes.concept_id = became LEFT JOIN same_prefix ON prefix = upper(split_part(spelled.concept_id, ':', 1))"
    )
    workspace.run(
        "CREATE OR REPLACE TABLE ties AS SELECT tie, node FROM claims SEMI JOIN ("
        "SELECT tie FROM claims GROUP BY tie HAVING count(*) > 1 UNION SELECT tie FROM claims SEMI JOIN own USING (tie)"
        ") USING (tie) UNION SELECT tie, node FROM own SEMI JOIN claims USING (tie)"
    )
    workspace.run("DROP TABLE own")


def _name_ties(workspace: Workspace) -> None:
    """Makes ``ties`` (tie, node): nodes that bear one name, across sources, where at least one of them prefers it."""
    normalised_names(
        workspace,
        "bearers",
        "SELECT name AS text, part_of AS bearer, true AS is_preferred FROM live JOIN nodes USING (concept_id) UNION ALL "
        "SELECT text, part_of, false FROM staged_synonyms JOIN nodes USING (concept_id) WHERE scope = 'exact'",
    )
    workspace.run(
        "CREATE TABLE joined AS SELECT part_of AS node, bit_or(ranks) AS ranks FROM nodes GROUP BY part_of; "
        "CREATE OR REPLACE TABLE ties AS SELECT normalised AS tie, bearer AS node FROM bearers SEMI JOIN ("
        "SELECT normalised FROM bearers JOIN joined ON node = bearer GROUP BY normalised "
        "HAVING count(*) > 1 AND bool_or(is_preferred) AND bit_count(bit_or(ranks)) > 1 AND normalised <> ''"
        ") USING (normalised); DROP TABLE bearers; DROP TABLE joined"
    )


def _join(workspace: Workspace, kind: str) -> None:
    """Joins nodes along ``ties`` wherever no conflict forbids it."""
    workspace.run(
        "CREATE OR REPLACE TABLE parts AS SELECT part_of AS node, bit_or(ranks) AS ranks, sum(bit_count(ranks)) AS num_ranks, "
        "min(domain) AS domain, max(domain) AS other_domain FROM nodes GROUP BY part_of; "
        "CREATE OR REPLACE TABLE faulty AS SELECT tie FROM ties JOIN parts USING (node) GROUP BY tie "
        "HAVING count(DISTINCT node) > 1 AND (" + _APART + ")"
    )
    _note(workspace, f"{kind} shared")
    workspace.run("CREATE OR REPLACE TABLE sound AS SELECT * FROM ties ANTI JOIN faulty USING (tie)")
    _lead(workspace)
    workspace.run(
        "CREATE OR REPLACE TABLE apart AS SELECT leader FROM led JOIN parts USING (node) GROUP BY leader HAVING "
        + _APART
        + "; "
        "CREATE OR REPLACE TABLE faulty AS SELECT DISTINCT tie FROM sound JOIN led USING (node) SEMI JOIN apart USING (leader)"
    )
    _note(workspace, f"{kind} chain")
    workspace.counts[f"tied_by_{kind}"] = workspace.number(
        "SELECT count(*) FROM led ANTI JOIN apart USING (leader) WHERE node <> leader"
    )
    workspace.run(
        "UPDATE nodes SET part_of = leader FROM (SELECT node, leader FROM led ANTI JOIN apart USING (leader)) AS joined "
        "WHERE joined.node = nodes.part_of AND leader <> nodes.part_of"
    )


_APART = "sum(bit_count(ranks)) <> bit_count(bit_or(ranks)) OR min(domain) <> max(other_domain)"
"""Two concepts of one source, or of two domains. A part's own ranks are counted once: what was joined shares none."""


def _lead(workspace: Workspace) -> None:
    """Makes ``led`` (node, leader): the smallest node that each node of a sound tie hangs together with."""
    workspace.run(
        "CREATE OR REPLACE TABLE members AS SELECT row_number() OVER () - 1 AS member, node FROM "
        "(SELECT DISTINCT node FROM sound ORDER BY node)"
    )
    num = workspace.number("SELECT count(*) FROM members")
    pairs: Iterator[tuple[int, ...]] = workspace.rows(
        "SELECT member, first FROM (SELECT member, min(member) OVER (PARTITION BY tie) AS first "
        "FROM sound JOIN members USING (node)) WHERE member <> first"
    )
    leaders = components(num, ((one, other) for one, other in pairs))
    workspace.load("leaders", {"member": "BIGINT", "first": "BIGINT"}, enumerate(leaders))
    workspace.run(
        "CREATE OR REPLACE TABLE led AS SELECT mine.node AS node, theirs.node AS leader FROM leaders "
        "JOIN members AS mine ON mine.member = leaders.member JOIN members AS theirs ON theirs.member = leaders.first"
    )


def _note(workspace: Workspace, kind: str) -> None:
    """Notes ties of ``faulty`` as conflicts, with the ids they would have joined."""
    shown = "first(source ORDER BY claims.key), first(file ORDER BY claims.key), first(line ORDER BY claims.key)"
    if kind.startswith("xref"):
        workspace.run(
            "INSERT INTO conflicts WITH placed AS (SELECT tie, source, file, line, claims.key FROM claims "
            "SEMI JOIN faulty USING (tie) JOIN staged_xrefs ON staged_xrefs.key = claims.key), "
            f"place AS (SELECT tie, {shown.replace('claims.', 'placed.')} FROM placed GROUP BY tie), "
            "members AS (SELECT tie, list(concept_id ORDER BY concept_id) AS ids FROM ties SEMI JOIN faulty USING (tie) "
            "JOIN nodes USING (node) GROUP BY tie) "
            f"SELECT '{kind}', members.tie, ids, place.* EXCLUDE (tie) FROM members JOIN place USING (tie) ORDER BY members.tie"
        )
    else:
        workspace.run(
            "INSERT INTO conflicts SELECT $kind, tie, list(concept_id ORDER BY concept_id), NULL, NULL, NULL "
            "FROM ties SEMI JOIN faulty USING (tie) JOIN nodes ON nodes.part_of = ties.node GROUP BY tie ORDER BY tie",
            {"kind": kind},
        )
