"""Sets up `.venv`: PyTorch alone and as a CPU build, then Vesalius with the pins of this Python.

Returns at once when nothing changed. Standard library only, and no syntax newer than Python 3.6, so that an old Python
can read the file and say that it is too old.
"""
# ruff: noqa: S603, T201

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST, NEWEST = (3, 11), (3, 13)
TORCH = "2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# From 25.3 on pip answers a dry run from metadata; before, it downloads the file, half a gigabyte, only to look at it.
PIP, OLDEST_PIP = "26.3", (25, 3)
CUDA = re.compile(r"(nvidia|cuda|cupy|triton|pytorch[-_.]triton)([-_.].*)?", re.IGNORECASE)
UNREACHABLE = re.compile(
    r"NewConnectionError|NameResolutionError|Timeout|timed out|ProxyError|SSLError|ProtocolError|Max retries exceeded"
    r"|Could not fetch URL|Failed to (establish|connect)|[Cc]onnection (refused|reset|aborted|error|broken)"
)
NETWORK_SETTINGS = ("cert", "client-cert", "proxy", "trusted-host", "cache-dir")
OWN_SOURCES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX")


def python_complaint(version, executable="python3"):
    """Returns the line for a Python that is too old or too new, and nothing for one that fits."""
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return ""
    found = f"{executable} is Python {version[0]}.{version[1]}, too {'old' if version[:2] < OLDEST else 'new'}"
    return f"set-up: {found}; Vesalius runs on 3.11, 3.12 and 3.13. Name one of these: PYTHON=python3.12 make demo"


if __name__ == "__main__" and python_complaint(sys.version_info):
    sys.exit(python_complaint(sys.version_info, sys.executable))


class SetUpError(Exception):
    """What stops the set-up, in one line that names the remedy."""


def say(line: str) -> None:
    """Prints one line about what happens now, at once."""
    print(f"set-up: {line}", flush=True)


def constraints_file(root: Path, version: tuple) -> Path:
    """Returns the file with the pins for that Python."""
    return root / "constraints" / f"py{version[0]}{version[1]}.txt"


def is_needed_here(requirement: str, environment: dict) -> bool:
    """Says whether a requirement holds on this platform. Reads only `name == "value" and ...`; in doubt says yes."""
    marker = requirement.partition(";")[2]
    equal = re.findall(r"(\w+)\s*==\s*[\"']([^\"']*)[\"']", marker)
    return " or " in marker or all(name in environment and environment[name] == value for name, value in equal)


def is_cpu_build(report: dict) -> bool:
    """Says whether the file in a pip report is built for the CPU: it says so, or asks for no CUDA package here."""
    metadata, here = report["install"][0]["metadata"], report["environment"]
    local = metadata["version"].partition("+")[2]
    needed = [r for r in metadata.get("requires_dist", []) if is_needed_here(r, here)]
    return local == "cpu" or not (local or any(CUDA.fullmatch(re.match(r"[\w.-]*", r).group()) for r in needed))


def exact_requirement(report: dict) -> str:
    """Returns the requirement that admits only the file a pip report chose: its version and, where known, its hash."""
    chosen = report["install"][0]
    hashes = chosen["download_info"].get("archive_info", {}).get("hashes", {})
    return " ".join([f"torch=={chosen['metadata']['version']}", *(f"--hash={k}:{hashes[k]}" for k in sorted(hashes))])


def forbidden(installed: dict, *, cuda_allowed: bool) -> list:
    """Returns which of the installed packages (name to version) must not be there, sorted."""
    # With this torch, torchvision cannot be imported and takes transformers along.
    wrong = {name for name in installed if name == "torchvision"}
    if not cuda_allowed:
        wrong |= {n for n, version in installed.items() if CUDA.fullmatch(n) or (n == "torch" and "+cu" in version)}
    return [f"{name} {installed[name]}" for name in sorted(wrong)]


