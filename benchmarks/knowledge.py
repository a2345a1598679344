"""How long a graph of full UMLS size takes to build and to open, and in how much memory.

Writes a synthetic Metathesaurus (4.5 million concepts, 16 million names, 0.5 million definitions, 60 million relations at
scale 1; random words at the lengths of real ones) and two tables of 100,000 concepts that are the same by xref and by name, builds
one graph of the three through the command line, then opens it and draws the first 1,000 pairs, each in a process of its own whose
memory is watched. Writing the sources is not counted. The exit code is 1 where a limit is exceeded (`limits`) or a tie was missed.

    make bench-knowledge                          # scales 0.01, 0.1 and 1; table into docs/benchmarks/knowledge.md
    make bench-knowledge ARGS="--scale 0.01"      # for a machine that has little time
"""

# ruff: noqa: S603, T201

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from vesalius.corpus.mixture import MixturePart, MixtureSampler
from vesalius.corpus.pair_table import PairIndex
from vesalius.folder import commit, write_text, writing

CONCEPTS, NAMES, DEFINITIONS, RELATIONS = 4_500_000, 16_000_000, 500_000, 60_000_000

SHARED = 100_000
"""Concepts of each of the two further sources."""

MOST_BUILD_S, MOST_BUILD_MB, MOST_OPEN_S = 1200.0, 8000.0, 5.0
"""At full size, on 2 cores."""

VOCABULARIES = (
    ("MTH", 0), ("FMA", 0), ("SNOMEDCT_US", 9), ("MSH", 0), ("NCI", 0), ("LNC", 0), ("RXNORM", 0), ("NCBI", 0),
    ("ICD10CM", 4), ("ICD10PCS", 0), ("MDR", 3), ("OMIM", 0), ("GO", 0), ("HPO", 0), ("CHV", 0), ("UWDA", 0),
)  # fmt: skip

WORDS = (
    *("left", "right", "anterior", "posterior", "superior", "inferior", "medial", "lateral", "deep", "superficial", "proximal"),
    *("distal", "dorsal", "ventral", "artery", "vein", "nerve", "muscle", "ligament", "tendon", "bone", "joint", "cartilage"),
    *("membrane", "capsule", "branch", "trunk", "root", "plexus", "ganglion", "lobe", "segment", "lobule", "duct", "gland"),
    *("cortex", "medulla", "nucleus", "tract", "layer", "surface", "border", "process", "tubercle", "fossa", "foramen", "canal"),
    *("head", "neck", "body", "tail", "base", "apex", "wall", "cavity", "septum", "valve", "ventricle", "atrium", "kidney"),
    *("liver", "spleen", "lung", "heart", "brain", "stomach", "colon", "bladder", "pancreas", "femur", "tibia", "humerus"),
    *("carcinoma", "disorder", "syndrome", "deficiency", "infection", "injury", "structure", "entire", "region", "area", "zone"),
    *("system", "of", "the", "and", "with", "without", "due", "to", "acute", "chronic", "primary", "secondary"),
)  # fmt: skip

