"""Folders on disk: written whole or not at all, each with a ``manifest.json``. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from vesalius.errors import FolderError, InputError, SettingError

MANIFEST = "manifest.json"

UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""What the system says where nothing more can be written: only these tell that writing failed, not something else."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where something came from and on what terms.

    Attributes:
        name: short name of the source, e.g. ``uberon``.
        version: release of the source, or of the package that carries it.
        licence: SPDX expression, or a short statement of the terms.
        attribution: the sentence the licence asks for.
        sha256: file name → SHA-256 of the bytes read.
    """

    name: str
    version: str
    licence: str
    attribution: str
    sha256: Mapping[str, str] = field(default_factory=dict)


def write_manifest(
    folder: Path,
    *,
    kind: str,
    schema: int,
    origins: Sequence[Origin] = (),
    inputs: Mapping[str, str] | None = None,
    seed: int | None = None,
    details: Mapping[str, Any] | None = None,
    name: str = MANIFEST,
) -> None:
    """Writes ``manifest.json``: tool version, inputs with hashes, seed, licence of every source.

    Args:
        folder: an existing folder.
        kind: what the folder is: ``graph``, ``cases``, ``run``.
        schema: version of the folder's layout; a reader refuses another.
        origins: the sources whose content is inside.
        inputs: name → hash of each Vesalius folder that was read.
        seed: seed of every random choice, where there was one.
        details: anything else worth recording.
        name: of the file, where it is brought to its place from elsewhere.
    """
    manifest = {
        "kind": kind,
        "schema": schema,
        "vesalius": version(),
        "commit": commit(),
        "python": platform.python_version(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "inputs": dict(inputs or {}),
        "sources": [asdict(origin) for origin in origins],
        **(details or {}),
    }
    write_text(folder / name, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def read_manifest(folder: Path, *, kind: str, schema: int) -> dict[str, Any]:
    """Reads ``manifest.json`` of a folder of the given kind and schema.

    Raises:
        FolderError: it is missing, damaged, of another kind, or of another schema.
        InputError: it cannot be read.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FolderError(
            f"no {kind} folder here (no {MANIFEST})", where=folder, remedy="check the path, or build it first"
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise FolderError(f"damaged manifest ({error})", where=path, remedy="build the folder again") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        found = manifest.get("kind") if isinstance(manifest, dict) else type(manifest).__name__
        raise FolderError(
            f"this is a folder of kind {found!r}, not {kind!r}", where=folder, remedy=f"give a {kind} folder"
        )
    if manifest.get("schema") != schema:
        raise FolderError(
            f"schema {manifest.get('schema')}, but this version reads schema {schema}",
            where=folder,
            remedy="build it again",
        )
    return manifest


def refuse_to_replace(folder: Path, *, kind: str) -> None:
    """Refuses to write where anything but an earlier folder of `kind` (of any schema) or an empty folder lies.

    Raises:
        SettingError: something else lies there.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        raise SettingError(
            f"exists and is no earlier {kind}", where=folder, remedy="give a folder that is not there yet"
        )


def origins_of(manifest: Mapping[str, Any]) -> list[Origin]:
    """Returns the sources a manifest names."""
    return [Origin(**source) for source in manifest["sources"]]


def version() -> str:
    """Returns the installed version of Vesalius."""
    return metadata.version("vesalius")


def commit() -> str | None:
    """Returns the commit of the checkout the package runs from, with ``+`` where files differ; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    git = ["git", "-C", str(root)]
    head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    if head.returncode != 0:
        return None
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    return head.stdout.strip() + ("+" if changed.strip() else "")


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def sha256_of_folder(folder: Path) -> str:
    """Returns one SHA-256 over the names and bytes of all files below `folder`, its manifest left out (it holds the date)."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()


def unreadable(path: Path, error: OSError) -> InputError:
    """Returns the error to raise where `path` could not be read."""
    return InputError(error.strerror or type(error).__name__, where=path, remedy="check the path and its permissions")


def unwritable(path: Path | str, reason: object) -> FolderError:
    """Returns the error to raise where `path` could not be written; `reason` is the system's error, or what it says."""
    told = (reason.strerror if isinstance(reason, OSError) else None) or str(reason) or type(reason).__name__
    return FolderError(f"cannot be written ({told})", where=path, remedy="make room there, or check your rights")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write a file to; renames it to `path` at the end, removes it on an error.

    Raises:
        FolderError: there is no room for it, or no right to write there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        is_folder = isinstance(error, IsADirectoryError) and error.filename2 == str(path)
        if error.errno in UNWRITABLE or is_folder:
            raise unwritable(path, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Yields an empty temporary folder beside `path`; at the end it takes the place of `path`, on an error it is removed.

    A killed process leaves either the old folder or the new one (or, between two renames, the old one under a hidden name).

    Raises:
        FolderError: there is no room for it, or no right to write there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            path.rename(retired / path.name)
            temporary.rename(path)
            shutil.rmtree(retired)
        else:
            temporary.rename(path)
    except OSError as error:
        if error.errno in UNWRITABLE:
            raise unwritable(path, error) from error
        raise
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yields an empty folder where the system keeps temporary files; it is removed at the end.

    Raises:
        FolderError: there is no room for it, or no right to write there.
    """
    try:
        folder = tempfile.TemporaryDirectory()
    except OSError as error:
        raise unwritable(error.filename or "the folder for temporary files", error) from error
    with folder as name:
        yield Path(name)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path` in UTF-8, whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
