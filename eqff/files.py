"""A new file, or folder, that appears whole or not at all."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from eqff.errors import DataError

FULL = ("No space left on device", "disk is full")  # as HDF5 and SQLite say it


@contextlib.contextmanager
def named(path: str | Path) -> Iterator[None]:
    """What the system refuses while a file is written carries the name of the file, whichever library says it.

    Raises: OSError
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.strerror is not None:
            error.filename = str(path)
        elif error.errno is None and any(text in str(error) for text in FULL):  # HDF5's
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    except Exception as error:
        if any(text in str(error) for text in FULL):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


@contextlib.contextmanager
def new_file(path: str | Path, *, force: bool = False) -> Iterator[Path]:
    """Name of a temporary file beside `path`; synced and renamed to it when the block ends, removed if it fails.

    Args:   force: replace a file that exists
    Raises: DataError EQ3070 if the file exists, EQ3077 if it is a folder, EQ3071 if its folder does not
    """
    path = Path(path)
    if path.exists() and not force:
        raise DataError("EQ3070", f"{path}: the file exists; choose another name, or force (--force) to replace it")
    if path.is_dir():
        raise DataError("EQ3077", f"{path}: is a folder; choose another name")
    if not path.parent.is_dir():
        raise DataError("EQ3071", f"{path}: there is no folder {path.parent}; make it first")
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.part{path.suffix}")
    try:
        with named(path):
            yield temporary
            with open(temporary, "rb+") as written:
                os.fsync(written.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Name of a temporary folder beside `path`, renamed to it when the block ends, removed if it fails.

    Raises: DataError EQ3070 if there is something of that name, EQ3071 if its folder does not exist
    """
    path = Path(path)
    if path.exists() or path.is_symlink():
        raise DataError("EQ3070", f"{path}: exists, and folders are never replaced; choose another name, or remove it")
    if not path.parent.is_dir():
        raise DataError("EQ3071", f"{path}: there is no folder {path.parent}; make it first")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    temporary.mkdir()
    try:
        with named(path):
            yield temporary
            for written in (p for p in temporary.rglob("*") if p.is_file()):
                with open(written, "rb+") as file:
                    os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Make the rename durable, where the system can sync folders."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