RELA = (
    "isa", "has_part", "part_of", "finding_site_of", "has_finding_site", "associated_with", "adjacent_to", "branch_of", "has_branch",
    "has_associated_morphology", "regional_part_of", "has_regional_part", "constitutional_part_of", "supplies", "supplied_by",
    "has_member", "member_of", "has_method", "method_of", "has_ingredient", "ingredient_of", "mapped_to", "mapped_from", "location_of",
    "has_location", "causative_agent_of", "interprets", "has_component", "component_of", "classified_as", "tributary_of", "drains_into",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One size of the benchmark; memory, the most that the processes held together, in 10⁶ bytes."""

    scale: float
    concepts: int
    names: int
    definitions: int
    relations: int
    metathesaurus_mb: float
    graph_mb: float
    build_s: float
    build_mb: float
    open_s: float
    open_mb: float
    tied_by_xref: int
    tied_by_name: int


def main() -> int:
    """Runs the benchmark and returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--scale", type=float, nargs="+", default=[0.01, 0.1, 1.0], help="sizes to run, 1 is the full UMLS"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/bench-knowledge"), help="folder for data; 30 GB at scale 1"
    )
    parser.add_argument("--memory", default="4GB", help="memory limit given to the build")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--patience", type=float, default=1.0, help="times the seconds allowed, where others use the machine"
    )
    parser.add_argument("--report", type=Path, help="Markdown file to write the table to")
    parser.add_argument("--keep", action="store_true", help="keep the Metathesaurus and the graph")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.open is not None:
        draw_first_pairs(chosen.open)
        return 0
    results = []
    for scale in chosen.scale:
        results.append(measure(scale, chosen.work, memory=chosen.memory, threads=chosen.threads, keep=chosen.keep))
        with (chosen.work / "results.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(results[-1])) + "\n")
        print(json.dumps(asdict(results[-1])), flush=True)
    table = report(results, memory=chosen.memory, threads=chosen.threads)
    print(table)
    if chosen.report is not None:
        chosen.report.parent.mkdir(parents=True, exist_ok=True)
        chosen.report.write_text(table, encoding="utf-8")
    failures = [failure for result in results for failure in exceeded(result, patience=chosen.patience)]
    for failure in failures:
        print(f"exceeded: {failure}", file=sys.stderr)
    return 1 if failures else 0


def limits(scale: float) -> tuple[float, float, float]:
    """Returns the most seconds and MB of a build, and the most seconds to open and draw.

    At full size and beyond what was promised, times the size beyond it; below, in proportion above what a build of nothing may take
    (90 s on a busy machine, 1,500 MB).
    """
    if scale >= 1:
        return MOST_BUILD_S * scale, MOST_BUILD_MB, MOST_OPEN_S
    return 90 + (MOST_BUILD_S - 90) * scale, 1500 + (MOST_BUILD_MB - 1500) * scale, MOST_OPEN_S


def exceeded(measured: Measured, *, patience: float = 1.0) -> list[str]:
    """Returns what was measured beyond its limit (seconds: `patience` times it), and missed ties; nothing where all is well."""
    build_s, build_mb, open_s = limits(measured.scale)
    by_xref, by_name = expected_ties(measured.scale)
    found = []
    for what, value, most in (
        ("build, s", measured.build_s, patience * build_s),
        ("build, MB", measured.build_mb, build_mb),
        ("open and draw, s", measured.open_s, patience * open_s),
    ):
        if value > most:
            found.append(f"scale {measured.scale:g}: {what}: {value:,.1f} of {most:,.1f}")
    if (measured.tied_by_xref, measured.tied_by_name) != (by_xref, by_name):
        tied = f"{measured.tied_by_xref:,} by xref and {measured.tied_by_name:,} by name"
        found.append(f"scale {measured.scale:g}: tied {tied}, not {by_xref:,} and {by_name:,}")
    return found


def measure(scale: float, work: Path, *, memory: str, threads: int, keep: bool) -> Measured:
    """Writes a Metathesaurus of `scale`, builds it and opens the graph."""
    source, graph = work / f"umls-{scale:g}", work / f"graph-{scale:g}"
    write_missing_sources(source, scale)
    build = [
        *(sys.executable, "-c", "import sys; from vesalius.cli import main; sys.exit(main(sys.argv[1:]))", "knowledge"),
        *(
            "build",
            f"umls={source}",
            *(f"table={source / name}.tsv,{source / name}.yaml" for name in SHARING),
            "--out",
            str(graph),
            "--memory",
            memory,
            "--threads",
            str(threads),
        ),
    ]
    print(f"scale {scale:g}: building", flush=True)
    build_s, build_mb = watched(build)
    open_s, open_mb = watched([sys.executable, __file__, "--open", str(graph)])
    counts = [
        duckdb.execute(f"SELECT count(*) FROM '{graph}/{table}.parquet'").fetchall()[0][0]
        for table in ("concepts", "synonyms", "definitions", "relations")
    ]
    merged = json.loads((graph / "manifest.json").read_text(encoding="utf-8"))["merged"]
    measured = Measured(
        scale=scale, concepts=counts[0], names=counts[0] + counts[1], definitions=counts[2], relations=counts[3],
        metathesaurus_mb=_size_mb(source), graph_mb=_size_mb(graph),
        build_s=round(build_s, 1), build_mb=round(build_mb), open_s=round(open_s, 2), open_mb=round(open_mb),
        tied_by_xref=merged["tied_by_xref"], tied_by_name=merged["tied_by_name"],
    )  # fmt: skip
    if not keep:
        shutil.rmtree(source)
        shutil.rmtree(graph)
    return measured


def draw_first_pairs(folder: Path, *, num: int = 1000) -> None:
    """Opens a graph and draws `num` training pairs: definitions, synonyms and relations as often as there are rows of them."""
    began = time.monotonic()
    index = PairIndex(folder)
    sources = tuple(sorted({run.source for run in index.runs}))
    kinds = tuple(sorted({run.kind for run in index.runs}))
    parts = [MixturePart(sources=sources, kinds=(kind,), forms=("published", "sentence")) for kind in kinds]
    drawn = MixtureSampler(index, parts=parts, batch_size=num).draw()
    print(f"{len(drawn)} pairs in {time.monotonic() - began:.2f} s")


def watched(command: list[str]) -> tuple[float, float]:
    """Runs a command and returns its seconds and the most MB that it and its children held together.

    Raises:
        RuntimeError: the command failed.
    """
    began = time.monotonic()
    process = subprocess.Popen(command)
    most = 0.0
    while process.poll() is None:
        most = max(most, _resident_mb(process.pid))
        time.sleep(0.05)
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode}: {' '.join(command)}")
    return time.monotonic() - began, most


