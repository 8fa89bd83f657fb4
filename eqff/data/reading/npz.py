"""Arrays out of npz files that nobody vouches for.  Nothing is ever unpickled.

What an array claims to be is compared with the bytes that are there before any memory is taken, and large arrays are
read in blocks of rows.
"""

import lzma
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from eqff.errors import DataError

# what numpy and zipfile raise on archives that are cut short, changed, or claim impossible sizes
DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, MemoryError, ValueError, KeyError,
    NotImplementedError, RuntimeError, OverflowError, SyntaxError, TypeError,
)  # fmt: skip

MAX_RATIO = 100  # numbers that were measured or computed do not shrink a hundredfold
RATIO_FROM = 2**26  # bytes; smaller arrays may be all zeros
MAX_MEMBERS = 10_000
BLOCK = 2**22  # bytes read at once


def npz_names(path: str | Path) -> list[str]:
    """Names of the arrays in an npz file.

    Raises: DataError EQ3024 no file, EQ3020 not a readable npz archive, EQ3910 two arrays of one name,
            EQ3029 implausibly many members
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except FileNotFoundError:
        raise DataError("EQ3024", f"{path}: no such file; check the name") from None
    except DAMAGE as error:
        raise DataError("EQ3020", f"{path}: not a readable npz archive ({error}); download or write it again") from None
    if len(names) > MAX_MEMBERS:
        raise DataError(
            "EQ3029",
            f"{path}: holds {len(names)} members, no data set has more than {MAX_MEMBERS}; "
            "check that this is the right file",
        )
    if len(set(names)) < len(names):
        raise DataError("EQ3910", f"{path}: two of its arrays have one name; write it again")
    return names


def read_npz(path: str | Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Chosen arrays of an npz file in memory; others are not touched.  Raises: as `open_npz`"""
    return {name: rows.whole() for name, rows in open_npz(path, required, optional).items()}


def open_npz(path: str | Path, required: Sequence[str], optional: Sequence[str] = ()) -> "dict[str, Rows]":
    """Chosen arrays of an npz file, to be read in blocks; others are not touched.

    Raises: DataError EQ3911 damaged, EQ3021 missing key, EQ3022 pickled objects, EQ3930 unpacks to implausibly much
    """
    present = npz_names(path)
    missing = [name for name in required if name not in present]
    if missing:
        raise DataError(
            "EQ3021",
            f"{path}: no array {', '.join(missing)}; choose a format for {', '.join(sorted(present)) or 'no arrays'}",
        )
    return {name: Rows(path, name) for name in (*required, *(o for o in optional if o in present))}


class Rows:
    """An array in an npz file: its shape and dtype are known, its rows are read when they are asked for.

    Raises: DataError EQ3911 damaged or other than it claims, EQ3022 pickled objects, EQ3930 unpacks to implausibly much
    """

    def __init__(self, path: str | Path, name: str) -> None:
        self.path, self.name = path, name
        try:
            with zipfile.ZipFile(path) as archive:
                info = next(i for i in archive.infolist() if i.filename.removesuffix(".npy") == name)
                self._member = info.filename
                self._check_ratio(info)
                with archive.open(info) as stream:
                    self.shape, self._fortran, self.dtype = _header(stream)
                    n_header = stream.tell()
        except DAMAGE as error:
            raise self._damaged(error) from None
        if self.dtype.hasobject:
            raise DataError(
                "EQ3022",
                f"{path}: array {name} holds pickled Python objects, which could run any program when read; "
                "save it again as plain numbers",
            )
        n_bytes = math.prod(self.shape) * self.dtype.itemsize
        if n_bytes != info.file_size - n_header:
            there = f"{info.file_size - n_header} bytes are there"
            raise self._damaged(f"shape {self.shape} of {self.dtype} needs {n_bytes} bytes, {there}")

    def _check_ratio(self, info: zipfile.ZipInfo) -> None:
        """Refuse what would fill the memory with nothing, before it is unpacked."""
        if info.file_size > RATIO_FROM and info.file_size > MAX_RATIO * info.compress_size:
            raise DataError(
                "EQ3930",
                f"{self.path}: array {self.name} unpacks from {info.compress_size} to "
                f"{info.file_size} bytes, which no real data does; if it is meant, save it without compression",
            )

    def _damaged(self, reason: Any) -> DataError:
        return DataError(
            "EQ3911", f"{self.path}: array {self.name} is damaged ({reason}); download or write the file again"
        )

    def whole(self) -> np.ndarray:
        """All of it.  Raises: DataError EQ3911"""
        found = list(self.blocks(self.shape[0] if self.shape else 1))
        return found[0].reshape(self.shape) if found else np.empty(self.shape, self.dtype)

    def blocks(self, n_rows: int) -> Iterator[np.ndarray]:
        """n_rows at a time, in order; the checksum is compared after the last.  Raises: DataError EQ3911"""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._member) as stream:
                _header(stream)
                n_left = self.shape[0] if self.shape else 1
                if self._fortran:
                    n_rows = n_left  # columns are stored one after the other: no row is complete before the end
                row = self.shape[1:]
                while n_left > 0:
                    n_now = min(n_rows, n_left)
                    n_bytes = n_now * math.prod(row) * self.dtype.itemsize
                    content = stream.read(n_bytes)
                    if len(content) < n_bytes:
                        raise EOFError(f"cut short, {n_bytes - len(content)} bytes are missing")
                    values = np.frombuffer(content, self.dtype, count=n_now * math.prod(row))
                    shape = (n_now, *row)
                    yield values.reshape(shape[::-1]).transpose() if self._fortran else values.reshape(shape)
                    n_left -= n_now
                stream.read(1)  # compares the checksum
        except DAMAGE as error:
            raise self._damaged(error) from None


def in_blocks(array: "np.ndarray | Rows", n_rows: int) -> Iterator[np.ndarray]:
    """Rows of an array in memory or in a file, n_rows at a time."""
    if isinstance(array, Rows):
        yield from array.blocks(n_rows)
    else:
        for start in range(0, len(array), n_rows):
            yield array[start : start + n_rows]


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order, dtype of a .npy.  Raises: what numpy raises; ValueError"""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers that Python 2 wrote are read all the same
        shape, fortran, dtype = read(stream)
    if any(n < 0 for n in shape):
        raise ValueError(f"shape {shape}")
    return shape, fortran, dtype


def as_text(value: np.ndarray | None) -> str | None:
    """A 0-d text array, bytes or str, as text; None where there is none or it is empty."""
    if value is None or value.size != 1:
        return None
    item = value.reshape(-1)[0]
    text = item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
    return text.strip() or None
