"""What tests of both stages need."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from vesalius.ids import ConceptId
from vesalius.knowledge.graph import Graph

HERE = str(Path(__file__).parent)
sys.path.append(HERE)  # the processes that tests start import `launched` by its name
TIMEOUT_S = 300
STARTED_BY = {
    "torchrun": lambda rank, num, port: {
        "RANK": rank, "WORLD_SIZE": num, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": num, "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test",
    },
    "srun": lambda rank, num, port: {
        "SLURM_PROCID": rank, "SLURM_NTASKS": num, "SLURM_LOCALID": rank, "SLURM_NTASKS_PER_NODE": num, "SLURM_NODEID": "0",
        "SLURM_STEP_NUM_TASKS": num, "SLURM_STEP_NUM_NODES": "1", "SLURM_NNODES": "1", "SLURM_JOB_ID": "77",
        "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": port,
    },
}  # fmt: skip
"""What a launcher tells the processes it starts."""


@pytest.fixture
def sides(graph: Graph) -> dict[ConceptId, str]:
    """Every tenth concept validates, the next one tests, the others train."""
    kinds = {8: "validation", 9: "test"}
    return {concept.concept_id: kinds.get(int(concept.concept_id[-1]), "train") for concept in graph}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a process ended, and what it had to say: what its function returned, or the error it raised."""

    exit_code: int
    answer: Any


@pytest.fixture(scope="session")
def launch() -> Callable[..., list[Outcome]]:
    """Runs a function of `launched` in a number of processes; they import what they need once for all tests."""
    import launched

    context = multiprocessing.get_context("forkserver")
    # A server that runs already has imported something else; and Python 3.11 gives a new one the environment's path alone.
    forkserver._forkserver._stop()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), HERE]))
    context.set_forkserver_preload(["launched"])

    def run(
        num: int,
        function: Callable[..., Any],
        *arguments: Any,
        by: str = "torchrun",
        place: Mapping[str, str] | None = None,
        meanwhile: Callable[[list[int]], None] = lambda _: None,
    ) -> list[Outcome]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        started = []
        for rank in range(num):
            told = place or ({} if num == 1 else STARTED_BY[by](str(rank), str(num), str(port)))
            heard, said = context.Pipe(duplex=False)
            process = context.Process(target=launched.begin, args=(function, arguments, told, said))
            process.start()
            said.close()
            started.append((process, heard))
        meanwhile([process.pid for process, _ in started])
        outcomes = []
        for process, heard in started:
            try:
                answer = heard.recv() if heard.poll(TIMEOUT_S) else "no answer"
            except EOFError:
                answer = None
            process.join(TIMEOUT_S)
            if process.exitcode is None:
                process.kill()
                process.join()
            outcomes.append(Outcome(exit_code=process.exitcode, answer=answer))
        return outcomes

    return run