class Environment:
    """The virtual environment in a folder, and pip inside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.python = folder, folder / "bin" / "python"
        self.stamp, self.mark = folder / ".set-up.json", folder / ".set-up-unfinished"

    @contextlib.contextmanager
    def being_changed(self):
        """Marks the folder while a command changes it. A command that is killed leaves the mark, one that fails not."""
        self.mark.touch()
        yield
        self.mark.unlink()

    def is_usable(self) -> bool:
        """Says whether it is of this Python, has a pip that starts, and no killed command left it half-made."""
        if self.mark.exists() or not self.python.exists():
            return False
        show = f"import sys, pip; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
        return subprocess.run([self.python, "-c", show], check=False, capture_output=True).returncode == 0

    def make(self) -> None:
        """Makes it anew, inside the same folder."""
        self.folder.mkdir(exist_ok=True)
        base = getattr(sys, "_base_executable", sys.executable)
        with self.being_changed():
            for child in self.folder.iterdir():
                if child.is_dir() and not child.is_symlink():
                    shutil.rmtree(child)
                elif child != self.mark:
                    child.unlink()
            made = subprocess.run([base, "-m", "venv", self.folder], check=False, capture_output=True, encoding="utf-8")
        if made.returncode != 0:
            raise SetUpError(f"{base} -m venv failed: {(made.stdout + made.stderr).strip()}")

    def pip(self, *arguments: str, environ: "dict | None" = None) -> subprocess.CompletedProcess:
        """Runs pip and returns its result, whatever its exit status."""
        command = [self.python, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
        return subprocess.run(command, check=False, cwd=ROOT, env=environ, capture_output=True, encoding="utf-8")

    def find_torch(self, *options: str, environ: "dict | None" = None) -> tuple:
        """Returns pip's report on the torch it would choose (None where it finds none) and pip's words."""
        question = ("install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed", "--report", "-")
        result = self.pip(*question, *options, f"torch=={TORCH}", environ=environ)
        return (json.loads(result.stdout) if result.returncode == 0 else None), result

    def install(self, what: str, *arguments: str, environ: "dict | None" = None) -> None:
        """Installs with pip, or raises SetUpError."""
        with self.being_changed():
            result = self.pip("install", "--quiet", *arguments, environ=environ)
            if result.returncode < 0:
                raise SetUpError(f"pip was stopped by signal {-result.returncode}; the next call makes .venv anew")
        if result.returncode != 0:
            raise failure(result, f"pip could not install {what}")


def failure(result: subprocess.CompletedProcess, otherwise: str) -> SetUpError:
    """Shows pip's errors and returns the one line that sums them up: unreachable sources, or something else."""
    sys.stderr.writelines(line for line in result.stderr.splitlines(keepends=True) if not line.startswith("WARNING"))
    unreachable = "pip cannot reach its sources: check the network, or HTTPS_PROXY and PIP_INDEX_URL"
    return SetUpError(unreachable if UNREACHABLE.search(result.stderr) else otherwise)


def only_index(venv: Environment, index: str) -> dict:
    """Returns variables under which pip asks one index and no other, yet keeps the user's proxy and certificates."""
    environ = {name: value for name, value in os.environ.items() if name not in OWN_SOURCES}
    for line in venv.pip("config", "list").stdout.splitlines():
        setting, _, value = line.partition(".")[2].partition("=")
        if setting in NETWORK_SETTINGS:
            environ.setdefault("PIP_" + setting.replace("-", "_").upper(), value.strip("'\""))
    environ.update(PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL=index)
    return environ


