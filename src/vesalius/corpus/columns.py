"""Columns on disk that are read a row at a time: nothing of them is held."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.errors import FolderError

_OFFSET = np.dtype("<u8")


class NumberColumn:
    """Numbers of one type, or records of several, one a row.

    Args:
        path: a file of nothing but rows.
        dtype: type of a row, little-endian.

    Raises:
        FolderError: the file is missing, or its size is no whole number of rows.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise FolderError("missing column", where=path, remedy="build the graph again") from error
        num_bytes = os.fstat(self._file.fileno()).st_size
        if num_bytes % dtype.itemsize:
            raise FolderError(f"{num_bytes} bytes are no whole number of rows", where=path, remedy="build it again")
        self._path = path
        self._num = num_bytes // dtype.itemsize

    def __len__(self) -> int:
        return self._num

    def rows(self, first: int, last: int) -> np.ndarray:
        """Returns rows `first` up to `last`, which is left out."""
        assert 0 <= first <= last <= self._num, (first, last, self._num)
        size = self._dtype.itemsize
        return np.frombuffer(_read(self._file.fileno(), first * size, (last - first) * size, self._path), self._dtype)


class TextColumn:
    """Texts, one a row: a file of UTF-8 and a file of where each begins."""

    def __init__(self, path: Path) -> None:
        self._offsets = NumberColumn(path.with_suffix(".offsets"), _OFFSET)
        self._texts = NumberColumn(path.with_suffix(".texts"), np.dtype("u1"))
        if len(self._offsets) == 0 or int(self._offsets.rows(len(self._offsets) - 1, len(self._offsets))[0]) != len(
            self._texts
        ):
            raise FolderError("texts and offsets do not belong together", where=path, remedy="build the graph again")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> str:
        first, last = (int(offset) for offset in self._offsets.rows(row, row + 2))
        return self._texts.rows(first, last).tobytes().decode()


def write_texts(path: Path, texts: Iterable[str]) -> int:
    """Writes a text column and returns its number of rows."""
    num_rows = place = 0
    with path.with_suffix(".texts").open("wb") as file, path.with_suffix(".offsets").open("wb") as offsets:
        offsets.write(_OFFSET.type(0).tobytes())
        for text in texts:
            place += file.write(text.encode())
            offsets.write(place.to_bytes(_OFFSET.itemsize, "little"))
            num_rows += 1
    return num_rows


def _read(handle: int, offset: int, num_bytes: int, path: Path) -> bytes:
    read = os.pread(handle, num_bytes, offset)
    if len(read) != num_bytes:  # a read may stop early on a signal or beyond 2 GiB, but rows are small
        raise FolderError(f"ends at byte {offset + len(read)}", where=path, remedy="build the graph again")
    return read
