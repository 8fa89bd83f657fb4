"""HDF5 files that hang or crash the library are refused before this process opens them.

A few changed bytes make libhdf5 follow its own pointers in circles, deaf to Ctrl-C, or end the process.  So another
process goes through every file first, with limits of time and memory; files that it survives are opened here.  It is
started once and kept: a file costs milliseconds, a large one what reading its structure costs.
"""

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

from eqff.errors import DataError, ResourceError

PROGRAM = Path(__file__).with_name("hdf5_walk.py")
STARTING = 60.0  # s until the process is ready, on a busy machine
SILENT = 30.0  # s without a sign of life, e.g. of a disk that does not answer


class Walker:
    """The process, and what it has found.  Belongs to the process that made it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.lock = threading.Lock()
        self.good: set[tuple[object, ...]] = set()
        self.bad: set[tuple[object, ...]] = set()
        self.process: subprocess.Popen[str] | None = None
        self.answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def survives(self, path: Path) -> bool:
        """Whether the process has gone through this file, in this state, and lives."""
        status = path.stat()
        key = (str(path.resolve()), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        with self.lock:
            if key not in self.good | self.bad:
                (self.good if self._walk(path) else self.bad).add(key)
            return key in self.good

    def _walk(self, path: Path) -> bool:
        if self.process is None or self.process.poll() is not None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: no answer will come
            self.process.stdin.write(json.dumps(str(path.resolve())) + "\n")
            self.process.stdin.flush()
        if self._answered(SILENT):
            return True
        self.stop()
        return False

    def _start(self) -> None:
        self.stop()
        self.answers = queue.SimpleQueue()
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the program that reads
            )
        except OSError as error:
            raise ResourceError(
                "EQ6511", f"{sys.executable}: cannot be started to examine HDF5 ({error.strerror}); free memory"
            ) from error
        threading.Thread(target=_listen, args=(self.process, self.answers), daemon=True).start()
        if not self._answered(STARTING):
            self.stop()
            raise ResourceError("EQ6512", f"{PROGRAM.name}: does not start; check that `import h5py` works")

    def _answered(self, seconds: float) -> bool:
        """Wait for the end of a task as long as signs of life come."""
        try:
            while (line := self.answers.get(timeout=seconds)) == ".":
                pass
        except queue.Empty:
            return False
        return line == "end"

    def stop(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what was still to be written to a process that has ended
                        pipe.close()


def check(path: str | Path) -> None:
    """Raises: DataError EQ3511 for an HDF5 file that cannot be opened safely; ResourceError EQ6511, EQ6512"""
    if not _walker().survives(Path(path)):
        raise DataError(
            "EQ3511",
            f"{path}: the HDF5 library hangs, crashes or fills the memory on this file, which is damaged or "
            "was made so; get it or write it again",
        )


_WALKERS: list[Walker] = []


def _walker() -> Walker:
    """The one of this process; a fork begins with a new one."""
    if not _WALKERS or _WALKERS[-1].owner != os.getpid():
        _WALKERS.append(Walker())
    return _WALKERS[-1]


def _listen(process: "subprocess.Popen[str]", answers: "queue.SimpleQueue[str]") -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            answers.put(line.strip())
    except (OSError, ValueError):  # closed by `stop`
        pass
    answers.put("ended")


@atexit.register
def _stop() -> None:
    if _WALKERS and _WALKERS[-1].owner == os.getpid():
        _WALKERS[-1].stop()
