"""What goes wrong with HDF5: files that are cut short or changed, and disks that are full while a file is written."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py

from eqff.errors import DataError


@contextlib.contextmanager
def hdf5_errors(path: Path) -> Iterator[None]:
    """Replace whatever h5py raises on a damaged file.

    Args:   path: named in the message
    Raises: DataError EQ3072
    """
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError, IndexError) as error:
        raise DataError("EQ3072", f"{path}: not HDF5, or damaged ({error}); write or download it again") from None


@contextlib.contextmanager
def written_hdf5(path: Path, **options: Any) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """A new file, closed at the end.

    HDF5 that has met a full disk crashes when Python ends, so it is not told: what it writes after an error of the
    system is dropped, and the error is raised when this context ends, or by the function that comes with the file.

    Args:   path; options: of h5py.File
    Raises: OSError
    """
    with _Disk(path) as disk:
        try:
            with h5py.File(disk, "w", **options) as file:
                yield file, disk.check
        finally:
            disk.check()


class _Disk(io.FileIO):
    """A file that remembers its first error and then takes everything."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "x+")
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        rest = memoryview(content).cast("B")
        n_bytes = len(rest)
        try:
            while len(rest) and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return n_bytes

    def truncate(self, size: int | None = None) -> int:
        try:
            if self.error is None:
                return super().truncate(size)
        except OSError as error:
            self.error = error
        return size or 0

    def check(self) -> None:
        """Raises: OSError, the first"""
        if self.error is not None:
            raise self.error


def abandon(file: h5py.File) -> None:
    """Close a file that cannot be written any more: what HDF5 still wants to write goes nowhere.

    HDF5 keeps what it could not write and tries again whenever a part of the file is closed, at last when Python ends,
    where the failure is a segmentation fault.
    """
    with contextlib.suppress(Exception):
        handle = file.id.get_vfd_handle()
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, handle, inheritable=False)
        os.close(nowhere)
        file.close()
