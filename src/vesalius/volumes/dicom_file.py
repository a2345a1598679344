"""DICOM files: read without trust in their lengths, and without a word of their content in any message."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from vesalius.errors import InputError

DAMAGED = (
    InvalidDicomError,
    BytesLengthException,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    LookupError,
    AttributeError,
    TypeError,
    ArithmeticError,
    NotImplementedError,
    RuntimeError,
    RecursionError,
    struct.error,
    zlib.error,
)
"""What pydicom raises on bytes that are no DICOM, or not what they say."""

_LARGEST_RATIO = 2**14
"""Bytes of pixels to bytes in the file: no lossless compression of a scan reaches this."""

_LONGEST_START = 2**20
"""Bytes that the elements before the data set proper are sought in."""

_MAGIC = b"DICM"


@contextlib.contextmanager
def silently() -> Iterator[None]:
    """Keeps pydicom's warnings, which quote values, out of every log; values are decoded when they are first asked for."""
    logger = logging.getLogger("pydicom")
    was_disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was_disabled


class _Bounded(io.RawIOBase):
    """A file that gives no more bytes than it has: a length that lies asks for no memory."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._size = self._file.seek(0, 2)
        self._file.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self._file.tell())
        return self._file.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


def is_dicom(path: Path) -> bool:
    """Tells whether a file begins as DICOM does (a preamble of 128 bytes, then DICM).

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(132)[128:] == _MAGIC


def read_dicom(path: Path, *, where: str, tags: Sequence[str] | None = None) -> Dataset | None:
    """Reads a DICOM file, or what `tags` name of it.

    Args:
        path: the file.
        where: what to name in an error; never the path, which may tell who the patient is.
        tags: keywords of the elements to read, of those before the pixels; None for the whole file.

    Returns:
        None for a directory of other files (DICOMDIR).

    Raises:
        InputError: it is damaged, or deflated, or its pixels are asked for and no decoder for them is installed.
    """
    try:
        with silently():
            with _Bounded(path) as file:
                # pydicom would inflate the whole of it, however large, before anything can be asked.
                if DeflatedExplicitVRLittleEndian.encode() in file.read(_LONGEST_START):
                    raise InputError("a deflated DICOM file", where=where, remedy="write it again without deflation")
                file.seek(0)
                dataset = dcmread(
                    file,  # pyright: ignore[reportArgumentType]
                    stop_before_pixels=tags is not None,
                    specific_tags=list(tags) if tags is not None else None,
                )
            if tags is None:
                _check_decoder(dataset, where)
            is_directory = dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage
            return None if is_directory else dataset
    except DAMAGED as error:
        raise damaged_dicom(where, error) from None


def _check_decoder(dataset: Any, where: str) -> None:
    """Refuses pixels that could be decoded, but not with what is installed; others are told when they are read."""
    try:
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    except (NotImplementedError, AttributeError):
        return
    if not decoder.is_available:
        raise InputError(
            f"no decoder is installed for its pixels ({decoder.UID.name})",
            where=where,
            remedy="pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or write it again uncompressed",
        )


def damaged_dicom(where: str, error: Exception) -> InputError:
    """Returns the error to raise where DICOM content could not be used; it does not quote `error`, which may quote values."""
    return InputError(
        f"a damaged or unusual DICOM file ({type(error).__name__})",
        where=where,
        remedy="export it again, or leave it out",
    )


def frame_of(dataset: Dataset, number: int) -> Shaped[np.ndarray, "rows columns"]:
    """Returns the stored values of one frame.

    Args:
        dataset: a whole file.
        number: of the frame, from 0.

    Raises:
        ValueError: the pixels are not all there, or not one number each.
        AttributeError, NotImplementedError, RuntimeError: they are damaged, or compressed in a way that cannot be read.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    bits, frames = int(dataset.BitsAllocated), int(dataset.get("NumberOfFrames", 1) or 1)
    if int(dataset.get("SamplesPerPixel", 1)) != 1 or bits not in {1, 8, 16, 32}:
        raise ValueError("not one number a pixel")
    held = dataset.PixelData
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    num_bits = rows * columns * bits
    if syntax.is_encapsulated:
        if math.ceil(num_bits * frames / 8) > len(held) * _LARGEST_RATIO:
            raise ValueError("more pixels than the file could hold")
        with silently():
            decoded = pixel_array(dataset, index=number)
        return decoded.reshape(rows, columns)
    first, last = number * num_bits, (number + 1) * num_bits
    if not 0 <= number < frames or math.ceil(last / 8) > len(held):
        raise ValueError("pixels are missing")
    if bits == 1:
        piece = np.frombuffer(held[first // 8 : math.ceil(last / 8)], dtype=np.uint8)
        return np.unpackbits(piece, bitorder="little")[first % 8 :][: rows * columns].reshape(rows, columns)
    kind = "i" if int(dataset.get("PixelRepresentation", 0)) else "u"
    dtype = np.dtype(f"{kind}{bits // 8}").newbyteorder("<" if syntax.is_little_endian else ">")
    stored = np.frombuffer(held, dtype=dtype, count=rows * columns, offset=first // 8).reshape(rows, columns)
    return _masked(stored, dataset, bits)


def _masked(stored: Shaped[np.ndarray, "rows columns"], dataset: Any, bits: int) -> Shaped[np.ndarray, "rows columns"]:
    """Clears the bits above those that a value uses; for signed values they repeat the sign."""
    used = int(dataset.get("BitsStored", bits))
    if used == bits or not 0 < used < bits:
        return stored
    shift = bits - used
    return (stored << shift) >> shift
