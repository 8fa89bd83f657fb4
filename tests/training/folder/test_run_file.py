"""Files that are whole or absent on a full disk, and a folder that belongs to one process."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from eqff.errors import ResourceError
from eqff.training.folder.run_file import only_run, remove_unfinished, run_file

HOLD = """
import sys
from pathlib import Path
from eqff.training.folder.run_file import only_run
with only_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def fill(path: Path) -> None:
    with run_file(path) as temporary:
        temporary.write_text("ha")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "metrics.csv"
    with run_file(path) as temporary:
        temporary.write_text("good")
    with pytest.raises(ResourceError, match=r"EQ6130.*metrics.csv.*No space left.*--resume"):
        fill(path)
    assert path.read_text() == "good"
    assert list(path.parent.iterdir()) == [path]


def test_a_limit_of_the_system_on_the_size_of_files(tmp_path: Path) -> None:
    """The real error of a real write, half way: in a process of its own, as a limit cannot be lifted again."""
    script = """
import resource, signal, sys
from pathlib import Path
from eqff.errors import ResourceError
from eqff.training.folder.run_file import run_file
path = Path(sys.argv[1])
with run_file(path) as temporary:
    temporary.write_bytes(b"good")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    with run_file(path) as temporary:
        temporary.write_bytes(bytes(20_000))
except ResourceError as error:
    print(error.id)
"""
    path = tmp_path / "last.ckpt"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=300)
    assert done.stdout == "EQ6130\n", done.stderr
    assert path.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_goes_and_all_else_stays(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    kept = [tmp_path / "config.toml", tmp_path / "checkpoints" / "last.ckpt", tmp_path / ".notes"]
    left = [
        tmp_path / ".best.eqff.pt.0123abcd.partial",
        tmp_path / ".metrics.0123456789abcdef.part.csv",
        tmp_path / "checkpoints" / ".last.0123456789abcdef.part.ckpt",
    ]
    for path in kept + left:
        path.touch()
    remove_unfinished(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_one_process_at_a_time_until_it_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ResourceError, match="EQ6131"), only_run(tmp_path):
            pass
        other.kill()
    with only_run(tmp_path):
        pass


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="EQ6132"), only_run(tmp_path / "file"):
        pass
