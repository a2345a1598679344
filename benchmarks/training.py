"""What training costs, ours against the published form and against other trainers, side by side in one run.

    make bench-training                              # everything, into docs/benchmarks/training.md: about an hour on 2 cores
    make bench-training ARGS="--quick"               # small sizes, eight minutes, printed only
    make bench-training ARGS="--only text-minilm"    # one case, printed only
    make bench-training ARGS="--device cuda --out docs/benchmarks/training-h100.md"

How a case is measured, and how to add one, is told in `cases.py`. Exit code: 0 when every side ran and agreed (goals may be missed: the
page says which), 1 when a side could not be run, 3 when two sides that must give the same did not.
"""

# ruff: noqa: S603, T201

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from cases import Case, Context, Goal, Measured, Side, Work
from torch import Tensor

from vesalius.folder import commit, write_text
from vesalius.train.progress import progress_bar

MODULES = ("training_text", "training_regions", "training_data", "training_parts")
"""Where the cases are, in the order of the page."""

FAILED, UNEQUAL = 1, 3


@dataclass
class Result:
    """What came of a case.

    Attributes:
        case: which.
        measured: by side; one that failed is missing.
        differences: by side, the largest relative difference from the first side's outcome, and of what.
        failures: what went wrong, by side.
    """

    case: Case
    measured: dict[str, Measured] = field(default_factory=dict)
    differences: dict[str, tuple[float, str]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def unequal(self) -> list[str]:
        """Returns the sides that did not give what the first one gave."""
        return [side for side, (apart, _) in self.differences.items() if not apart <= self.case.tolerance]


def main() -> int:
    """Measures, prints and writes the page; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, one process a side")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a case; may be repeated")
    parser.add_argument("--repeats", type=int, help="processes a side, instead of each case's own number")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, …")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of all processes")
    parser.add_argument("--out", type=Path, help="page to write; printed in any case")
    parser.add_argument("--list", action="store_true", help="show the names of the cases and stop")
    parser.add_argument("--worker", nargs=4, metavar=("MODULE", "CASE", "SIDE", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--with-outcome", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        module, name, side, folder = chosen.worker
        context = Context(device=torch.device(chosen.device), cache=Path(folder).parent.parent, quick=chosen.quick)
        case = next(case for case in cases_of(module) if case.name == name)
        work_alone(case, side, Path(folder), context=context, with_outcome=chosen.with_outcome)
        return 0
    known = {case.name: module for module in MODULES for case in cases_of(module)}
    cases = [case for module in MODULES for case in cases_of(module) if not chosen.only or case.name in chosen.only]
    unknown = set(chosen.only) - {case.name for case in cases}
    if unknown or (chosen.quick and chosen.out is not None):
        parser.error(f"no case {', '.join(sorted(unknown))}" if unknown else "a quick run is not written: drop --out")
    if chosen.quick:
        cases = [case for case in cases if case.quick or chosen.only]
    if chosen.list:
        print("\n".join(f"{case.name:<24} {case.title}" for case in cases))
        return 0
    if chosen.out is not None:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    for result in run(cases, known, chosen):
        results.append(result)
        if chosen.out is not None:  # after each case: what is ended early keeps what it measured
            write_text(chosen.out, report(results, chosen, waiting=cases[len(results) :]))
    print(report(results, chosen))
    return exit_code(results)


def cases_of(module: str) -> tuple[Case, ...]:
    """Returns the cases of a module."""
    return importlib.import_module(module).CASES


def exit_code(results: Sequence[Result]) -> int:
    """Prints what went wrong and returns the code that tells it."""
    code = 0
    for result in results:
        for side, reason in result.failures.items():
            print(f"{result.case.name}, {side}: could not be run: {reason}", file=sys.stderr)
            code = code or FAILED
    for result in results:
        for side in result.unequal():
            first, (apart, what) = next(iter(result.case.sides)), result.differences[side]
            print(
                f"{result.case.name}: {side} differs from {first} by {apart:.1e} in {what}, "
                f"more than {result.case.tolerance:.0e}",
                file=sys.stderr,
            )
            code = UNEQUAL
    return code


# ---- the parent: one process after the other


def run(cases: Sequence[Case], modules: Mapping[str, str], chosen: argparse.Namespace) -> Iterator[Result]:
    """Measures all sides of each case in turn and gives what came of it; `modules` tells where each case is."""
    kind = torch.device(chosen.device).type
    plan = [(case, _repeats(case, chosen), _sides(case, kind)) for case in cases]
    with (
        tempfile.TemporaryDirectory(prefix="bench-training-") as name,
        progress_bar("Benchmark", total=sum(repeats * len(sides) for _, repeats, sides in plan)) as advance,
    ):
        for case, repeats, sides in plan:
            folder = Path(name) / case.name
            folder.mkdir()
            result, runs = Result(case=case), dict[str, list[Measured]]({side: [] for side in sides})
            for repeat in range(repeats):
                for number, side in enumerate(sides):
                    if side not in result.failures:
                        advance(0, note=f"{case.name}: {side}")
                        try:
                            place = folder / f"{repeat}-{number}"
                            module = modules[case.name]
                            found = measure(case, side, place, chosen, module=module, with_outcome=repeat == 0)
                            runs[side].append(found)
                        except SideError as error:
                            result.failures[side] = str(error)
                    advance(1, note=f"{case.name}: {side}")
            result.differences = compare([folder / f"0-{number}" for number in range(len(sides))], sides)
            result.measured = {side: median(runs[side]) for side in sides if side not in result.failures}
            shutil.rmtree(folder)
            yield result


def _repeats(case: Case, chosen: argparse.Namespace) -> int:
    return chosen.repeats or (1 if chosen.quick else case.repeats)


def _sides(case: Case, kind: str) -> list[str]:
    return [name for name, side in case.sides.items() if kind in side.devices]


class SideError(Exception):
    """A side's process ended badly."""


def measure(
    case: Case, name: str, folder: Path, chosen: argparse.Namespace, *, module: str, with_outcome: bool
) -> Measured:
    """Does one side once, in processes of its own, which import `module` alone: what other cases need is not in their memory.

    Raises:
        SideError: a process failed.
    """
    folder.mkdir()
    side = case.sides[name]
    launcher = [sys.executable]
    if side.processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(side.processes)]
    command = [*launcher, __file__, "--worker", module, case.name, name, str(folder), "--device", chosen.device]
    command += ["--quick"] * chosen.quick + ["--with-outcome"] * with_outcome
    threads = max(1, chosen.threads // side.processes)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        killed = "killed, most likely for want of memory" if done.returncode == -9 else f"exit code {done.returncode}"
        raise SideError(f"{killed}: {said_last(done.stderr)}")
    ranks = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("rank-*.json"))]
    return Measured(
        seconds=statistics.median(max(times) for times in zip(*(rank["times"] for rank in ranks), strict=True)),
        fastest=min(max(times) for times in zip(*(rank["times"] for rank in ranks), strict=True)),
        slowest=max(max(times) for times in zip(*(rank["times"] for rank in ranks), strict=True)),
        units=ranks[0]["units"],
        flops=ranks[0]["flops"],
        peak_mb=sum(rank["peak_mb"] for rank in ranks),
        idle_mb=sum(rank["idle_mb"] for rank in ranks),
        device_mb=sum(rank["device_mb"] for rank in ranks),
        numbers=ranks[0]["numbers"],
    )


