"""The bytes of the voxels in a file: read piece by piece, so that a header that lies cannot ask for memory the file does not fill."""

from __future__ import annotations

import bz2
import gzip
import math
import zlib
from collections.abc import Sequence
from typing import IO, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

_FIRST_PIECE, _LAST_PIECE = 2**16, 2**24
"""Bytes asked for at once: as many as have come already, between these bounds, because a read sets them aside beforehand."""


@runtime_checkable
class Stream(Protocol):
    """What bytes are read from, forwards."""

    def read(self, num_bytes: int, /) -> bytes:
        """Returns up to `num_bytes`; none at the end."""
        ...


def read_voxels(stream: Stream, dtype: np.dtype, shape: Sequence[int]) -> Shaped[np.ndarray, ...]:
    """Reads an array whose first axis runs fastest.

    Args:
        stream: at the first voxel.
        dtype: of a voxel, with its byte order.
        shape: of the array.

    Raises:
        ValueError: an axis holds no voxel, or the stream ends before the array does.
        EOFError, zlib.error, OSError: it is compressed, and damaged.
    """
    if not shape or any(size < 1 for size in shape):
        raise ValueError(f"a grid of shape {tuple(shape)} holds no voxel")
    buffer = read_exactly(stream, math.prod(int(size) for size in shape) * dtype.itemsize)
    return np.frombuffer(buffer, dtype=dtype).reshape(tuple(int(size) for size in shape), order="F")


def read_exactly(stream: Stream, num_bytes: int) -> bytearray:
    """Reads `num_bytes`; the memory taken never exceeds what the stream gave by more than a piece.

    Raises:
        ValueError: the stream ends before, or `num_bytes` is negative.
        EOFError, zlib.error, OSError: it is compressed, and damaged.
    """
    if num_bytes < 0:
        raise ValueError(f"{num_bytes} bytes are asked for")
    buffer = bytearray()
    while len(buffer) < num_bytes:
        piece = stream.read(min(_piece(len(buffer)), num_bytes - len(buffer)))
        if not piece:
            raise ValueError(f"the header promises {num_bytes} bytes, {len(buffer)} are there")
        buffer += piece
    return buffer


def skip(stream: Stream, num_bytes: int) -> None:
    """Reads `num_bytes` and forgets them.

    Raises:
        ValueError: the stream ends before, or `num_bytes` is negative.
        EOFError, zlib.error, OSError: it is compressed, and damaged.
    """
    if num_bytes < 0:
        raise ValueError(f"{num_bytes} bytes are to be skipped")
    num_skipped = 0
    while num_skipped < num_bytes:
        piece = stream.read(min(_piece(num_skipped), num_bytes - num_skipped))
        if not piece:
            raise ValueError("the voxels lie behind the end of the file")
        num_skipped += len(piece)


def decompressed(stream: IO[bytes]) -> Stream:
    """Returns what a gzip stream holds, or the stream itself: by its first bytes, whatever the file is called."""
    start = stream.read(2)
    stream.seek(-len(start), 1)
    return gzip.GzipFile(fileobj=stream) if start == b"\x1f\x8b" else stream


def bunzipped(stream: IO[bytes]) -> Stream:
    """Returns what a bzip2 stream holds."""
    return bz2.BZ2File(stream)


class Inflated:
    """What a zlib stream holds, read forwards only."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._inflater = zlib.decompressobj()

    def read(self, num_bytes: int) -> bytes:
        """Returns up to `num_bytes`; none at the end.

        Raises:
            zlib.error: it is damaged.
        """
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._stream.read(2**16)
            if not packed:
                return b""
            piece = self._inflater.decompress(packed, num_bytes)
            if piece:
                return piece
        return b""


def check_end(stream: Stream) -> None:
    """Reads one piece on, so that the checksum behind the last voxel of a gzip stream is compared.

    Raises:
        EOFError, zlib.error, OSError: it is damaged.
    """
    stream.read(_FIRST_PIECE)


def _piece(num_read: int) -> int:
    return max(_FIRST_PIECE, min(_LAST_PIECE, num_read))
