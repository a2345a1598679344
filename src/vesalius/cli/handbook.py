"""What is done with the handbook: `vesalius knowledge check`, `vesalius eval handbook`."""

from __future__ import annotations

from pathlib import Path


def check(*, folder: Path | None = None, labels: Path | None = None, tidy: bool = False) -> None:
    """Check the handbook: its schema, its targets, its relations, its wording, and the labels it covers.

    Args:
        folder: folder of a handbook (default: the one that ships with Vesalius).
        labels: table of labels that should resolve: label, datasets.
        tidy: sort the files and order their keys first.
    """
    from vesalius.errors import InputError
    from vesalius.knowledge.handbook.check import check_all
    from vesalius.knowledge.handbook.files import handbook_files, shipped
    from vesalius.knowledge.handbook.files import tidy as put_in_order

    where = folder or shipped()
    if tidy:
        for path in handbook_files(where):
            if put_in_order(path):
                print(f"put in order: {path}")
    outcome = check_all(where, labels=labels)
    for problem in outcome.problems:
        print(f"{problem.where}: {problem.what}")
    for line in outcome.summary:
        print(line)
    if outcome.problems:
        raise InputError(
            f"{len(outcome.problems)} problems in the handbook", where=where, remedy="they are listed above"
        )
