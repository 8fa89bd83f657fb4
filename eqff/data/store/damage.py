"""Errors that h5py raises on files that are cut short or changed, turned into one typed error."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

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