def said_last(stderr: str) -> str:
    """Returns the line that names the first exception of a process, or the last line where there is none."""
    lines = [line for line in stderr.replace("\r", "\n").splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"(\[rank\d+\]: )?[\w.]*(Error|Exception|Interrupt)\b", line)]
    return (named[:1] or lines[-1:] or ["it said nothing"])[0]


def median(runs: Sequence[Measured]) -> Measured:
    """Returns the medians of several runs of one side."""
    return Measured(
        seconds=statistics.median(run.seconds for run in runs),
        fastest=min(run.fastest for run in runs),
        slowest=max(run.slowest for run in runs),
        units=runs[0].units,
        flops=runs[0].flops,
        peak_mb=statistics.median(run.peak_mb for run in runs),
        idle_mb=statistics.median(run.idle_mb for run in runs),
        device_mb=statistics.median(run.device_mb for run in runs),
        numbers={name: statistics.median(run.numbers[name] for run in runs) for name in runs[0].numbers},
    )


def compare(folders: Sequence[Path], sides: Sequence[str]) -> dict[str, tuple[float, str]]:
    """Returns by how much each side's outcome differs from the first one's, and in what; without two outcomes there is nothing."""
    paths = {side: folder / "outcome.pt" for side, folder in zip(sides, folders, strict=True)}
    found = [side for side, path in paths.items() if path.is_file()]
    if len(found) < 2:
        return {}
    reference = torch.load(paths[found[0]], weights_only=True)
    return {side: difference(torch.load(paths[side], weights_only=True), reference) for side in found[1:]}


