"""Files and folders that appear whole or not at all.

.NAME.<16 hex digits>.part.SUFFIX   a file that is being written, under the lock of NAME.SUFFIX (locks.py)

A process that is killed leaves both behind; the next writer of NAME.SUFFIX removes them, as does `sweep`.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from eqff.errors import DataError
from eqff.locks import UNFINISHED, beside, locked, only_writer, sweep

__all__ = ["UNFINISHED", "locked", "named", "new_file", "new_folder", "scratch_folder", "sweep"]

IN_WORDS = {"No space left on device": errno.ENOSPC, "disk is full": errno.ENOSPC, "disk I/O error": errno.EIO}


@contextlib.contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Within this context, an error of the system names the file that was being written, whichever library raises it.

    Raises: OSError
    """
    try:
        yield
    except Exception as error:
        number = _number(error)
        if number is not None:
            raise OSError(number, os.strerror(number), str(path)) from error
        if isinstance(error, OSError) and error.filename is None and error.strerror is not None:
            error.filename = str(path)
        raise


def _number(error: Exception) -> int | None:
    """The number of the system's error of which HDF5 and SQLite tell only the text."""
    if isinstance(error, OSError) and error.errno is not None:
        return None
    text = str(error)
    if found := re.search(r"\berrno = (\d+)", text):
        return int(found.group(1))
    return next((number for words, number in IN_WORDS.items() if words in text), None)


@contextlib.contextmanager
def new_file(path: str | Path, *, force: bool = False) -> Iterator[Path]:
    """Yield the name of a temporary file beside `path`; sync and rename it at the end, remove it after a failure.

    Args:    path: final name, in a folder that exists; force: replace a file of that name
    Returns: the name to write to, with the suffix of `path`
    Raises:  DataError EQ3070 if the file exists, EQ3071 if its folder does not, EQ3077 if it is a folder;
             ResourceError EQ6131 while another process writes it; OSError if the system refuses to write
    """
    path = Path(path)
    if path.is_dir():
        if not force:
            raise _exists(path)
        raise DataError("EQ3077", f"{path}: is a folder; name a file in it, e.g. {path / 'new.h5'}")
    _check_parent(path)
    with named(path), only_writer(beside(path), path):
        if path.exists() and not force:
            raise _exists(path)
        temporary = path.with_name(f"{_temporary(path.stem)}{path.suffix}")
        try:
            yield temporary
            _sync_file(temporary)
            os.replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; sync and rename it at the end, remove it after a failure.

    Args:    path: final name, which nothing has yet: folders are never replaced
    Returns: the folder to write to
    Raises:  DataError EQ3078 if something of that name exists, EQ3071 if its folder does not;
             ResourceError EQ6131 while another process writes it; OSError if the system refuses to write
    """
    path = Path(path)
    _check_parent(path)
    with named(path), only_writer(beside(path), path):
        if path.exists() or path.is_symlink():
            raise DataError(
                "EQ3078", f"{path}: exists, and folders are never replaced; choose another name, or remove it"
            )
        temporary = path.with_name(_temporary(path.name))
        temporary.mkdir()
        try:
            yield temporary
            for written in (p for p in temporary.rglob("*") if p.is_file()):
                _sync_file(written)
            os.replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` for what is needed while it is written; `sweep` removes it if this process is killed.

    Args: path: locked, see `locked`
    """
    folder = path.with_name(_temporary(path.name))
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exists(path: Path) -> DataError:
    return DataError("EQ3070", f"{path}: the file exists; choose another name, or replace it with --force")


def _temporary(name: str) -> str:
    return f".{name}.{secrets.token_hex(8)}.part"


def _check_parent(path: Path) -> None:
    if not path.parent.is_dir():
        raise DataError("EQ3071", f"{path}: there is no folder {path.parent}; make it first")


def _sync_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the rename durable, where the system can sync folders."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
