"""The command line: it reads arguments, calls one function, and says in one line what a user did wrong. No logic.

One module a group of commands; each holds its commands in a dict `COMMANDS`.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from inspect import signature
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from vesalius.cli import eval as evaluation
from vesalius.cli import knowledge, train, volumes
from vesalius.cli.convert import convert
from vesalius.cli.demo import demo
from vesalius.cli.embed import embed
from vesalius.errors import StoppedError, VesaliusError
from vesalius.folder import UNWRITABLE, version

EXIT_USAGE = 2
EXIT_STOPPED = 75
EXIT_INTERRUPTED = 130

_EXTRAS = {
    "pyhornedowl": "knowledge", "blosc2": "formats", "pydicom": "formats", "onnx": "export", "onnxruntime": "export",
    "onnxscript": "export", "dask": "cluster", "distributed": "cluster", "s3fs": "cloud", "gcsfs": "cloud",
}  # fmt: skip
"""Module → the extra that brings it, where it is not the demo's."""

_DESCRIPTION = """Teaches a text encoder human anatomy. Research software, not a medical device.

Exit codes: 0 done; 2 something for you to put right, said in one line; 75 training stopped by SIGTERM or SIGUSR1 after a checkpoint,
the same command goes on; 130 interrupted by Ctrl-C, the same command goes on."""

_SURROUNDINGS = UNWRITABLE | {errno.EACCES, errno.EPERM}
"""No right or no room: never a defect of ours, wherever it comes up."""

_METAVARS: dict[Any, str] = {Path: "PATH", str: "STR", int: "INT", float: "FLOAT"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 for what the user can put right, 75 for a stop signal, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"vesalius {version()}")
        return 0
    _quieten()
    try:
        tyro.cli(
            _COMMANDS,
            prog="vesalius",
            description=_DESCRIPTION,
            args=arguments or ["--help"],
            config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    except VesaliusError as error:
        if not error.is_told:
            print(f"vesalius: {error}", file=sys.stderr)
        return EXIT_STOPPED if isinstance(error, StoppedError) else EXIT_USAGE
    except OSError as error:
        if error.errno not in _SURROUNDINGS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"vesalius: {where}{error.strerror} – make room there, or check your rights", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("\ninterrupted; give the same command again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("vesalius"):
            raise
        extra = _EXTRAS.get((error.name or "").partition(".")[0], "demo")
        print(f"vesalius: {error.name} is not installed – pip install 'vesalius[{extra}]'", file=sys.stderr)
        return EXIT_USAGE
    return 0


def _quieten() -> None:
    """Keeps other libraries' progress bars and notes off the terminal; ours are enough."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)


def _readable(command: Callable[..., None]) -> Callable[..., None]:
    """Lets help say ``--config PATH`` and no default where a parameter may be left out, for ``{None}|PATH (default: None)``."""
    hints = get_type_hints(command, include_extras=True)
    for name, hint in hints.items():
        if name == "return":
            continue
        members = get_args(hint)
        if get_origin(hint) in {Union, UnionType} and type(None) in members:
            (kind,) = (member for member in members if member is not type(None))
            metavar = "{" + ",".join(get_args(kind)) + "}" if get_origin(kind) is Literal else _METAVARS.get(kind)
            hints[name] = Annotated[hint, tyro.conf.arg(metavar=metavar, help_behavior_hint="")]
        elif hint is bool or signature(command).parameters[name].default == ():
            hints[name] = Annotated[hint, tyro.conf.arg(help_behavior_hint="")]
    command.__annotations__ = hints
    return command


def _group(name: str, description: str, commands: dict[str, Callable[..., None]]) -> Any:
    choices = Union[  # noqa: UP007  built at run time
        tuple(
            Annotated[Any, tyro.conf.subcommand(name=command, constructor=_readable(function))]
            for command, function in commands.items()
        )
    ]

    chosen = make_dataclass(name.title(), [("command", choices)])
    return Annotated[Any, tyro.conf.subcommand(name=name, constructor=chosen, description=description)]


_COMMANDS: Any = Union[  # noqa: UP007  some members are built at run time
    Annotated[Any, tyro.conf.subcommand(name="demo", constructor=_readable(demo))],
    _group("knowledge", "Anatomy in words: build a graph, look things up.", knowledge.COMMANDS),
    _group("volumes", "Anatomy in voxels: prepare cases.", volumes.COMMANDS),
    _group("train", "Teach an encoder.", train.COMMANDS),
    _group("eval", "Measure an encoder.", evaluation.COMMANDS),
    Annotated[Any, tyro.conf.subcommand(name="convert", constructor=convert)],
    Annotated[Any, tyro.conf.subcommand(name="embed", constructor=embed)],
]