def choose_torch(venv: Environment, torch_index: str) -> tuple:
    """Returns pip's report on the torch to install, and the variables to install it under (None: as pip is set up)."""
    if not torch_index:
        say(f"Asking pip's sources for a CPU build of PyTorch {TORCH}")
        report, result = venv.find_torch()
        if report and is_cpu_build(report):
            return report, None
        if not report and UNREACHABLE.search(result.stderr):
            raise failure(result, "")
    environ = only_index(venv, torch_index or CPU_INDEX)
    shown = re.sub(r"//[^/@]*@", "//", torch_index or CPU_INDEX)
    say(f"Asking {shown} for PyTorch {TORCH}")
    # Once, briefly: behind a firewall nobody should wait for minutes to learn that an index is out of reach.
    report, result = venv.find_torch("--retries", "0", "--timeout", "10", environ=environ)
    if report and (torch_index or is_cpu_build(report)):
        return report, environ
    why = "cannot be reached" if UNREACHABLE.search(result.stderr) else f"offers no PyTorch {TORCH} for this Python"
    if torch_index:
        raise SetUpError(f"TORCH_INDEX={shown} {why}")
    none = f"pip's sources offer no CPU build of PyTorch {TORCH}, and {shown} {why}"
    raise SetUpError(f"{none}. Name an index that has one: make demo TORCH_INDEX=URL")


def install_everything(venv: Environment, torch_index: str, constraints: Path) -> None:
    """Installs torch alone, then the rest with the pins, and makes sure that nothing unwanted came along."""
    old = venv.pip("--version").stdout.split()[1]
    if tuple(int(part) for part in re.findall(r"\d+", old)[:2]) < OLDEST_PIP:
        say(f"Updating pip {old} to {PIP}")
        venv.install(f"pip {PIP}", f"pip=={PIP}")
    report, environ = choose_torch(venv, torch_index)
    kind = "CPU build" if is_cpu_build(report) else "GPU build"
    say(f"Installing PyTorch {report['install'][0]['metadata']['version']} ({kind})")
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder, "torch.txt")
        exact.write_text(exact_requirement(report) + "\n", encoding="utf-8")
        venv.install("PyTorch", "--no-deps", "-r", str(exact), environ=environ)
    say(f"Installing Vesalius and all it needs with the pins of constraints/{constraints.name} (this takes minutes)")
    more = ["--extra-index-url", torch_index] if torch_index else []
    venv.install("Vesalius and what it needs", *more, "-c", str(constraints), "-e", ".[dev]")
    installed = {p["name"]: p["version"] for p in json.loads(venv.pip("list", "--format=json").stdout)}
    unwanted = forbidden(installed, cuda_allowed=bool(torch_index))
    if unwanted:
        raise SetUpError(f"these must not be in .venv: {', '.join(unwanted)}. Start afresh: make clean")


def set_up(venv: Environment, torch_index: str) -> None:
    """Brings `.venv` up to date; does nothing where it already is. Raises SetUpError."""
    constraints = constraints_file(ROOT, sys.version_info)
    before = json.loads(venv.stamp.read_text()) if venv.stamp.exists() and venv.python.exists() else {}
    torch_index = torch_index or before.get("torch_index", "")
    inputs = b"".join(path.read_bytes() for path in (ROOT / "pyproject.toml", constraints, Path(__file__)))
    now = {"python": constraints.stem, "torch_index": torch_index, "inputs": hashlib.sha256(inputs).hexdigest()}
    if now == before:
        return
    try:
        importlib.import_module("venv")
        importlib.import_module("ensurepip")
    except ImportError as error:
        raise SetUpError(f"{sys.executable} lacks {error.name} (Debian, Ubuntu: apt install python3-venv)") from error
    if not venv.is_usable() or before.get("torch_index", torch_index) != torch_index:
        say(f"Making .venv with Python {sys.version.split()[0]}")
        venv.make()
    venv.stamp.unlink(missing_ok=True)
    install_everything(venv, torch_index, constraints)
    new = venv.stamp.with_suffix(".new")
    new.write_text(json.dumps(now) + "\n")
    new.replace(venv.stamp)
    say(".venv is ready")


def main() -> None:
    """Reads the command line; a failed set-up ends with one line and status 1."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch-index", default="", help="the index to take PyTorch from; allows a CUDA build")
    try:
        set_up(Environment(ROOT / ".venv"), parser.parse_args().torch_index)
    except SetUpError as error:
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("set-up: interrupted; the next call repairs .venv")


if __name__ == "__main__":
    main()
