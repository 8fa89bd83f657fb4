import json
from pathlib import Path

import numpy as np
import pytest
from toys import SAMPLE
from typer.testing import CliRunner

from eqff.cli.data import app
from eqff.data.frame import Frame
from eqff.data.reading.read import read_frames
from eqff.data.splits import split_from_indices
from eqff.data.store.store import write_store
from eqff.errors import ConfigError, DataError

FILES = Path(__file__).resolve().parents[1] / "data" / "files"


def run(*arguments):
    result = CliRunner().invoke(app, ["stats", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_text():
    output = run(SAMPLE, "--r-max", 9)
    assert "mean degree 8.000, largest 8, within 9.0 Å" in output
    assert "rank 1 of 3" in output
    assert "H  mean degree 8.000, force RMS" in output


def test_one_part_of_a_split(tmp_path):
    split_from_indices(20, train=[3, 17, 4], test=[0]).save(tmp_path / "s.json")
    found = json.loads(run(SAMPLE, "--split", tmp_path / "s.json", "--json"))
    frames = read_frames(SAMPLE)
    forces = np.array([frames[i].forces for i in (3, 4, 17)])
    assert found["part"] == "train"
    assert found["source"]["n_frames"] == 20
    assert found["statistics"]["n_frames"] == 3
    assert found["statistics"]["force_rms"] == pytest.approx(np.sqrt((forces**2).mean()), rel=1e-12)
    assert found["statistics"]["reference_rank"] == 1


def test_what_is_refused(tmp_path):
    split_from_indices(19, train=[3]).save(tmp_path / "s.json")
    result = CliRunner().invoke(app, ["stats", str(SAMPLE), "--split", str(tmp_path / "s.json")])
    assert isinstance(result.exception, DataError)
    assert result.exception.id == "EQ3335"
    result = CliRunner().invoke(app, ["stats", str(SAMPLE), "--part", "half"])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.id == "EQ1946"


def test_json_has_no_nan(tmp_path):
    write_store(tmp_path / "a.h5", [Frame(atomic_numbers=np.array([1]), positions=np.zeros((1, 3)))])
    found = json.loads(run(tmp_path / "a.h5", "--json"), parse_constant=pytest.fail)["statistics"]
    assert (found["force_rms"], found["largest_force"], found["energy_range"]) == (None, None, None)
    assert found["force_rms_per_species"] == [None]
