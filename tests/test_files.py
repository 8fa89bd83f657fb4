"""Files that are whole or absent, and refusals of the system that name the file."""

import errno
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from eqff.errors import DataError
from eqff.files import UNFINISHED, named, new_file, new_folder

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
        sqlite3.OperationalError("disk I/O error"),
        RuntimeError(
            "Can't decrement id ref count (file write failed: errno = 28, 'No space left on device', offset = 1)"
        ),
        OSError("[Errno 28] Driver write request failed (errno = 28, error message = 'No space left on device')"),
    ],
)
def test_libraries_that_say_it_in_their_own_way(error: Exception) -> None:
    with pytest.raises(OSError, match=r"frames\.h5") as caught, named("frames.h5"):
        raise error
    assert caught.value.errno == (errno.EIO if "I/O" in str(error) else errno.ENOSPC)


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^a bug$"), named("frames.h5"):
        raise RuntimeError("a bug")
    with pytest.raises(FileNotFoundError, match=r"other\.h5"), named("frames.h5"):
        Path("/nowhere/other.h5").read_bytes()


def test_a_file_is_beside_its_final_name_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "frames.extxyz"
    with new_file(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == tmp_path
        assert temporary.suffix == path.suffix
        assert list(tmp_path.glob(UNFINISHED)) == [temporary]
        assert not path.exists()
    assert path.read_text() == "whole"
    with pytest.raises(UnicodeEncodeError), new_file(path, force=True) as temporary:
        temporary.write_text("half of \udcff")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    path = tmp_path / "made"
    with new_folder(path) as temporary:
        (temporary / "below").mkdir()
        (temporary / "below" / "file").write_text("whole")
        assert not path.exists()
    assert (path / "below" / "file").read_text() == "whole"
    with pytest.raises(RuntimeError), new_folder(tmp_path / "other"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"EQ3070.*--force"), new_file(tmp_path / "file"):
        pass
    with pytest.raises(DataError, match="EQ3077"), new_file(tmp_path, force=True):
        pass
    for new in (new_file, new_folder):
        with pytest.raises(DataError, match="EQ3071"), new(tmp_path / "absent" / "file"):
            pass
    with pytest.raises(DataError, match="EQ3078"), new_folder(tmp_path / "file"):
        pass
