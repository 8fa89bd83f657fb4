"""What the system refuses says which file it was, whichever library wrote it."""

import errno
import resource
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from eqff.data.atomic import named, new_file


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files of this process may not grow beyond 10 kB."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_write_that_is_refused_names_the_file_and_leaves_the_old_one(tmp_path: Path, small_files: None) -> None:
    path = tmp_path / "frames.extxyz"
    path.write_text("good")
    with pytest.raises(OSError, match=r"frames\.extxyz") as caught, new_file(path, force=True) as temporary:
        temporary.write_bytes(bytes(20_000))
    assert caught.value.errno == errno.EFBIG
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
