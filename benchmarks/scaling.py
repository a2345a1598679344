"""How time, memory and traffic grow with processes and batch: the table of docs/scaling.md.

    python benchmarks/scaling.py --batch-size 128
    torchrun --nproc-per-node 2 benchmarks/scaling.py --batch-size 128 --cached

Every process takes steps of stage 1 over made-up texts, MiniLM with its last layer open; the first one prints a row of the table.
Traffic is what the kernel counts on the loopback device: run it where nothing else uses that, such as a network namespace of its own
(`unshare --net sh -c 'ip link set lo up; torchrun …'`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from vesalius.ids import ConceptId
from vesalius.knowledge.concept import Concept, Definition
from vesalius.knowledge.graph import Graph
from vesalius.model.text_encoder import TextEncoder, bundled_minilm
from vesalius.train.engine import Engine
from vesalius.train.log import peak_memory_mb
from vesalius.train.loop import LoopSettings
from vesalius.train.optim import OptimSettings
from vesalius.train.stage import add_gradients
from vesalius.train.text import TextSettings, TextStage
from vesalius.train.text_data import TextData

WORDS = ("left", "right", "upper", "lower", "lobe", "artery", "vein", "nerve", "muscle", "bone", "of", "near", "the")
NUM_STEPS = 3


def made_up_graph(num: int) -> Graph:
    """Returns `num` concepts with a name of three tokens and a definition of twelve."""
    concepts = []
    for number in range(num):
        words = [WORDS[(number * 7 + place * place) % len(WORDS)] for place in range(12)]
        concepts.append(
            Concept(
                concept_id=ConceptId(f"UBERON:{number:07d}"),
                name=" ".join([*words[:2], str(number)]),
                source="uberon",
                definitions=(Definition(text=" ".join([*words, str(number)]), source="uberon"),),
            )
        )
    return Graph(concepts, [], [])


def loopback_bytes() -> int:
    """Returns what the loopback device has sent."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[8])


def main() -> None:
    """Prints processes, batch, cached, seconds a step, MB above the idle process, MB sent a step by all processes together."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--cached", action="store_true")
    given = parser.parse_args()

    engine = Engine(accelerator="cpu")
    graph = made_up_graph(given.batch_size)
    settings = TextSettings(
        data=TextData(batch_size=given.batch_size, neighbourhood_size=1),
        train_layers=1,
        train_embeddings=False,
        loop=LoopSettings(num_steps=1, validate_every=1, checkpoint_every=1, optim=OptimSettings(learning_rate=1e-5)),
    )
    sides = dict.fromkeys((concept.concept_id for concept in graph), "train")
    stage = TextStage(
        TextEncoder.load(bundled_minilm()), graph=graph, sides=sides, settings=settings, processes=engine.processes
    )
    trained = [parameter for parameter in stage.module.parameters() if parameter.requires_grad]
    idle_mb, seconds, sent = peak_memory_mb(), [], []
    for _ in range(NUM_STEPS):
        engine.processes.table([0.0])
        began, before = time.perf_counter(), loopback_bytes()
        share, _ = add_gradients(stage, stage.draw(), autocast=engine.autocast, cached=given.cached)
        engine.processes.sum(share)
        engine.processes.sum_gradients(trained)
        seconds.append(time.perf_counter() - began)
        sent.append(loopback_bytes() - before)
        stage.module.zero_grad()
    memory_mb = float(engine.processes.table([peak_memory_mb() - idle_mb]).max())
    if engine.processes.is_first:
        row = (
            engine.processes.num, given.batch_size, "yes" if given.cached else "no", f"{statistics.median(seconds):.2f}",
            f"{memory_mb:.0f}", f"{statistics.median(sent) / 1e6:.2f}",
        )  # fmt: skip
        sys.stdout.write(f"| {' | '.join(map(str, row))} |\n")


if __name__ == "__main__":
    main()
