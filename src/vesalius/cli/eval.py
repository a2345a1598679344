"""`vesalius eval …`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from vesalius.cli import handbook
from vesalius.cli.tables import print_retrieval


def encoder(
    encoders: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    graph: Path,
    out: Path,
    candidates: Literal["anatomy", "all"] = "anatomy",
) -> None:
    """Measure encoders on held-out concepts: definition → name, synonym → name.

    Args:
        encoders: run folders, sentence-transformers folders, or minilm.
        graph: graph folder.
        out: JSON file to write.
        candidates: what texts choose among: preferred names of anatomy, or all names and synonyms of all concepts.
    """
    import json

    from vesalius.errors import SettingError
    from vesalius.eval.encoder import evaluate_encoder, num_texts
    from vesalius.folder import write_text
    from vesalius.knowledge.split import split_concepts
    from vesalius.knowledge.store import read_graph
    from vesalius.train.progress import progress_bar
    from vesalius.train.run import load_encoder

    if not encoders:
        raise SettingError("no encoder named", remedy="name at least one run or encoder folder")
    read = read_graph(graph)
    test = {concept for concept, side in split_concepts(read).items() if side == "test"}
    results = {}
    for name in encoders:
        loaded = load_encoder(name)
        with progress_bar(f"Evaluate {Path(name).name}", total=num_texts(read, test, candidates)) as advance:
            found = evaluate_encoder(
                loaded, read, concepts=test, candidates=candidates, advance=lambda num: advance(num)
            )
        results[name] = {task: scores.as_json() for task, scores in found.tasks.items()}
    write_text(out, json.dumps({"candidates": candidates, "retrieval": results}, indent=2) + "\n")
    print_retrieval(Console(), results)
    print(f"report: {out}")


COMMANDS = {"encoder": encoder, "handbook": handbook.evaluate}
