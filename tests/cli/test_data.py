import json
from pathlib import Path

import numpy as np
import pytest
import typer
from toys import SAMPLE, WATER
from typer.testing import CliRunner

from eqff.cli.data import app
from eqff.data.reading.read import read_frames
from eqff.data.store.store import Store
from eqff.errors import ConfigError, DataError

FILES = Path(__file__).resolve().parents[1] / "data" / "files"


def run(*arguments) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def failure(*arguments) -> DataError:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert isinstance(result.exception, DataError), result.output
    return result.exception


def test_npz_to_store_and_onward(tmp_path):
    output = run("convert", SAMPLE, tmp_path / "a.h5")
    assert "labels: energy 20, forces 20, stress 0" in output
    assert "C2H6O (20)" in output
    assert "kcal/mol (stated in the file)" in output
    with Store(tmp_path / "a.h5") as store:
        assert store.digest in output
        assert store.provenance["source"] == SAMPLE.name
        energies = [frame.energy for frame in store]
    run("convert", tmp_path / "a.h5", tmp_path / "a.extxyz")
    run("convert", tmp_path / "a.extxyz", tmp_path / "a.npz")
    assert [f.energy for f in read_frames(tmp_path / "a.npz")] == pytest.approx(energies, rel=1e-14)


def test_units_must_be_said_where_the_file_does_not(tmp_path):
    with np.load(SAMPLE) as arrays:
        np.savez(tmp_path / "bare.npz", **{name: arrays[name] for name in "zREF"})
    assert "--energy-unit" in failure("convert", tmp_path / "bare.npz", tmp_path / "a.h5").message
    assert not (tmp_path / "a.h5").exists()
    output = run("convert", tmp_path / "bare.npz", tmp_path / "a.h5", "--energy-unit", "kcal/mol")
    assert "kcal/mol (option)" in output
    doubtful = run("convert", tmp_path / "bare.npz", tmp_path / "b.h5", "--energy-unit", "eV", "--length-unit", "Å")
    assert "is unusual" in doubtful


def test_force_replaces(tmp_path):
    run("convert", SAMPLE, tmp_path / "a.h5")
    assert failure("convert", SAMPLE, tmp_path / "a.h5").id == "EQ3070"
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


def test_json(tmp_path):
    values = json.loads(run("info", WATER, "--json"))
    assert values["labels"] == {"energy": 5, "forces": 5, "stress": 5}
    assert values["compositions"] == {"H32O16": 5}
    assert values["energy_eV"]["min"] < values["energy_eV"]["mean"] < values["energy_eV"]["max"]
    assert values["elements"] == ["H", "O"]
    assert values["warnings"] == []
    written = json.loads(run("convert", SAMPLE, tmp_path / "a.h5", "--json"))
    assert written["energy_unit"] == "kcal/mol"
    assert written["target_bytes"] == (tmp_path / "a.h5").stat().st_size
    with Store(tmp_path / "a.h5") as store:
        assert written["target_digest"] == store.digest


def test_level_of_theory_and_names_of_labels_are_shown(tmp_path):
    assert "level of theory: GFN2-xTB (tblite)" in run("info", SAMPLE)
    (tmp_path / "a.xyz").write_text("1\nREF_energy=-13.6\nH 0 0 0\n")
    assert "energy from 'REF_energy' (1)" in run("info", tmp_path / "a.xyz")


def test_a_damaged_file_gives_its_good_part_or_the_place(tmp_path):
    (tmp_path / "cut.extxyz").write_bytes(WATER.read_bytes()[:-500])
    assert "frame 4 (byte" in failure("convert", tmp_path / "cut.extxyz", tmp_path / "a.h5").message
    assert not (tmp_path / "a.h5").exists()
    output = run("convert", tmp_path / "cut.extxyz", tmp_path / "a.h5", "--recover")
    assert "frames behind this are lost: EQ3036" in output
    assert len(read_frames(tmp_path / "a.h5")) == 4


def test_bad_frames_are_counted(tmp_path):
    text = WATER.read_text().replace("H  ", "H nan", 1)
    lines = text.splitlines(keepends=True)
    (tmp_path / "bad.extxyz").write_text("".join(lines))
    failure("info", tmp_path / "bad.extxyz")
    output = run("info", tmp_path / "bad.extxyz", "--skip-bad")
    assert "1 frames were left out" in output
    values = json.loads(run("info", tmp_path / "bad.extxyz", "--skip-bad", "--json"))
    assert (values["n_frames"], values["n_skipped"]) == (4, 1)


def test_a_folder_of_deepmd(tmp_path):
    run("convert", WATER, tmp_path / "water", "--to", "deepmd")
    assert "(deepmd)" in run("info", tmp_path / "water")
    assert failure("convert", WATER, tmp_path / "water", "--to", "deepmd", "--force").id == "EQ3078"
    assert "EQ3934: " + str(tmp_path / "no_suffix") + ": the suffix says" in str(
        failure("convert", WATER, tmp_path / "no_suffix")
    )
    run("convert", tmp_path / "water", tmp_path / "again.extxyz")
    assert len(read_frames(tmp_path / "again.extxyz")) == 5


@pytest.mark.parametrize("verb", [["convert"], ["select", "-n", "3"]])
def test_the_file_to_write_is_the_second_argument_or_an_option(tmp_path, verb):
    run(*verb, SAMPLE, tmp_path / "a.h5")
    run(*verb, SAMPLE, "-o", tmp_path / "b.h5")
    with Store(tmp_path / "a.h5") as first, Store(tmp_path / "b.h5") as second:
        assert first.digest == second.digest
    for wrong, reason in (([], "none is given"), ([tmp_path / "c.h5", "-o", tmp_path / "d.h5"], "are two")):
        error = CliRunner().invoke(app, [str(a) for a in (*verb, SAMPLE, *wrong)]).exception
        assert isinstance(error, ConfigError)
        assert error.id == "EQ1460"
        assert reason in error.message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_every_verb_that_writes_frames_or_splits_takes_the_same_option():
    verbs = typer.main.get_command(app).commands
    for name in ("convert", "get", "sample", "select", "split"):
        assert ["--output", "-o"] in [option.opts for option in verbs[name].params], name


def test_a_folder_is_no_file_to_write(tmp_path):
    for force in ([], ["--force"]):
        error = failure("convert", SAMPLE, tmp_path, *force)
        assert error.id == "EQ3077"
        assert f"is a folder; name a file in it, e.g. {tmp_path / 'frames.h5'}" in error.message
