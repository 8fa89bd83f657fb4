from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eqff.cli.data import app
from eqff.data.read import read_frames
from eqff.data.store import Store
from eqff.errors import DataError

FILES = Path(__file__).resolve().parents[1] / "data" / "files"
ETHANOL = FILES / "ethanol_gfn2_20frames.npz"
WATER = FILES / "water16_gfn1_5frames.extxyz"


def run(*arguments) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def failure(*arguments) -> DataError:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert isinstance(result.exception, DataError), result.output
    return result.exception


def test_npz_to_store_and_onward(tmp_path):
    output = run("convert", ETHANOL, tmp_path / "a.h5")
    assert "labels: energy 20, forces 20, stress 0" in output
    assert "C2H6O (20)" in output
    assert "kcal/mol (stated in the file)" in output
    with Store(tmp_path / "a.h5") as store:
        assert store.digest in output
        assert store.provenance["source"] == ETHANOL.name
        energies = [frame.energy for frame in store]
    run("convert", tmp_path / "a.h5", tmp_path / "a.extxyz")
    run("convert", tmp_path / "a.extxyz", tmp_path / "a.npz")
    assert [f.energy for f in read_frames(tmp_path / "a.npz")] == pytest.approx(energies, rel=1e-14)


def test_units_must_be_said_where_the_file_does_not(tmp_path):
    with np.load(ETHANOL) as arrays:
        np.savez(tmp_path / "bare.npz", **{name: arrays[name] for name in "zREF"})
    assert "--energy-unit" in failure("convert", tmp_path / "bare.npz", tmp_path / "a.h5").message
    assert not (tmp_path / "a.h5").exists()
    output = run("convert", tmp_path / "bare.npz", tmp_path / "a.h5", "--energy-unit", "kcal/mol")
    assert "kcal/mol (option)" in output
    doubtful = run("convert", tmp_path / "bare.npz", tmp_path / "b.h5", "--energy-unit", "eV", "--length-unit", "Å")
    assert "is unusual" in doubtful


def test_force_replaces(tmp_path):
    run("convert", ETHANOL, tmp_path / "a.h5")
    assert failure("convert", ETHANOL, tmp_path / "a.h5").id == "EQ3070"
    run("convert", WATER, tmp_path / "a.h5", "--force")
    with Store(tmp_path / "a.h5") as store:
        assert len(store) == 5


def test_info(tmp_path):
    output = run("info", WATER, "--r-max", "5")
    assert "stress 5; periodic: 5; composition: H32O16 (5)" in output
    assert "mean degree" in output
    run("convert", WATER, tmp_path / "w.h5")
    stored = run("info", tmp_path / "w.h5")
    assert "(verified)" in stored
    assert "source: water16_gfn1_5frames.extxyz" in stored
