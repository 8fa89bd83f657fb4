"""The evaluate verb from end to end; the shipped potential has the errors its metrics.json states."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from toys import SAMPLE
from typer.testing import CliRunner

from eqff import cli, load
from eqff.data.reading.read import read_frames

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT.parent / "shared" / "data" / "rmd17" / "rmd17_ethanol_test_01.npz"


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    app, runner = cli.build(), CliRunner()
    return lambda *arguments: runner.invoke(app, ["evaluate", "ethanol-nequip", *map(str, arguments)])


def test_npz_with_units_leaves_json_and_pictures(run, tmp_path):
    result = run(SAMPLE, "--energy-unit", "kcal/mol", "-o", "a/eval.json", "--worst", 2)
    assert result.exit_code == 0, result.output
    for word in ("20 frames, 180 atoms", "energies in kcal/mol", "R²", "by element", "worst forces", "GPa"):
        assert (word in result.output) == (word != "GPa")  # no stress here
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "eval.json",
        "eval_errors.png",
        "eval_parity.png",
    ]
    values = json.loads((tmp_path / "a" / "eval.json").read_text())
    frames = read_frames(SAMPLE, energy_unit="kcal/mol")
    potential = load("ethanol-nequip")
    exact = [
        potential.predict_batch([potential.structure(f.positions, f.atomic_numbers, f.cell, f.pbc)])[0] for f in frames
    ]
    error = np.concatenate([(one.forces - f.forces).ravel() for one, f in zip(exact, frames, strict=True)])
    assert values["metrics"]["forces_mae_meV_A"] == pytest.approx(1000 * np.abs(error).mean(), rel=1e-9)
    assert len(values["worst_forces"]) == 2
    assert run(SAMPLE, "--energy-unit", "kcal/mol", "-o", "a/eval.json").exception.id == "EQ1231"


def test_xyz_and_json(run, tmp_path):
    frames = []
    for frame in read_frames(SAMPLE, energy_unit="kcal/mol")[:3]:
        atoms = ase.Atoms(numbers=frame.atomic_numbers, positions=frame.positions)
        atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces)
        frames.append(atoms)
    ase.io.write(tmp_path / "in.extxyz", frames)
    result = run("in.extxyz", "--json", "--no-plot")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["n_frames"] == 3
    assert values["pictures"] == []
    assert values["metrics"] == json.loads((tmp_path / "evaluation.json").read_text())["metrics"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([SAMPLE, "--energy-unit", "eV"], "kcal/mol"),
        (["absent.npz"], "no such file"),
        (["bare.xyz"], "EQ3110"),
        (["bare.xyz", "-o", "out.txt"], "ends in .json"),
    ],
)
def test_errors_name_the_culprit(run, tmp_path, arguments, words):
    (tmp_path / "bare.xyz").write_text("1\n\nO 0 0 0\n")
    result = run(*arguments)
    assert result.exit_code != 0
    assert words in str(result.exception)
    assert not (tmp_path / "evaluation.json").exists()


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.exists(), reason="needs ../shared/data/rmd17")
def test_shipped_potential_has_the_errors_it_states(run, tmp_path):
    stated = json.loads((ROOT / "potentials" / "ethanol-nequip" / "metrics.json").read_text())["test"]
    assert run(PUBLISHED, "--energy-unit", "kcal/mol", "--no-plot").exit_code == 0
    found = json.loads((tmp_path / "evaluation.json").read_text())["metrics"]
    for name in ("forces_mae_meV_A", "forces_rmse_meV_A", "forces_max_meV_A"):
        assert found[name] == pytest.approx(stated[name], rel=1e-5)  # rounding of float32 differs between processors
    assert found["energy_mae_meV"] == pytest.approx(stated["energy_mae_meV"], rel=0.02)


class AskedError(Exception):
    """Carries the program that was asked for."""


@pytest.mark.parametrize(("arguments", "expected"), [((), "ready"), (("--accelerate", "off"), "off")])
def test_the_program_is_chosen(run, monkeypatch, arguments, expected):
    def loaded(potential, device, dtype, accelerate):
        raise AskedError(accelerate)

    monkeypatch.setattr("eqff.artifact.load", loaded)
    assert str(run(SAMPLE, "--energy-unit", "kcal/mol", *arguments).exception) == expected