def write_missing_sources(folder: Path, scale: float) -> None:
    """Writes what `folder` does not hold whole: of each kind the file that comes last says that it is."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / LAST).is_file():
        print(f"scale {scale:g}: writing the Metathesaurus", flush=True)
        write_metathesaurus(folder, scale)
    if not (folder / LAST_SHARING).is_file():
        write_sharing_sources(folder, scale)


LAST = "MRSAB.RRF"


def write_metathesaurus(folder: Path, scale: float) -> None:
    """Writes MRCONSO, MRDEF, MRREL, MRSTY and, last and whole, MRSAB; the same bytes for the same scale."""
    concepts, names, definitions, relations = (
        max(int(num * scale), 100) for num in (CONCEPTS, NAMES, DEFINITIONS, RELATIONS)
    )
    with duckdb.connect(config={"memory_limit": "3GB", "temp_directory": str(folder / "spilled")}) as connection:
        connection.execute("CREATE TABLE words AS SELECT unnest(?::VARCHAR[]) AS word", [list(WORDS)])
        listed = {
            "words": list(WORDS), "sab": [name for name, _ in VOCABULARIES], "rela": list(RELA),
        }  # fmt: skip
        for name, values in listed.items():
            quoted = ", ".join(f"'{value}'" for value in values)
            connection.execute(
                f"CREATE MACRO pick_{name}(number) AS ([{quoted}])[1 + (number % {len(values)})::INTEGER]"
            )
        text = " || ' ' || ".join(
            f"pick_words(hash(range + {salt}))" for salt in (0, 10**9, 2 * 10**9, 3 * 10**9, 4 * 10**9)
        )
        for table, query in {
            "MRCONSO": (
                "SELECT cui(range % $concepts), 'ENG', CASE WHEN range < $concepts THEN 'P' ELSE 'S' END, "
                "'L' || lpad(range::VARCHAR, 8, '0'), CASE WHEN range % 3 = 0 THEN 'PF' ELSE 'VO' END, "
                "'S' || lpad(range::VARCHAR, 8, '0'), 'Y', 'A' || lpad(range::VARCHAR, 8, '0'), NULL, NULL, NULL, "
                "pick_sab(hash(range)), 'PT', 'D' || lpad(range::VARCHAR, 8, '0'), "
                f"{text} || ' ' || range::VARCHAR || CASE WHEN range % 5 = 0 THEN ' \"' ELSE '' END, '0', 'N', NULL "
                "FROM range($names)"
            ),
            "MRDEF": (
                "SELECT cui(range % $concepts), 'A' || lpad(range::VARCHAR, 8, '0'), 'AT' || lpad(range::VARCHAR, 8, '0'), NULL, "
                f"pick_sab(hash(range)), 'A ' || repeat({text} || ', ', 6) || range::VARCHAR || '.', 'N', NULL FROM range($definitions)"
            ),
            "MRREL": (
                "SELECT cui(one), 'A' || lpad(range::VARCHAR, 8, '0'), 'SCUI', rel, cui(other), 'A' || lpad(range::VARCHAR, 8, '0'), "
                "'SCUI', CASE WHEN rel <> 'CHD' AND range % 3 = 0 THEN NULL WHEN rel = 'CHD' THEN 'isa' "
                "ELSE pick_rela(1 + hash(range + 7) % 31) END, "
                "'R' || lpad(range::VARCHAR, 9, '0'), NULL, pick_sab(hash(range)), 'SNOMEDCT_US', NULL, 'N', 'N', NULL FROM ("
                "SELECT range, CASE WHEN range // $concepts < 2 THEN 'CHD' ELSE 'RO' END AS rel, range % $concepts AS other, "
                "CASE WHEN range // $concepts < 2 THEN hash(range) % (1 + range % $concepts) ELSE hash(range) % $concepts END AS one "
                "FROM range($relations))"
            ),
            "MRSTY": (
                "SELECT cui(range), 'T023', 'A1.2.3.1', 'Body Part, Organ, or Organ Component', "
                "'AT' || lpad(range::VARCHAR, 8, '0'), NULL FROM range($concepts)"
            ),
        }.items():
            connection.execute("CREATE OR REPLACE MACRO cui(number) AS 'C' || lpad(number::VARCHAR, 7, '0')")
            filled = query
            for name, value in {
                "concepts": concepts, "names": names, "definitions": definitions, "relations": relations,
            }.items():  # fmt: skip
                filled = filled.replace(f"${name}", str(value))
            connection.execute(
                f"COPY (SELECT *, NULL AS closing FROM ({filled})) TO '{folder / table}.RRF' "
                "(FORMAT csv, DELIMITER '|', HEADER false, QUOTE '', ESCAPE '')"
            )
    rows = (
        f"C{place:07d}||{name}_2026AA|{name}|Synthetic {name}|{name}|2026AA|||2026AA||||{level}|1|1||PT||ENG|UTF-8|Y|Y|{name}||\n"
        for place, (name, level) in enumerate(VOCABULARIES)
    )
    write_text(folder / LAST, "".join(rows))


SHARING = ("by_xref", "by_name")
LAST_SHARING = "by_name.tsv"
_SPEC = "licence: CC0-1.0\nconcept: {id: id, name: name}\nxrefs: [{target: xref}]\n"


def write_sharing_sources(folder: Path, scale: float) -> None:
    """Writes two tables of concepts that the Metathesaurus has too.

    Those of ``by_xref`` name its id. Of ``by_name`` two of five bear its name, the others name an id of ``by_xref``; that file comes
    last and whole.
    """
    for name in SHARING:
        (folder / f"{name}.yaml").write_text(_SPEC, encoding="utf-8")
    with (
        writing(folder / LAST_SHARING) as begun,  # renamed last
        begun.open("w", encoding="utf-8") as second,
        (folder / "by_xref.tsv").open("w", encoding="utf-8") as first,
        (folder / "MRCONSO.RRF").open(encoding="utf-8") as atoms,
    ):
        first.write("id\tname\txref\n")
        second.write("id\tname\txref\n")
        for number, atom in zip(range(_num_shared(scale)), atoms, strict=False):
            fields = atom.split("|")
            first.write(f"FIRST:{number}\tfirst structure {number}\tUMLS:{fields[0]}\n")
            name, xref = (fields[14], "") if number % 5 in {1, 2} else (f"second structure {number}", f"FIRST:{number}")
            second.write(f"SECOND:{number}\t{name}\t{xref}\n")


def expected_ties(scale: float) -> tuple[int, int]:
    """Returns how many concepts of the two tables become another's by xref and by name."""
    num = _num_shared(scale)
    by_name = sum(number % 5 in {1, 2} for number in range(num))
    return 2 * num - by_name, by_name


