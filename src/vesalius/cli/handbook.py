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
    from vesalius.knowledge.build import build_graph
    from vesalius.knowledge.handbook.check import ONTOLOGIES, check_all
    from vesalius.knowledge.handbook.files import handbook_files, shipped
    from vesalius.knowledge.handbook.files import tidy as put_in_order

    where = folder or shipped()
    for path in handbook_files(where):
        if tidy and put_in_order(path):
            print(f"put in order: {path}")
    outcome = check_all(where, build_graph(ONTOLOGIES), labels=labels)
    for problem in outcome.problems:
        print(f"{problem.where}: {problem.what}")
    for line in outcome.summary:
        print(line)
    if outcome.problems:
        raise InputError(
            f"{len(outcome.problems)} problems in the handbook", where=where, remedy="they are listed above"
        )


def evaluate(*, cases: Path, out: Path | None = None, folder: Path | None = None) -> None:
    """Compare the handbook with real scans: place, contact, volume and density of every region it knows.

    Args:
        cases: case store, prepared with the handbook in the graph.
        out: JSON file to write: the table and every disagreement.
        folder: folder of a handbook (default: the one that ships with Vesalius).
    """
    import json

    from rich.console import Console

    from vesalius.cli.tables import print_agreement
    from vesalius.eval.handbook import evaluate_handbook
    from vesalius.folder import write_text
    from vesalius.knowledge.handbook.expand import Handbook
    from vesalius.knowledge.handbook.files import read_entries
    from vesalius.train.progress import progress_bar
    from vesalius.volumes.store import CaseStore

    store = CaseStore.open(cases)
    handbook = Handbook(read_entries(folder))
    with progress_bar("Cases", total=len(store.cases)) as advance:
        agreement = evaluate_handbook(handbook, store, advance=lambda case_id: advance(1, note=case_id))
    print_agreement(Console(), agreement.as_json())
    if out is not None:
        write_text(out, json.dumps(agreement.as_json(), indent=2, ensure_ascii=False) + "\n")
        print(f"report: {out}")
