"""Text files of sources, gzipped or not, read so that a message can name the line."""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vesalius.errors import InputError
from vesalius.folder import temporary_folder, unreadable, writing

MAX_LINE_BYTES = 2**26
"""A line beyond this (64 MiB) is not what these formats hold; so a gzip of one endless line does not fill the memory."""

MAX_EXPANSION = 200
"""A gzip may hold this many times its own bytes, and `FREE_EXPANSION_BYTES` in any case; text comes to some ten times."""

FREE_EXPANSION_BYTES = 2**26

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BROKEN = (EOFError, zlib.error, OSError)
"""What reading a gzip may raise; `gzip.BadGzipFile` is an `OSError`."""


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields line number (from 1) and text of every line, its line end taken off; memory does not grow with the file.

    Raises:
        InputError: the file cannot be read, is empty, is a gzip that is cut off, damaged or beyond `MAX_EXPANSION`, is not UTF-8,
            or holds a line beyond `MAX_LINE_BYTES`.
    """
    number = 0
    try:
        with _opened(path) as file:
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                if len(line) == MAX_LINE_BYTES:
                    raise InputError("a line of 64 MiB", where=f"{path}:{number}", remedy="is this a text file?")
                if number == 1:
                    line = line.removeprefix(_BYTE_ORDER_MARK)
                yield number, _decoded(path, number, line).rstrip("\r\n")
    except _BROKEN as error:
        raise _broken(f"{path}:{number + 1}", path, error) from error
    if number == 0:
        raise _empty(path)


def read_whole(path: Path) -> str:
    """Returns the whole text of a file.

    Raises:
        InputError: as for `read_lines`.
    """
    try:
        with _opened(path) as file:
            content = file.read()
    except _BROKEN as error:
        raise _broken(path, path, error) from error
    if not content.strip():
        raise _empty(path)
    return _decoded(path, 1, content.removeprefix(_BYTE_ORDER_MARK))


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yields a path to the file's bytes without their gzip: `path` itself, or a temporary copy.

    Raises:
        InputError: the file cannot be read, or is a gzip that is cut off, damaged or beyond `MAX_EXPANSION`.
        FolderError: there is no room for the copy.
    """
    if not _is_gzip(path):
        yield path
        return
    with temporary_folder() as folder:
        copy = folder / path.stem
        unpack([path], copy)
        yield copy


def unpack(parts: Sequence[Path], whole: Path) -> None:
    """Writes the bytes of all `parts`, without their gzip, one behind the other to the file `whole`.

    Raises:
        InputError: a part cannot be read, or is a gzip that is cut off, damaged or beyond `MAX_EXPANSION`.
        FolderError: there is no room for `whole`.
    """
    part = whole
    try:
        with writing(whole) as begun, begun.open("wb") as target:
            for part in parts:
                with _opened(part) as file:
                    shutil.copyfileobj(file, target)
    except _BROKEN as error:
        raise _broken(part, part, error) from error


def _opened(path: Path) -> io.BufferedReader:
    return io.BufferedReader(_Gzip(path)) if _is_gzip(path) else path.open("rb")


class _Gzip(io.RawIOBase):
    """What a gzip holds, as long as it is no more than `MAX_EXPANSION` allows: a small file cannot fill memory or disk."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._file = gzip.GzipFile(path)
        self._most = max(FREE_EXPANSION_BYTES, MAX_EXPANSION * path.stat().st_size)
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        given = self._file.readinto(buffer)
        self._given += given
        if self._given > self._most:
            raise InputError(
                f"the gzip expands to more than {self._most // 2**20:,} MiB",
                where=self._path,
                remedy=f"real text shrinks less than {MAX_EXPANSION} times; unpack it first if it is meant",
            )
        return given

    def close(self) -> None:
        self._file.close()
        super().close()


def _is_gzip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == _GZIP_MAGIC
    except OSError as error:
        raise unreadable(path, error) from error


def _broken(where: object, path: Path, error: EOFError | zlib.error | OSError) -> InputError:
    """Returns the error to raise where reading stopped."""
    if isinstance(error, EOFError):
        return InputError("the gzip is cut off", where=where, remedy="download or copy the file again")
    if isinstance(error, zlib.error | gzip.BadGzipFile):
        return InputError(f"the gzip is damaged ({error})", where=where, remedy="download or copy the file again")
    return unreadable(path, error)


def _decoded(path: Path, first_line: int, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + content.count(b"\n", 0, error.start)
        raise InputError(
            f"not UTF-8 (byte 0x{content[error.start]:02x})", where=f"{path}:{line}", remedy="save the file as UTF-8"
        ) from error


def _empty(path: Path) -> InputError:
    return InputError("the file is empty", where=path, remedy="check the path")
