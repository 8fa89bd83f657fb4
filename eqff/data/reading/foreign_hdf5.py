"""HDF5 files of other programs, opened with care.

A link may lead to another file, a virtual or external data set may read one, and a filter may load a library: all of
these are refused.  Sizes are compared with what the file can hold before anything is read.
"""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from eqff.data import hdf5_guard
from eqff.errors import DataError

# what h5py raises on files that are cut short or changed
DAMAGE = (
    OSError,
    KeyError,
    RuntimeError,
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
    AttributeError,
    IndexError,
)
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF,
           h5py.h5z.FILTER_SZIP, h5py.h5z.FILTER_NBIT, h5py.h5z.FILTER_SCALEOFFSET}  # fmt: skip
MAX_RATIO = 1000  # deflate reaches 1032 on zeros
RATIO_FROM = 2**26  # bytes
BLOCK = 2**22  # bytes read at once
SIGNATURE = b"\x89HDF\r\n\x1a\n"


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[h5py.File]:
    """The file, for reading.

    Raises: DataError EQ3024 no file, EQ3220 not HDF5 or damaged, here or while in use; as `hdf5_guard.check`
    """
    if not Path(path).is_file():
        raise DataError("EQ3024", f"{path}: no such file; check the name")
    hdf5_guard.check(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DAMAGE as error:
        raise DataError("EQ3220", f"{path}: not HDF5, or damaged ({error}); get it or write it again") from None


def is_hdf5(path: str | Path) -> bool:
    """By its first bytes."""
    with open(path, "rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def groups(parent: h5py.Group) -> Iterator[tuple[str, h5py.Group]]:
    """Groups directly below, in the order of the file.  Raises: DataError EQ3221 for a link out of the file"""
    for name in parent:
        member = _member(parent, name)
        if isinstance(member, h5py.Group):
            yield name, member


def first_group(parent: h5py.Group) -> h5py.Group | None:
    """The first group whose name does not begin with an underscore."""
    return next((group for name, group in groups(parent) if not name.startswith("_")), None)


def names_in_groups(path: str | Path) -> list[set[str]]:
    """Names in the first group of a file, and in the first group of that; [] if it is not HDF5, or damaged."""
    found: list[set[str]] = []
    if not is_hdf5(path):
        return found
    try:
        with opened(path) as file:
            group = first_group(file)
            while group is not None and len(found) < 2:  # a group may contain itself
                found.append(set(group))
                group = first_group(group)
    except DataError as error:
        if error.id == "EQ3511":
            raise
        return []
    return found


def array(group: h5py.Group, name: str, kinds: str = "iuf") -> h5py.Dataset | None:
    """A data set that may be read, of numbers (or other kinds of dtype); None where there is none of that name.

    Raises: DataError EQ3947 it lies in another file, EQ3222 it needs a foreign filter, EQ3223 it is implausibly large,
            EQ3928 it is no array, EQ3929 its dtype
    """
    if name not in group:
        return None
    where = f"{group.file.filename}: {group.name}/{name}"
    found = _member(group, name)
    if not isinstance(found, h5py.Dataset):
        raise DataError("EQ3928", f"{where} is no array; store the numbers as one")
    if found.is_virtual or found.external:
        raise DataError(
            "EQ3947", f"{where} takes its numbers from another file, which is refused; copy them into one file"
        )
    properties = found.id.get_create_plist()
    for k in range(properties.get_nfilters()):
        if properties.get_filter(k)[0] not in FILTERS:
            name_of_filter = properties.get_filter(k)[3].decode("utf-8", "replace")
            raise DataError("EQ3222", f"{where} needs the filter {name_of_filter!r}; write it again with gzip")
    n_bytes, n_stored = math.prod(found.shape or (0,)) * found.dtype.itemsize, found.id.get_storage_size()
    if n_bytes > RATIO_FROM and n_bytes > MAX_RATIO * n_stored:
        raise DataError("EQ3223", f"{where} claims {n_bytes} bytes, but {n_stored} are stored; get the file again")
    if found.dtype.kind not in kinds:
        raise DataError(
            "EQ3929",
            f"{where} has dtype {found.dtype}, expected {'numbers' if kinds == 'iuf' else 'text'}; "
            "write the array again",
        )
    return found


def expect(dataset: h5py.Dataset | None, shapes: tuple[tuple[int, ...], ...]) -> None:
    """That an array, where there is one, has one of these shapes.  Raises: DataError EQ3023"""
    if dataset is not None and dataset.shape not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise DataError(
            "EQ3023",
            f"{dataset.file.filename}: {dataset.name} has shape {dataset.shape}, expected {wanted}; "
            "write the array again",
        )


def row_blocks(*datasets: h5py.Dataset | None) -> Iterator[tuple[Any, ...]]:
    """The same rows of several arrays, a few megabytes at a time, floats as float64; None stays None."""
    given = [dataset for dataset in datasets if dataset is not None]
    n_rows = given[0].shape[0]
    widest = max(max(1, math.prod(dataset.shape[1:])) for dataset in given)
    step = max(1, BLOCK // (8 * widest))
    for start in range(0, n_rows, step):
        yield tuple(
            None if dataset is None else _as_numbers(dataset[start : min(start + step, n_rows)]) for dataset in datasets
        )


def _as_numbers(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64 if values.dtype.kind == "f" else np.int64)


def _member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | h5py.Datatype:
    if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
        raise DataError(
            "EQ3221",
            f"{group.file.filename}: {name} is a link to another file, which is refused; copy it into one file",
        )
    return group[name]
