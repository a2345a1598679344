"""NumPy's own files: `.npy`, and `.npz` archives of them. Nothing in them is ever unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from tokenize import TokenError
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy.lib import format as npy_format

from vesalius.errors import InputError
from vesalius.folder import unreadable
from vesalius.volumes.image import damaged
from vesalius.volumes.payload import read_voxels

_READ_HEADER = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def read_npy(path: Path) -> Shaped[np.ndarray, ...]:
    """Reads the array of a `.npy` file.

    Raises:
        InputError: the file is missing, damaged, or holds pickled objects.
    """
    try:
        with path.open("rb") as file:
            return _read_array(file, path)
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, EOFError, OverflowError, SyntaxError, TokenError, TypeError) as error:
        raise damaged(path, error) from error


def read_npz(path: Path, names: Collection[str]) -> dict[str, Shaped[np.ndarray, ...]]:
    """Reads the named arrays of a `.npz` file.

    Args:
        path: the archive.
        names: of the arrays, without `.npy`.

    Raises:
        InputError: the file is missing or damaged, lacks an array, holds pickled objects, or has a member that points
            outside.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            _check_members(members, path)
            missing = [name for name in names if f"{name}.npy" not in members]
            if missing:
                raise InputError(
                    f"no array {', '.join(missing)} in it (it holds {sorted(members)[:8]})",
                    where=path,
                    remedy="check which layout the file is of",
                )
            arrays = {}
            for name in names:
                with archive.open(f"{name}.npy") as file:
                    arrays[name] = _read_array(file, path)
            return arrays
    except OSError as error:
        raise unreadable(path, error) if error.errno is not None else damaged(path, error) from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        OverflowError,
        SyntaxError,
        TokenError,
        TypeError,
        NotImplementedError,  # a compression that zipfile does not know
        RuntimeError,  # an encrypted member
    ) as error:
        raise damaged(path, error) from error


def names_in_npz(path: Path) -> list[str]:
    """Returns the names of the arrays of a `.npz` file, without `.npy`.

    Raises:
        InputError: the file is missing or damaged, or has a member that points outside.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except OSError as error:
        raise unreadable(path, error) if error.errno is not None else damaged(path, error) from error
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
        raise damaged(path, error) from error
    _check_members(members, path)
    return [member.removesuffix(".npy") for member in members]


def _check_members(members: Collection[str], path: Path) -> None:
    for member in members:
        parts = PurePosixPath(member.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or (parts.parts and parts.parts[0].endswith(":")):
            raise InputError(
                f"its member {member!r} points outside", where=path, remedy="do not use this file; get it anew"
            )


def _read_array(file: Any, path: Path) -> Shaped[np.ndarray, ...]:
    read_header = _READ_HEADER.get(npy_format.read_magic(file))
    if read_header is None:
        raise ValueError("a version of the format that holds no plain array")
    shape, first_axis_fastest, dtype = read_header(file)
    if dtype.hasobject:
        raise InputError(
            "a pickled array, which could run any code", where=path, remedy="save it as an array of numbers"
        )
    if not shape:
        raise InputError("one number, not an array", where=path, remedy="save it as an array of numbers")
    if any(size < 0 for size in shape):
        raise ValueError(f"a shape of {shape}")
    if 0 in shape:
        return np.zeros(shape, dtype=dtype)
    return read_voxels(file, dtype, shape) if first_axis_fastest else read_voxels(file, dtype, shape[::-1]).T