def difference(found: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> tuple[float, str]:
    """Returns the largest relative difference of the tensors that both have, and the name of that tensor.

    Of each tensor two differences count: of the Euclidean norms, and of the largest entries. Infinite where there is no common
    tensor, or where shapes differ or a number is not finite.
    """
    common = sorted(found.keys() & reference.keys())
    if not common:
        return math.inf, "everything: they have no tensor in common"
    return max((relative_difference(found[name], reference[name]), name) for name in common)


def relative_difference(found: Tensor, reference: Tensor) -> float:
    """Returns the difference of two tensors relative to the second, as `difference` counts it."""
    if found.shape != reference.shape or not (found.isfinite().all() and reference.isfinite().all()):
        return math.inf
    if torch.equal(found, reference):
        return 0.0
    ours, theirs = found.double(), reference.double()
    sizes = [((ours - theirs).norm(), theirs.norm()), ((ours - theirs).abs().max(), theirs.abs().max())]
    return max(float(apart / scale) if scale else math.inf for apart, scale in sizes)


# ---- the child: one side, alone in its process


def work_alone(case: Case, name: str, folder: Path, *, context: Context, with_outcome: bool) -> None:
    """Does one side and writes what was measured, and its outcome, into `folder`."""
    side = case.sides[name]
    with in_group(side, context) as context:  # noqa: PLR1704
        torch.manual_seed(0)
        work = side.prepare(context)
        gc.collect()
        idle = forget_peak()
        if context.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(context.device)
        if with_outcome and work.outcome is not None:
            outcome = {key: tensor.detach().cpu() for key, tensor in work.outcome().items()}
            if context.rank == 0:
                torch.save(outcome, folder / "outcome.pt")
            del outcome
        for _ in range(case.warmups):
            work.step()
        times = [timed(work, context.device) for _ in range(case.steps)]
        on_device = torch.cuda.max_memory_allocated(context.device) if context.device.type == "cuda" else 0
        found = {
            "times": times, "units": work.units, "flops": work.flops, "peak_mb": peak_bytes() / 1e6, "idle_mb": idle / 1e6,
            "device_mb": on_device / 1e6, "numbers": dict(work.numbers() if work.numbers is not None else {}),
        }  # fmt: skip
        (folder / f"rank-{context.rank}.json").write_text(json.dumps(found), encoding="utf-8")


@contextlib.contextmanager
def in_group(side: Side, context: Context) -> Iterator[Context]:
    """Sets up and ends the process group of a side that several processes do."""
    if side.processes == 1:
        yield context
        return
    torch.distributed.init_process_group("nccl" if context.device.type == "cuda" else "gloo")
    rank = torch.distributed.get_rank()
    device = torch.device("cuda", rank) if context.device.type == "cuda" else context.device
    try:
        yield replace(context, device=device, rank=rank, num_processes=side.processes)
    finally:
        torch.distributed.destroy_process_group()


def timed(work: Work, device: torch.device) -> float:
    """Returns the seconds of one step, to the end of what it started on the device."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def forget_peak() -> int:
    """Lets the system forget how much memory this process held at most; returns what it holds, in bytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def peak_bytes() -> int:
    """Returns the most memory that this process held since `forget_peak`, in bytes."""
    return _status("VmHWM")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


# ---- the page


def report(results: Sequence[Result], chosen: argparse.Namespace, *, waiting: Sequence[Case] = ()) -> str:
    """Returns the page that tells what was measured, and which cases were `waiting` when it was written."""
    lines = ["# Training", "", describe_machine(chosen), ""]
    if waiting:
        lines += [f"The run was ended early. Not measured: {'; '.join(case.title for case in waiting)}.", ""]
    lines += goal_table(results, quick=chosen.quick)
    for result in results:
        lines += ["", f"## {result.case.title}", "", *([result.case.note, ""] if result.case.note else [])]
        lines += side_table(result)
    return "\n".join(lines) + "\n"


def describe_machine(chosen: argparse.Namespace) -> str:
    """Returns what was run where."""
    device = torch.device(chosen.device)
    name = f"{processor()}, {os.cpu_count()} cores, {chosen.threads} threads"
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)} ({name})"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"`make bench-training`, commit {commit()}, {name}, {memory:.0f} GB, torch {torch.__version__}; load average at the end "
        f"{os.getloadavg()[0]:.1f}. Sides of a case are measured in turn, each time in a fresh process; medians. Memory is the "
        f"most the process held during its steps, and in brackets what that is above the process ready to start."
        + (" Quick sizes: the numbers are no result." if chosen.quick else "")
    )


