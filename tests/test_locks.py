"""One writer at a time, and what killed writers leave behind."""

import contextlib
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eqff.errors import ConfigError, ResourceError
from eqff.files import new_file, new_folder
from eqff.locks import locked, locked_in_new_folder, sweep

fcntl = pytest.importorskip("fcntl")

HOLD = """
import sys
from eqff.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""
KILLED = """
import os, sys
from eqff.files import new_file, new_folder
from pathlib import Path
from typing import Any
path = Path(sys.argv[1])
with new_file(path, force=True) as temporary, new_folder(path.with_name("folder")) as folder:
    temporary.write_text("half")
    path.with_name(temporary.name + "-journal").touch()
    (folder / "file").write_text("half")
    os.kill(os.getpid(), 9)
"""


@contextlib.contextmanager
def held(path: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield other
        other.kill()


def killed(path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)]).returncode == -9


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_second_writer_is_refused_until_the_first_is_killed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "output"
    if kind == "folder":
        path.mkdir()
    with held(path) as other:
        with pytest.raises(ResourceError, match=rf"EQ6131.*output: process {other.pid} writes there"), locked(path):
            pass
        other.kill()
        other.wait()
        with locked(path), locked(tmp_path / "another"):
            assert path.is_dir() == (kind == "folder")  # the lock is no output
    assert list(tmp_path.rglob("*.lock")) == []


def test_the_end_of_a_writer_leaves_nothing(tmp_path: Path) -> None:
    with new_file(tmp_path / "file") as temporary:
        temporary.write_text("whole")
    with new_folder(tmp_path / "folder"):
        pass
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / "third"):
        raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("new", [new_file, new_folder])
def test_files_and_folders_have_one_writer(tmp_path: Path, new: Any) -> None:
    with held(tmp_path / "output"):
        with pytest.raises(ResourceError, match="EQ6131"), new(tmp_path / "output"):
            pass
        with pytest.raises(ResourceError, match="EQ6131"), new_file(tmp_path / "output", force=True):
            pass


def test_a_writer_can_wait_for_the_first(tmp_path: Path) -> None:
    with held(tmp_path / "output") as other:
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
        with locked(tmp_path / "output", wait=True):
            pass
        assert other.wait(timeout=30) == 0


def test_a_thread_may_ask_again_another_one_may_not(tmp_path: Path) -> None:
    refusals = []

    def ask() -> None:
        try:
            with locked(tmp_path / "output"):
                pass
        except ResourceError as error:
            refusals.append(error.message)

    with locked(tmp_path / "output"):
        with locked(tmp_path / "output"), new_file(tmp_path / "output") as temporary:
            temporary.touch()
        other = threading.Thread(target=ask)
        other.start()
        other.join()
    assert len(refusals) == 1
    assert "another thread of this process" in refusals[0]


@pytest.mark.parametrize("name", ["output.extxyz", "another"])
def test_the_next_start_removes_what_a_killed_process_left(tmp_path: Path, name: str) -> None:
    killed(tmp_path / "output.extxyz")
    assert len(list(tmp_path.iterdir())) == 5  # two locks, a file, its journal, a folder
    with new_file(tmp_path / name) as temporary:
        temporary.touch()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_only_what_is_certainly_left_over_is_removed(tmp_path: Path) -> None:
    killed(tmp_path / "output.extxyz")
    (left,) = tmp_path.glob(".output*.part.extxyz")
    others = [
        tmp_path / left.name.replace("output", "another"),  # its lock is missing
        tmp_path / ".output.part.extxyz",
        tmp_path / ".output.0123456789abcdef.part.extxyz.txt",
        tmp_path / ".notes.lock",  # of another program
    ]
    for path in others:
        path.write_text("of the user")
    with held(tmp_path / "living"):
        unfinished = tmp_path / ".living.0123456789abcdef.part"
        unfinished.touch()
        sweep(tmp_path)
        assert unfinished.exists()
        assert sorted(tmp_path.iterdir()) == sorted([*others, unfinished, tmp_path / ".living.lock"])


def test_a_file_of_another_program_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / ".output.lock").write_text("precious")
    with pytest.raises(ConfigError, match=r"EQ1801.*\.output\.lock"), locked(tmp_path / "output"):
        pass
    (tmp_path / ".link.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="link"), locked(tmp_path / "link"):
        pass
    assert (tmp_path / ".output.lock").read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


def test_file_systems_without_locks_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(tmp_path / "output")

    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    before = set(tmp_path.glob(".*.part*"))
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="no locks.*start only one"), locked(tmp_path / "output"):
        pass
    assert set(tmp_path.glob(".*.part*")) == before  # their writer may be alive


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked_in_new_folder(tmp_path / "new" / "output"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with locked_in_new_folder(tmp_path / "new" / "output"):
        (tmp_path / "new" / "output").touch()
    with pytest.raises(RuntimeError), locked_in_new_folder(tmp_path / "new" / "other"):
        raise RuntimeError
    assert (tmp_path / "new" / "output").exists()
