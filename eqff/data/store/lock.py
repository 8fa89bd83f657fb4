"""One writer and any number of readers of a store: who waits for whom."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from eqff.data.store.journal import recover
from eqff.errors import DataError

PATIENCE = 2.0  # seconds to wait for a writer that is just writing a chunk
Result = TypeVar("Result")


def writers_lock(path: Path) -> FileLock:
    """The lock that the writer of a store holds, and nobody else for longer than a moment; it ends with its process."""
    return FileLock(path.with_name(f".{path.name}.lock"), timeout=0)


def is_written(path: Path) -> bool:
    """Whether a process is writing to a store right now."""
    lock = writers_lock(path)
    if not Path(lock.lock_file).exists():
        return False
    try:
        with lock:
            return False
    except Timeout:
        return True
    except OSError:
        return False


def repair(path: Path) -> None:
    """Replay or drop the journal of a writer that died; one that is alive looks after its own."""
    try:
        with writers_lock(path):
            recover(path)
    except Timeout:
        pass
    except OSError:  # a folder that cannot be written: the file is read as it is
        pass


def patiently(path: Path, read: Callable[[], Result]) -> Result:
    """read(), again and again as long as a writer is at work: within milliseconds it is done with its chunk."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return read()
        except DataError as error:
            if error.id != "EQ3072" or time.monotonic() > end or not is_written(path):
                raise
            time.sleep(0.02)