def processor() -> str:
    """Returns the name of the processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


def goal_table(results: Sequence[Result], *, quick: bool) -> list[str]:
    """Returns the rows of all goals, each met, missed, or not measured."""
    lines = ["| work | goal | measured | |", "|---|---|---|---|"]
    for result in results:
        lines += [
            f"| {goal.work} | {goal.says} | {' | '.join(judged(goal, result, quick=quick))} |"
            for goal in result.case.goals
        ]
    return lines


def judged(goal: Goal, result: Result, *, quick: bool) -> tuple[str, str]:
    """Returns the number of a goal, and what is to be said of it."""
    try:
        value = goal.value(result.measured)
    except KeyError as error:
        return "–", f"not measured: {error.args[0]}"
    said = "met" if goal.is_met(value) else "**missed**"
    if result.unequal():
        said = "**not equal**"
    elif quick and goal.full_size:
        said = "(quick)"
    return goal.shows.format(value), said


def side_table(result: Result) -> list[str]:
    """Returns the rows of a case, one a side."""
    case, measured = result.case, result.measured
    extra = list(dict.fromkeys(name for found in measured.values() for name in found.numbers))
    heads = ["", "s a step", "range", f"{case.unit}/s", "memory, MB", "on device, MB", "GFLOP/s", "differs by", *extra]
    rows = []
    for side in case.sides:
        if side in measured:
            found = measured[side]
            differs = result.differences.get(side)
            rows.append([
                side, f"{found.seconds:.3g}", f"{found.fastest:.3g}–{found.slowest:.3g}", f"{found.rate:.3g}",
                f"{found.peak_mb:,.0f} ({found.peak_mb - found.idle_mb:,.0f})",
                f"{found.device_mb:,.0f}" if found.device_mb else "",
                f"{found.flops / found.seconds / 1e9:,.1f}" if found.flops else "",
                "" if differs is None else f"{differs[0]:.0e}",
                *(f"{found.numbers[name]:.3g}" if name in found.numbers else "" for name in extra),
            ])  # fmt: skip
        elif side in result.failures:
            rows.append([side, "failed", *[""] * (len(heads) - 2)])
    kept = [at for at, _ in enumerate(heads) if at == 0 or any(row[at] for row in rows)]
    return [
        "| " + " | ".join(heads[at] for at in kept) + " |",
        "|" + "---|" * len(kept),
        *("| " + " | ".join(row[at] for at in kept) + " |" for row in rows),
    ]


if __name__ == "__main__":
    sys.exit(main())
