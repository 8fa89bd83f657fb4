"""What the system refuses says which file it was, whichever library wrote it."""

import errno
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from eqff.files import named

SMALL_FILES = """
import resource, signal, sys
from pathlib import Path
from eqff.files import new_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # bytes, of every file of this process
with new_file(Path(sys.argv[1]), force=True) as temporary:
    temporary.write_bytes(bytes(20_000))
"""


def test_a_write_that_is_refused_names_the_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "frames.extxyz"
    path.write_text("good")
    child = subprocess.run([sys.executable, "-c", SMALL_FILES, str(path)], capture_output=True, text=True)
    assert child.returncode == 1
    assert re.search(rf"OSError: \[Errno {errno.EFBIG}\].*frames\.extxyz", child.stderr)
    assert path.read_text() == "good"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("database or disk is full"),
        RuntimeError(
            "Can't decrement id ref count (file write failed: errno = 28, 'No space left on device', offset = 1)"
        ),
        OSError("[Errno 28] Driver write request failed (errno = 28, error message = 'No space left on device')"),
    ],
)
def test_libraries_that_say_it_in_their_own_way(error: Exception) -> None:
    with pytest.raises(OSError, match=r"frames\.h5") as caught, named("frames.h5"):
        raise error
    assert caught.value.errno == errno.ENOSPC


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^a bug$"), named("frames.h5"):
        raise RuntimeError("a bug")
    with pytest.raises(FileNotFoundError, match=r"other\.h5"), named("frames.h5"):
        Path("/nowhere/other.h5").read_bytes()
