"""A file that changes in steps which happen whole or not at all, whatever kills the process or the machine.

HDF5 writes its own index in place, so a process that dies in the middle leaves a file that cannot be opened.  Here
everything it writes is held back in memory.  `commit` puts the changed pages into a journal beside the file, with their
length and SHA-256, and waits until the disk has it; only then are the pages written into the file.  After a crash a
journal that is complete is replayed, which can be done any number of times; one that is not is thrown away.
"""

import contextlib
import hashlib
import io
import os
import struct
from pathlib import Path
from typing import Any

from eqff.errors import DataError

PAGE = 4096
MAGIC = b"eqffjrn1"
HEAD = struct.Struct("<8sQQ16sQQ")  # magic, size of the file, where its identity lies, identity, runs, length
DIGEST = hashlib.sha256().digest_size  # of the head and all that follows
RUN = struct.Struct("<QQ")  # offset in the file, bytes


def journal_path(path: str | Path) -> Path:
    """Name of the journal of a file."""
    path = Path(path)
    return path.with_name(f"{path.name}.journal")


class IndependentFile(io.RawIOBase):
    """A file object for `h5py.File`, for reading.

    HDF5 shares what it knows of a file among all that have it open in a process, however old that is, and its handle
    is shared with forked processes.  This one shares nothing: each sees the file as it is when it is opened.

    Args: path: an existing file
    """

    MODE = os.O_RDONLY

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self._file = os.open(self.path, self.MODE | getattr(os, "O_BINARY", 0))
        self._place = 0
        self._size = os.fstat(self._file).st_size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._file, (buffer,), self._place)
        self._place += count
        return count

    def read_at(self, buffer: Any, offset: int) -> int:
        """Fill a buffer from a place in the file; returns the number of bytes that were there."""
        return os.preadv(self._file, (buffer,), offset)

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()


class JournaledFile(IndependentFile):
    """A file object for `h5py.File` whose writes reach the file only by `commit`.

    Args: path: an existing file; identity: (offset, 16 bytes) that lie in the file and are its own, so that the journal
          is never replayed into another file of the same name
    """

    MODE = os.O_RDWR

    def __init__(self, path: str | Path, identity: tuple[int, bytes]) -> None:
        super().__init__(path)
        self.identity = identity
        self._pages: dict[int, bytearray] = {}
        self._stored = self._size  # bytes on disk

    def writable(self) -> bool:
        return True

    def truncate(self, size: int | None = None) -> int:
        self._size = self._place if size is None else size
        first = -(-self._size // PAGE)
        for page in [number for number in self._pages if number >= first]:
            del self._pages[page]
        return self._size

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._place))
        done = 0
        while done < count:
            page, start = divmod(self._place + done, PAGE)
            stop = min(PAGE, start + count - done)
            view[done : done + stop - start] = (
                self._pages[page][start:stop] if page in self._pages else self._read(page * PAGE + start, stop - start)
            )
            done += stop - start
        self._place += count
        return count

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            page, start = divmod(self._place + done, PAGE)
            stop = min(PAGE, start + len(view) - done)
            if page not in self._pages:
                self._pages[page] = bytearray(PAGE if stop - start == PAGE else self._read(page * PAGE, PAGE))
            self._pages[page][start:stop] = view[done : done + stop - start]
            done += stop - start
        self._place += len(view)
        self._size = max(self._size, self._place)
        return len(view)

    def _read(self, offset: int, count: int) -> bytes:
        """Bytes of the file as it is on disk, zeros beyond its end."""
        count_there = max(0, min(count, self._stored - offset))
        return os.pread(self._file, count_there, offset).ljust(count, b"\0")

    def commit(self) -> None:
        """Make all writes since the last commit durable, together."""
        runs = self._runs()
        body = b"".join([*(RUN.pack(offset, len(data)) for offset, data in runs), *(data for _, data in runs)])
        offset, identity = self.identity
        head = HEAD.pack(MAGIC, self._size, offset, identity, len(runs), len(body))
        journal = journal_path(self.path)
        with open(journal, "wb") as file:
            for part in (head, hashlib.sha256(head + body).digest(), body):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        _apply(self._file, self._size, runs)
        os.truncate(journal, 0)  # replaying it once more would do no harm, but take time
        self._pages.clear()
        self._stored = self._size

    def _runs(self) -> list[tuple[int, bytes]]:
        """Changed pages as (offset, bytes), neighbours joined, cut at the end of the file."""
        runs: list[tuple[int, list[bytearray]]] = []
        following = -1
        for page in sorted(self._pages):
            if page != following:
                runs.append((page * PAGE, []))
            runs[-1][1].append(self._pages[page])
            following = page + 1
        return [(offset, b"".join(pages)[: self._size - offset]) for offset, pages in runs]

    def close(self) -> None:
        """Close the file; what was not committed is gone, the empty journal too."""
        super().close()
        with contextlib.suppress(FileNotFoundError):
            if journal_path(self.path).stat().st_size == 0:
                os.unlink(journal_path(self.path))


def pending(path: str | Path) -> bool:
    """Whether a journal with something in it lies beside a file: a writer is at work, or died."""
    try:
        return journal_path(path).stat().st_size > 0
    except OSError:
        return False


def recover(path: str | Path) -> bool:
    """Bring a file whose writer died to its last complete step; the caller holds the writer's lock.

    Returns: whether a journal was replayed (False: there was none, or it was not complete, or of another file)
    Raises:  DataError EQ3301 if the journal has to be replayed, but the file or its folder cannot be written
    """
    journal = journal_path(path)
    try:
        content = journal.read_bytes()
    except FileNotFoundError:
        return False
    step = _complete(content)
    replayed = False
    try:
        if step is not None:
            size, offset, identity, runs = step
            file = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
            try:
                if os.pread(file, len(identity), offset) == identity:
                    _apply(file, size, runs)
                    replayed = True
            finally:
                os.close(file)
        os.unlink(journal)
    except PermissionError as error:
        raise DataError(
            "EQ3301",
            f"{path}: its writer died, and {journal.name} holds the last frames, but {error.filename or path} cannot "
            "be written; open the store once where it can be",
        ) from None
    return replayed


def _complete(content: bytes) -> tuple[int, int, bytes, list[tuple[int, bytes]]] | None:
    """(size of the file, where its identity lies, identity, runs) of a journal, None if it is cut short or damaged."""
    if len(content) < HEAD.size + DIGEST:
        return None
    head, digest, body = content[: HEAD.size], content[HEAD.size : HEAD.size + DIGEST], content[HEAD.size + DIGEST :]
    magic, size, offset, identity, n_runs, length = HEAD.unpack(head)
    if magic != MAGIC or len(body) != length or hashlib.sha256(head + body).digest() != digest:
        return None
    runs, place = [], n_runs * RUN.size
    for k in range(n_runs):
        where, count = RUN.unpack_from(body, k * RUN.size)
        runs.append((where, body[place : place + count]))
        place += count
    return size, offset, identity, runs


def _apply(file: int, size: int, runs: list[tuple[int, bytes]]) -> None:
    for offset, data in runs:
        done = 0
        while done < len(data):
            done += os.pwrite(file, data[done:], offset + done)
    os.ftruncate(file, size)
    os.fsync(file)
