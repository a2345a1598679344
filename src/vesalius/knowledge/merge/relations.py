"""Relations between what the concepts became."""

from __future__ import annotations

from vesalius.knowledge.merge.cycles import refuse_cycles
from vesalius.knowledge.merge.workspace import Fault, Workspace


def number_concepts(workspace: Workspace) -> None:
    """Makes ``numbered`` (number, concept_id, name, source of the concepts) and ``became`` (id → number, whether it was replaced)."""
    workspace.run(
        "CREATE TABLE numbered AS SELECT row_number() OVER () - 1 AS number, * FROM ("
        "SELECT nodes.node, concept_id, name, live.source, live.key FROM nodes JOIN live USING (concept_id, key) "
        "WHERE nodes.node = nodes.part_of ORDER BY nodes.node)"
    )
    workspace.run(
        "CREATE TABLE became AS SELECT nodes.concept_id, number, false AS is_replaced FROM nodes "
        "JOIN numbered ON numbered.node = nodes.part_of; "
        "INSERT INTO became SELECT replaced.concept_id, number, true FROM replaced JOIN became ON became.concept_id = replaced.became"
    )
    workspace.counts["concepts"] = workspace.number("SELECT count(*) FROM numbered")


def join_relations(workspace: Workspace) -> None:
    """Makes ``joined``: relations with the numbers of their ends and the `place` of their source, without those that fall away.

    A relation of a dropped concept falls away, and so does one that joining concepts has turned into a loop, or that following
    `replaced_by` has turned into part of an ``is_a`` cycle. One whose end has
    a prefix that no source states concepts of (an ontology that imports another) is left out, and counted as `foreign`.

    Raises:
        InputError: an end of a relation is nowhere, or ``is_a`` goes round in a cycle.
    """
    workspace.run(
        "CREATE TABLE joined AS SELECT subjects.number AS subject_number, predicate, objects.number AS object_number, place, key, "
        "subject = object AS is_loop, coalesce(subjects.is_replaced OR objects.is_replaced, false) AS is_moved "
        "FROM staged_relations JOIN source_order USING (source) "
        "LEFT JOIN became AS subjects ON subjects.concept_id = subject "
        "LEFT JOIN became AS objects ON objects.concept_id = object"
    )
    _refuse_dangling(workspace)
    workspace.run("DELETE FROM joined WHERE subject_number IS NULL OR object_number IS NULL")
    refuse_cycles(workspace)
    workspace.run("DELETE FROM joined WHERE subject_number = object_number")


def refuse_dangling_texts(workspace: Workspace) -> None:
    """Refuses synonyms, definitions and xrefs of concepts that no source states.

    Raises:
        InputError: there is one.
    """
    for table, text in {"synonyms": "text", "definitions": "text", "xrefs": "target"}.items():
        found = workspace.rows(
            f"SELECT concept_id, {text}, source, file, line FROM staged_{table} ANTI JOIN became USING (concept_id) "
            "ANTI JOIN given_up USING (concept_id) ORDER BY key"
        )
        faults = [
            Fault(
                reason=f"{concept_id} is stated by no source", content=f"{concept_id}: {said}", source=source, file=file,
                line=line,
            )
            for concept_id, said, source, file, line in found
        ]  # fmt: skip
        workspace.refuse(faults, remedy="correct the id, or give the source that states it")


def _refuse_dangling(workspace: Workspace) -> None:
    workspace.run(
        "CREATE TABLE dangling AS SELECT subject, predicate, object, source, file, line, key, "
        "subject_number IS NULL AND NOT subject IN (SELECT concept_id FROM given_up) AS is_subject, "
        "object_number IS NULL AND NOT object IN (SELECT concept_id FROM given_up) AS is_object "
        "FROM staged_relations SEMI JOIN (SELECT key FROM joined WHERE subject_number IS NULL OR object_number IS NULL) "
        "USING (key) JOIN joined USING (key, predicate)"
    )
    faults = []
    num_foreign = 0
    prefixes = {prefix for (prefix,) in workspace.rows("SELECT prefix FROM prefixes")}
    for subject, said, other, source, file, line, is_subject, is_object in workspace.rows(
        "SELECT subject, predicate, object, source, file, line, is_subject, is_object FROM dangling "
        "WHERE is_subject OR is_object ORDER BY key"
    ):
        missing = [end for end, is_missing in ((subject, is_subject), (other, is_object)) if is_missing]
        if any(end.split(":")[0] in prefixes for end in missing):
            faults.append(
                Fault(
                    reason=f"{subject} {said} {other}: no source states {' or '.join(missing)}",
                    content=f"{subject} {said} {other}", source=source, file=file, line=line,
                )
            )  # fmt: skip
        else:
            num_foreign += 1
    workspace.counts["foreign"] = num_foreign
    workspace.run("DROP TABLE dangling")
    workspace.refuse(faults, remedy="correct the id, or give the source that states it")
