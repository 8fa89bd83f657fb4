import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from toys import SAMPLE
from typer.testing import CliRunner

from eqff.cli.data import app
from eqff.data.reading.read import read_frames
from eqff.data.store.store import Store, write_store
from eqff.errors import EqffError


def run(*arguments) -> str:
    result = CliRunner().invoke(app, ["select", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_farthest_frames_of_a_store(tmp_path):
    output = run(SAMPLE, tmp_path / "a.h5", "-n", 5)
    assert "selected 5 of 20 frames" in output
    rows = json.loads(run(SAMPLE, tmp_path / "a.csv", "-n", 5, "--json"))["indices"]
    assert [int(line) for line in (tmp_path / "a.csv").read_text().split()] == rows
    frames = read_frames(SAMPLE)
    with Store(tmp_path / "a.h5") as store:
        assert [frame.energy for frame in store] == [frames[i].energy for i in sorted(rows)]
        assert store.provenance["selected_by"] == "farthest"
        assert store.provenance["source"] == SAMPLE.name


def test_rotated_and_renumbered_copies_are_dropped(tmp_path):
    frames, random = read_frames(SAMPLE), np.random.default_rng(2)
    copies = []
    for frame in frames[:4]:
        order, turn = random.permutation(9), Rotation.random(random_state=3).as_matrix()
        copies.append(
            replace(
                frame,
                atomic_numbers=frame.atomic_numbers[order],
                positions=(frame.positions @ turn + 5.0)[order],
                forces=(frame.forces @ turn)[order],
            )
        )
    nearly = replace(frames[5], positions=frames[5].positions + 1e-5)
    write_store(tmp_path / "a.h5", [*frames, *copies, nearly])
    output = run(tmp_path / "a.h5", tmp_path / "b.h5", "--method", "dedup")
    assert "selected 20 of 25 frames" in output
    with Store(tmp_path / "b.h5") as store:
        assert [frame.energy for frame in store] == [frame.energy for frame in frames]


def test_frames_unlike_those_one_has(tmp_path):
    frames = read_frames(SAMPLE)
    write_store(tmp_path / "have.h5", frames[:19])
    found = json.loads(run(SAMPLE, tmp_path / "a.csv", "-n", 3, "--beside", tmp_path / "have.h5", "--json"))
    assert found["indices"] == [19]  # all others are there
    assert found["radius"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        (["-n", "3", "--method", "clever"], "EQ1953"),
        ([], "EQ1954"),
        (["-n", "3", "--method", "dedup"], "EQ1954"),
        (["--method", "dedup", "--tolerance", "-1"], "EQ1954"),
        (["-n", "21"], "EQ1952"),
        (["-n", "2", "--r-max", "0.1"], "EQ1951"),
    ],
)
def test_what_is_refused(arguments, id, tmp_path):
    result = CliRunner().invoke(app, ["select", str(SAMPLE), str(tmp_path / "a.h5"), *arguments])
    assert isinstance(result.exception, EqffError), result.output
    assert result.exception.id == id
    assert not list(tmp_path.iterdir())


def test_an_output_that_exists(tmp_path):
    (tmp_path / "a.csv").write_text("mine")
    result = CliRunner().invoke(app, ["select", str(SAMPLE), str(tmp_path / "a.csv"), "-n", "2"])
    assert result.exception.id == "EQ1945"
    assert (tmp_path / "a.csv").read_text() == "mine"
    run(SAMPLE, tmp_path / "a.csv", "-n", 2, "--force")
    assert len((tmp_path / "a.csv").read_text().split()) == 2
