"""Program of the process that goes through an HDF5 file before eqff opens it; see `eqff.data.hdf5_guard`.

Reads paths from standard input, one JSON string on each line, and answers each with a line "end", with lines "." before
it while it makes progress.  Errors of HDF5 are not its business: whoever reads the file meets them again.
It imports h5py alone, so that it starts soon.
"""

import json
import math
import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any

os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"  # set before h5py is imported: looking must not keep a writer out

import h5py

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

MEMORY = 2**32  # bytes of address space
SECONDS = 1.0  # of CPU time without progress, and
SECONDS_PER_BYTE = 1e-9  # more for a large file
WHOLE = 2**26  # bytes of a file that is read completely; of larger ones the structure
BLOCK, MOST_BLOCKS = 2**22, 64  # bytes read at once, and how often: a small file may claim large arrays
BEAT = 0.2  # s


class Walk:
    """One file.  Args: path"""

    def __init__(self, path: str) -> None:
        size = os.path.getsize(path)
        self.seconds, self.whole = SECONDS + size * SECONDS_PER_BYTE, size <= WHOLE
        self.seen: set[int] = set()
        self.waits = False  # in single-writer mode HDF5 sleeps and tries again where a file is damaged
        self.spoken = -BEAT
        self.progress()
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            if "open for write" not in str(error):  # a writer is running, or has died
                raise
            self.waits = True
            self.spoken = -BEAT
            self.progress()
            file = h5py.File(path, "r", libver="latest", swmr=True)
        with file:
            groups = [file.id]
            while groups:
                groups += self.group(groups.pop())

    def progress(self) -> None:
        """Sign of life, and new time for what follows."""
        now = time.monotonic()
        if now - self.spoken < BEAT:
            return
        self.spoken = now
        answer(".")
        if resource is not None:
            # then SIGPROF or SIGALRM ends this process, also inside a library
            signal.setitimer(signal.ITIMER_PROF, self.seconds)
            signal.setitimer(signal.ITIMER_REAL, 3.0 * self.seconds if self.waits else 0.0)

    def group(self, group: Any) -> list[Any]:
        """Everything in a group but the groups in it, which are returned."""
        below = []
        with suppress(Exception):  # damage: the reader says so
            self.attributes(group)
            for name in list(group):
                self.progress()
                with suppress(Exception):
                    if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
                        continue
                    found = h5py.h5o.open(group, name)
                    address = h5py.h5o.get_info(found).addr
                    if address not in self.seen:
                        self.seen.add(address)
                        if isinstance(found, h5py.h5g.GroupID):
                            below.append(found)
                        elif isinstance(found, h5py.h5d.DatasetID):
                            self.attributes(found)
                            self.dataset(found)
        return below

    def attributes(self, found: Any) -> None:
        """Attributes, whose text lies in heaps."""
        if h5py.h5a.get_num_attrs(found):
            attributes = h5py.Dataset(found).attrs if isinstance(found, h5py.h5d.DatasetID) else h5py.Group(found).attrs
            for name in attributes:
                self.progress()
                with suppress(Exception):
                    attributes[name]

    def dataset(self, found: Any) -> None:
        """The index of chunks; the chunks of a small file, and text, which lies in heaps."""
        layout, kind = found.get_create_plist().get_layout(), found.get_type()
        if layout == h5py.h5d.CHUNKED:
            found.get_num_chunks()
        text = kind.get_class() == h5py.h5t.VLEN or (
            kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()  # other text lies beside its numbers
        )
        if not (text or (layout == h5py.h5d.CHUNKED and self.whole)):
            return
        dataset = h5py.Dataset(found)
        if not dataset.shape:
            return
        width = kind.get_size() * math.prod(dataset.shape[1:])
        step = max(1, BLOCK // max(1, width))
        for start in range(0, min(dataset.shape[0], MOST_BLOCKS * step), step):
            self.progress()
            dataset[start : start + step]


def answer(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Answer until standard input ends."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer("end")
    for line in sys.stdin:
        with suppress(Exception):  # damage: the reader says so
            Walk(json.loads(line))
        if resource is not None:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        answer("end")


if __name__ == "__main__":
    main()
