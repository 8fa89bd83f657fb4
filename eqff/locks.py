"""One writer at a time: a second process that would write the same output is refused, and what killed ones left goes.

    .NAME.lock beside the output NAME; .lock inside a folder that exists
    content: "eqff <process id> <host>" of the holder

The system frees the lock of a process that dies, however it dies.  A writer that ends removes the file; a file that is
there and free is therefore from a writer that was killed, and what it was writing may be removed.
"""

import contextlib
import errno
import math
import os
import re
import shutil
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from eqff.errors import ConfigError, ResourceError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

UNFINISHED = ".*.part*"  # glob pattern of what killed processes leave behind
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)  # some network file systems
OURS = b"eqff "
BESIDE = r"(-journal|\.lock)?"  # what SQLite and ASE put beside a file that they write
PAUSE = 0.05  # s, between two looks at a lock that another process holds
PATIENCE = 0.3  # s, before a refusal: `sweep` of another process takes free locks for a moment
_thread = threading.local()  # .held: locks of this thread, which may ask for them again


@contextlib.contextmanager
def locked(path: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Within this context no other process writes `path`; what killed processes left beside it is removed first.

    A thread that holds a lock may ask for it again.

    Args:   path: a file, or a folder; its parent folder exists; wait: for the other process, instead of refusing
    Raises: ResourceError EQ6131 while another process holds the lock; ConfigError EQ1801 if a file of another program
            has the name of the lock; OSError if the system refuses to write
    """
    path = Path(path)
    lock = path / ".lock" if path.is_dir() else beside(path)
    with only_writer(lock, path, wait=wait):
        yield


@contextlib.contextmanager
def locked_in_new_folder(path: str | Path) -> Iterator[None]:
    """`locked` for a file whose folder is made if it is missing, and removed again if an error leaves it empty."""
    folder = Path(path).parent
    with made(folder), locked(path):
        yield


@contextlib.contextmanager
def made(folder: Path) -> Iterator[None]:
    """Make a folder if it is missing; remove it again if this context fails and has left it empty."""
    existed = folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if not existed:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        raise


def beside(path: Path) -> Path:
    """The lock of a file, or of a folder that is about to be made."""
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def only_writer(lock: Path, output: Path, *, wait: bool = False) -> Iterator[None]:
    """`locked` with the name of the lock; output: for messages."""
    held: set[Path] = _thread.__dict__.setdefault("held", set())
    key = lock.parent.resolve() / lock.name
    if key in held:
        yield
        return
    with _taken_on_windows(lock, output, wait) if fcntl is None else _taken(lock, output, wait):
        if not held:  # at the start of a task
            sweep(lock.parent)
        held.add(key)
        try:
            yield
        finally:
            held.discard(key)


def sweep(folder: Path) -> None:
    """Remove locks and unfinished files of processes that were killed; what a living process writes stays."""
    if fcntl is None:
        return
    for lock in folder.glob(".*.lock"):
        with contextlib.suppress(OSError):
            handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if os.pread(handle, len(OURS), 0) == OURS:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if _is_in_place(handle, lock):
                        _remove_unfinished(lock)
                        os.unlink(lock)
            finally:
                os.close(handle)


@contextlib.contextmanager
def _taken(lock: Path, output: Path, wait: bool) -> Iterator[None]:
    until = math.inf if wait else time.monotonic() + PATIENCE
    while (handle := _try(lock, output)) is None:
        if time.monotonic() > until:
            raise _refusal(output, _holder(lock))
        time.sleep(PAUSE)
    try:
        yield
    finally:
        try:
            with contextlib.suppress(OSError):
                if _is_in_place(handle, lock):
                    os.unlink(lock)
                fcntl.flock(handle, fcntl.LOCK_UN)  # now, also if a child process has inherited the handle
        finally:
            os.close(handle)


def _try(lock: Path, output: Path) -> int | None:
    """The handle of the lock, or None if another process has it.  Raises: as `locked`"""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        error.filename = str(output)
        raise
    try:
        exists = _lock(handle, lock.parent)
        if _is_in_place(handle, lock):
            content = os.pread(handle, len(OURS), 0)
            if content not in (b"", OURS):
                raise ConfigError("EQ1801", f"{lock}: is no lock of eqff; move it, or choose another output")
            if content and exists:
                _remove_unfinished(lock)
            with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
                os.ftruncate(handle, 0)
                os.pwrite(handle, OURS + f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
            return handle
    except BlockingIOError:
        os.close(handle)
        return None
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _lock(handle: int, folder: Path) -> bool:
    """Lock the file; False if the file system has no locks.  Raises: BlockingIOError if another process has it"""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(
            f"{folder}: this file system has no locks, so a second process that writes the same output is not "
            "noticed; start only one",
            UserWarning,
            stacklevel=2,
        )
        return False
    return True


def _is_in_place(handle: int, lock: Path) -> bool:
    """Whether the file behind the handle still has its name: its last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(lock))
    except FileNotFoundError:
        return False


def _refusal(output: Path, holder: str) -> ResourceError:
    return ResourceError("EQ6131", f"{output}: {holder} writes there; wait until it is done, or stop it")


def _holder(lock: Path) -> str:
    """Who holds the lock, in words."""
    try:
        _, process, host = lock.read_text(encoding="utf-8", errors="replace").split()
    except (OSError, ValueError):
        return "another process"
    if host != socket.gethostname():
        return f"process {process} on {host}"
    return "another thread of this process" if process == str(os.getpid()) else f"process {process}"


def _remove_unfinished(lock: Path) -> None:
    """Remove what the killed holder of this lock was writing."""
    name = Path(lock.name[1 : -len(".lock")])
    if not name.name:  # the lock of a folder
        return
    temporary = re.compile(rf"\.{re.escape(name.stem)}\.[0-9a-f]{{16}}\.part{re.escape(name.suffix)}{BESIDE}")
    folder = re.compile(rf"\.{re.escape(name.name)}\.[0-9a-f]{{16}}\.part")
    for path in lock.parent.iterdir():
        if folder.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif temporary.fullmatch(path.name) and not path.is_dir():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


@contextlib.contextmanager
def _taken_on_windows(lock: Path, output: Path, wait: bool) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock, timeout=-1 if wait else 0):
            yield
    except Timeout:
        raise _refusal(output, "another process") from None
