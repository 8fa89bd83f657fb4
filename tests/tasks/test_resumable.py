"""Killed before or after any step on the disk and continued: the same file."""

import contextlib
import json
from pathlib import Path

import pytest

from eqff.errors import ConfigError, DataError, RunError
from eqff.tasks.resumable import ResumableFile

PIECES = ["first\n", "second, longer\n", "", "last\n"]
SETTINGS = {"input": "abc", "shard": [1, 1]}


class KilledError(BaseException):
    """Stands for SIGKILL: nothing in the code under test may catch it."""


def write(path, resume=True, force=False, settings=SETTINGS):
    """Write PIECES, as a task would; the memory counts them."""
    with ResumableFile(path, settings, {"done": 0}, resume, force) as file:
        if file.finished:
            return file.memory["done"]
        for number in range(file.memory["done"], len(PIECES)):
            file.append(PIECES[number], {"done": number + 1})
        file.finish()
    return file.memory["done"]


def start_and_stop(path):
    with contextlib.suppress(KilledError), ResumableFile(path, SETTINGS, {"done": 0}) as file:
        file.append(PIECES[0], {"done": 1})
        raise KilledError


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(22))
def test_killed_at_any_step_and_continued_is_the_same_file(tmp_path, monkeypatch, step, after):
    steps = []

    def deadly(name):
        act = getattr(Path, name)

        def killed(self, *arguments, **options):
            steps.append(name)
            if len(steps) == step + 1 and not after:
                raise KilledError
            result = act(self, *arguments, **options)
            if len(steps) == step + 1:
                raise KilledError
            return result

        monkeypatch.setattr(Path, name, killed)

    path = tmp_path / "out.txt"
    for name in ("replace", "write_text", "unlink"):
        deadly(name)
    with contextlib.suppress(KilledError):
        write(path)
    monkeypatch.undo()
    partial = tmp_path / "out.txt.partial"
    if partial.exists():
        with partial.open("a") as file:
            file.write("a piece that was torn")
    write(path)
    assert path.read_text() == "".join(PIECES)
    write(path)  # once more does nothing
    assert [each.name for each in tmp_path.iterdir() if not each.name.endswith(".tmp")] == ["out.txt"]
    assert step < len(steps) or step > 10  # every step was visited


def test_done_pieces_are_not_done_again(tmp_path):
    path = tmp_path / "out.txt"
    start_and_stop(path)
    assert not path.exists()
    with ResumableFile(path, SETTINGS, {"done": 0}, resume=True) as file:
        assert file.memory == {"done": 1}
        assert file.n_bytes == len(PIECES[0])


def test_what_is_there_is_kept(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="EQ1221"):
        write(path, resume=False)
    write(path, resume=True)  # finished, as far as one can know: nothing is done
    assert path.read_text() == "precious"
    write(path, resume=False, force=True)
    assert path.read_text() == "".join(PIECES)


def test_an_unfinished_run_is_neither_lost_nor_mixed(tmp_path):
    path = tmp_path / "out.txt"
    start_and_stop(path)
    with pytest.raises(ConfigError, match=r"EQ1222.*--resume"):
        write(path, resume=False)
    with pytest.raises(ConfigError, match=r"EQ1223: shard=\[1, 2\]: the run to continue had \[1, 1\]"):
        write(path, settings=SETTINGS | {"shard": [1, 2]})
    assert (tmp_path / "out.txt.partial").read_text() == PIECES[0]
    (tmp_path / "out.txt.partial").write_text("")
    with pytest.raises(RunError, match="EQ5302"):
        write(path)
    (tmp_path / "out.txt.partial.json").write_text("{")
    with pytest.raises(RunError, match="EQ5303"):
        write(path)
    assert write(path, resume=False, force=True) == len(PIECES)
    assert path.read_text() == "".join(PIECES)


def test_state_is_readable(tmp_path):
    with ResumableFile(tmp_path / "a" / "out.txt", SETTINGS, {"done": 0}) as file:
        file.append("å", {"done": 1})
        state = json.loads(file.state.read_text())
    assert state == {"settings": SETTINGS, "bytes": 2, "finished": False, "memory": {"done": 1}}


def test_bad_input_leaves_no_run_to_continue_if_nothing_was_written(tmp_path):
    def stopped(*pieces):
        with ResumableFile(tmp_path / "out.txt", SETTINGS, {"done": 0}) as file:
            for number, piece in enumerate(pieces):
                file.append(piece, {"done": number + 1})
            raise DataError("EQ3999", "frame: is wrong; repair it")

    with pytest.raises(DataError):
        stopped()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError):
        stopped(PIECES[0])
    assert (tmp_path / "out.txt.partial").read_text() == PIECES[0]
    assert write(tmp_path / "out.txt") == len(PIECES)