def _num_shared(scale: float) -> int:
    return max(int(SHARED * scale), 100)


def report(results: list[Measured], *, memory: str, threads: int) -> str:
    """Returns the table as a Markdown page."""
    rows = [
        f"| {r.scale:g} | {r.concepts:,} | {r.names:,} | {r.definitions:,} | {r.relations:,} | {r.build_s:,.0f} | {r.build_mb:,.0f} "
        f"| {1e6 * r.build_s / (r.names + r.relations):.1f} | {r.graph_mb:,.0f} | {r.open_s:.1f} | {r.open_mb:,.0f} |"
        for r in results
    ]
    return "\n".join([
        "# A graph of full UMLS size",
        "",
        "`make bench-knowledge`: a synthetic Metathesaurus and two tables that share ids and names with it, written first and not",
        f"counted, are built with `vesalius knowledge build umls=… table=… table=… --memory {memory} --threads {threads}`, then opened",
        "by a new process that draws 1,000 pairs. Memory is the most that all processes held together (resident). Seconds",
        "include the start of Python.",
        "",
        "| scale | concepts | names | definitions | relations | build, s | build, MB | µs a row | graph, MB "
        "| open and draw, s | open and draw, MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        f"Commit {commit()}. Machine: {os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}, DuckDB {duckdb.__version__}.",
        "",
    ])  # fmt: skip


def _resident_mb(pid: int) -> float:
    """Returns the resident memory of a process and all below it."""
    children: dict[int, list[int]] = {}
    resident: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "status").read_text()
        except OSError:
            continue
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        children.setdefault(int(fields["PPid"]), []).append(int(entry.name))
        resident[int(entry.name)] = int(fields.get("VmRSS", "0 kB").split()[0]) * 1.024e-3
    total = 0.0
    waiting = [pid]
    while waiting:
        process = waiting.pop()
        total += resident.get(process, 0.0)
        waiting += children.get(process, [])
    return total


def _size_mb(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6)


if __name__ == "__main__":
    sys.exit(main())
