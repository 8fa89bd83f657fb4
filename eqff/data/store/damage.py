"""What goes wrong with HDF5: files that are cut short or changed, and disks that are full while a file is written."""

import contextlib
import io
import os
from collections.abc import Iterator
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
def written_hdf5(path: Path, mode: str, libver: Any) -> Iterator[tuple[h5py.File, "Disk"]]:
    """A new file that is closed at the end, and what says whether the disk took everything.

    Args:   path; mode: of `Disk`; libver: of h5py.File
    Raises: OSError at the end, for the first error of the system
    """
    with Disk(path, mode) as disk:
        try:
            with h5py.File(disk, "w", libver=libver) as file:
                yield file, disk
        finally:
            disk.check()


class Disk(io.FileIO):
    """A file for h5py.File that remembers the first error of the system and from then on drops what is written.

    HDF5 that has met a full disk crashes when an object is closed or when Python ends, so it must not notice.

    Args:       path; mode: "x+" a new file, "w+" replaces one, "r+" continues one
    Attributes: error
    """

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
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

    For SWMR, which needs HDF5's own access to the disk.  Call it after the first error and before any object of the
    file is closed: HDF5 would try to write again then, and crash.
    """
    if file:  # not closed
        handle = file.id.get_vfd_handle()
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, handle, inheritable=False)
        os.close(nowhere)
        file.close()
