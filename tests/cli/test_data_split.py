import json
from pathlib import Path

import numpy as np
import pytest
from toys import SAMPLE, WATER
from typer.testing import CliRunner

from eqff.cli.data import app
from eqff.data.frame import Frame
from eqff.data.reading.read import read_frames
from eqff.data.splits import load_split
from eqff.data.store.store import write_store
from eqff.errors import EqffError

FILES = Path(__file__).resolve().parents[1] / "data" / "files"


def run(*arguments) -> str:
    result = CliRunner().invoke(app, ["split", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def failure(*arguments) -> EqffError:
    result = CliRunner().invoke(app, ["split", *map(str, arguments)])
    assert isinstance(result.exception, EqffError), result.output
    return result.exception


def test_random(tmp_path):
    output = run(SAMPLE, "--train", 12, "--validation", 5, "--seed", 3, "-o", tmp_path / "s.json")
    assert "12 train, 5 validation, 3 test; 0 in none (random)" in output
    split = load_split(tmp_path / "s.json")
    assert split.sha256 in output
    assert output.splitlines()[-1] == f"train    eqff train {SAMPLE} --split {tmp_path / 's.json'}"
    order = np.random.Generator(np.random.PCG64(3)).permutation(20)
    assert split.train.tolist() == order[:12].tolist()
    assert split.origin["source"] == SAMPLE.name
    assert len(split.origin["source_sha256"]) == 64


def test_shares_and_blocks(tmp_path):
    result = json.loads(
        run(SAMPLE, "--method", "blocked", "--train", 0.5, "--validation", 0.25, "--gap", 2, "-o",
            tmp_path / "s.npz", "--json")
    )  # fmt: skip
    assert result["sizes"] == {"train": 8, "validation": 4, "test": 4}  # of the 16 frames outside the gaps
    split = load_split(tmp_path / "s.npz")
    assert split.sha256 == result["sha256"]
    assert split.validation.tolist() == [10, 11, 12, 13]


def test_compositions_and_csv(tmp_path):
    frames = read_frames(SAMPLE)[:6] + read_frames(WATER)[:3]
    write_store(tmp_path / "a.h5", frames)
    run(tmp_path / "a.h5", "--method", "composition", "--train", 6, "--validation", 0, "-o", tmp_path / "csv")
    assert sorted(path.name for path in (tmp_path / "csv").iterdir()) == ["test.csv", "train.csv"]
    assert sorted(map(int, (tmp_path / "csv" / "train.csv").read_text().split())) == [0, 1, 2, 3, 4, 5]
    given = ("--method", "files", "--train-file", tmp_path / "csv" / "train.csv")
    output = run(tmp_path / "a.h5", *given, "--test-file", tmp_path / "csv" / "test.csv")
    assert "6 train, 0 validation, 3 test" in output
    assert load_split(tmp_path / "a.split.json").origin["method"] == "files"
    run(tmp_path / "a.h5", *given[:2], "--train-file", tmp_path / "a.split.json", "-o", tmp_path / "b.npz")
    assert load_split(tmp_path / "b.npz") == load_split(tmp_path / "a.split.json")


def test_repeated_frames_never_test_what_was_learned(tmp_path):
    frames = read_frames(SAMPLE)
    write_store(tmp_path / "a.h5", frames + frames[:5])
    problem = failure(tmp_path / "a.h5", "--train", 20, "--validation", 0)
    assert problem.id == "EQ3323"
    assert "--drop-duplicates" in problem.message
    assert not (tmp_path / "a.split.json").exists()
    output = run(tmp_path / "a.h5", "--train", 15, "--validation", 0, "--drop-duplicates")
    assert "5 frames repeat an earlier one exactly: left out" in output
    split = load_split(tmp_path / "a.split.json")
    assert split.n_frames == 25
    assert sorted([*split.train, *split.test]) == list(range(20))


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        (["--method", "clever"], "EQ1942"),
        (["--method", "files"], "EQ1943"),
        (["--train-file", "a.csv"], "EQ1943"),
        (["--train", "1.5"], "EQ1944"),
        (["--train", "21"], "EQ1031"),
        (["-o", "a.txt"], "EQ1923"),
        (["-o", str(FILES / "..")], "EQ1945"),
        (["--method", "composition"], "EQ3322"),
    ],
)
def test_what_is_refused(arguments, id, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert failure(SAMPLE, *arguments).id == id
    assert not list(tmp_path.iterdir())
    assert not SAMPLE.with_suffix(".split.json").exists()


def test_isolated_atoms_train_whatever_is_drawn(tmp_path):
    alone = Frame(atomic_numbers=np.array([8]), positions=np.zeros((1, 3)), energy=-2041.0)
    write_store(tmp_path / "a.h5", [*read_frames(SAMPLE)[:8], alone])
    for method in ("random", "blocked"):
        given = ("--method", method, "--train", 4, "--validation", 2, "-o", tmp_path / "s.json", "--force")
        output = run(tmp_path / "a.h5", *given)
        assert "5 train, 2 validation, 2 test" in output
        assert "isolated frames 8: isolated atoms, which always train" in output
        assert load_split(tmp_path / "s.json").train[-1] == 8
