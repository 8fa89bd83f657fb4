"""The vib verb from end to end."""

import inspect
import json
from dataclasses import fields

import ase.io
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from typer.testing import CliRunner

from eqff import cli
from eqff.cli import vib
from eqff.tasks.vibrations import VibrationsConfig


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    app, runner = cli.build(), CliRunner()
    options = ["--threads", str(torch.get_num_threads())]
    return lambda *arguments: runner.invoke(app, ["vib", "ethanol-nequip", *map(str, arguments), *options])


def test_ethanol_in_words_and_files(run, tmp_path):
    result = run("--fmax", "1e-4")
    assert result.exit_code == 0, result.output
    for word in ("C2H6O: 27 modes", "relaxed first", "free motions of the whole: 6", "zero-point energy  2.1"):
        assert word in result.output
    assert "IMAGINARY" not in result.output
    assert "at 298.15 K and 1 bar: ideal gas, nonlinear, symmetry number 1" in result.output
    entropy = float(result.output.split(" meV/K = ")[1].split()[0])
    assert entropy == pytest.approx(270.0, abs=4.0)  # one conformer of ethanol; measured with all of them: 281
    assert (tmp_path / "vib" / "frequencies.png").read_bytes()[1:4] == b"PNG"
    assert len(list((tmp_path / "vib" / "modes").iterdir())) == 21


def test_unrelaxed_with_a_warning_and_json(run, tmp_path):
    atoms = molecule("CH3CH2OH")
    atoms.positions[3, 0] += 0.1
    ase.io.write("start.xyz", [atoms, atoms])
    result = run("start.xyz", "-o", "out", "--no-relax", "--no-modes", "--json")
    assert result.exit_code == 0, result.output
    assert "no stationary point" in result.stderr
    report = json.loads(result.stdout)
    assert report["thermochemistry"]["pressure_bar"] == 1.0
    assert report["thermochemistry"]["n_imaginary_ignored"] == report["n_imaginary"]
    assert report["relax_steps"] is None
    assert report["kinds"].count("rigid") == 6
    assert len(report["frequencies_cm1"]) == 27
    assert not (tmp_path / "out" / "modes").exists()


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        (["absent.xyz"], "EQ3024"),
        (["argon.xyz"], "EQ2101"),
        (["two.xyz", "--index", ":"], "EQ1962"),
        (["two.xyz", "-o", "two.xyz"], "EQ1254"),
        (["two.xyz", "--steps", "0"], "EQ5322"),
        (["two.xyz", "--fmax", "0"], "EQ1241"),
        (["two.xyz", "--temperature", "0"], "EQ1491"),
    ],
)
def test_errors(run, tmp_path, arguments, id):
    ase.io.write("argon.xyz", Atoms("Ar"))
    ase.io.write("two.xyz", [molecule("CH3CH2OH")] * 2)
    result = run(*arguments)
    assert result.exit_code != 0
    assert result.exception.id == id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["argon.xyz", "two.xyz"]


def test_defaults_are_those_of_the_task():
    options = {name: parameter.default for name, parameter in inspect.signature(vib.command).parameters.items()}
    for field in fields(VibrationsConfig):
        assert options[field.name] == field.default
    assert options["dtype"] == "float64"


class AskedError(Exception):
    """Carries what a calculator was asked for."""


def test_runs_the_program_that_can_be_differentiated_twice(run, monkeypatch):
    def calculator(potential, **options):
        raise AskedError(options["accelerate"])

    monkeypatch.setattr("eqff.engines.ase.EqffCalculator", calculator)
    assert str(run().exception) == "off"
