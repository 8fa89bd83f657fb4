"""What h5py raises on files that are cut short or changed, as one typed error."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from eqff.errors import DataError


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Raises: DataError EQ3072 in place of all that h5py raises."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError, IndexError) as error:
        raise DataError("EQ3072", f"{path}: not HDF5, or damaged ({error}); write it again") from None
