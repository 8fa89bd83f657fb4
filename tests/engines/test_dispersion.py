"""DFT-D3 as an addition: the library's own numbers, derivatives, and every door through which it is asked for."""

import copy
import json
import pickle
import sys

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from dftd3.ase import DFTD3
from typer.testing import CliRunner

import eqff
from eqff import cli
from eqff.engines.ase import EqffCalculator
from eqff.engines.ase.calculators import calculator_maker
from eqff.errors import ConfigError, PotentialError, ResourceError


def silicon():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.parametrize(("name", "damping"), [("d3:PBE", "d3bj"), ("D3BJ:pbe", "d3bj"), ("d3zero:PBE", "d3zero")])
def test_the_sum_of_potential_and_library(name, damping):
    atoms = silicon()
    results = []
    calculators = EqffCalculator("si-nequip", dtype="float64"), DFTD3(method="PBE", damping=damping)
    for calculator in (*calculators, EqffCalculator("si-nequip", dtype="float64", add=name)):
        atoms.calc = calculator
        results.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    alone, correction, both = results
    assert correction[0] < -1.0
    for part in range(3):
        np.testing.assert_allclose(both[part], alone[part] + correction[part], atol=1e-10)
    assert calculator.program.endswith(f" + {name}")
    assert f"add={name!r}" in repr(calculator)


def test_forces_and_stress_are_derivatives():
    atoms = silicon()
    atoms.calc = EqffCalculator("si-nequip", dtype="float64", add="d3:PBE")
    forces, moved = atoms.get_forces(), []
    for sign in (1.0, -1.0):
        atoms.positions[3, 1] += sign * 1e-3
        moved.append(atoms.get_potential_energy())
        atoms.positions[3, 1] -= sign * 1e-3
    assert forces[3, 1] == pytest.approx((moved[1] - moved[0]) / 2e-3, abs=2e-5)
    stress, step, volume = atoms.get_stress(), 1e-4, atoms.get_volume()
    energies = []
    for sign in (1.0, -1.0):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) + sign * step * np.diag([1.0, 0.0, 0.0])), scale_atoms=True)
        strained.calc = atoms.calc
        energies.append(strained.get_potential_energy())
    assert stress[0] == pytest.approx((energies[0] - energies[1]) / (2.0 * step * volume), abs=2e-6)


def test_copies_pickles_and_changes_keep_it():
    atoms = molecule("CH3CH2OH")
    plain, added = (EqffCalculator("ethanol-nequip", add=add) for add in (None, "d3:PBE"))
    energy = added.get_potential_energy(atoms)
    assert energy < plain.get_potential_energy(atoms) - 0.01
    for twin in (copy.deepcopy(added), pickle.loads(pickle.dumps(added))):
        assert twin.get_potential_energy(atoms) == energy
    added.set(add=None)
    assert added.get_potential_energy(atoms) == plain.get_potential_energy(atoms)
    added.set(add="d3:PBE")
    assert added.get_potential_energy(atoms) == energy
    with pytest.raises(PropertyNotImplementedError):
        added.get_stress(atoms)


def test_names_that_are_none(monkeypatch):
    atoms = molecule("H2O")
    for name, error_id in (("d3:no-such-functional", "EQ1236"), ("d4:PBE", "EQ1235"), ("d3", "EQ1235")):
        with pytest.raises(ConfigError, match=error_id):
            EqffCalculator("ethanol-nequip", add=name).get_potential_energy(atoms)
    monkeypatch.setitem(sys.modules, "dftd3.ase", None)
    with pytest.raises(ResourceError, match=r"EQ6915.*pip install 'eqff\[dispersion\]'"):
        calculator_maker("d3:PBE")()


def test_verbs_add_it_and_say_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atoms = molecule("CH3CH2OH")
    ase.io.write("ethanol.xyz", atoms)
    runner, app = CliRunner(), cli.build()

    def run(*arguments):
        result = runner.invoke(app, [*map(str, arguments), "--add", "d3:PBE"])
        assert result.exit_code == 0, result.output
        return result.stdout

    expected = EqffCalculator("ethanol-nequip", add="d3:PBE").get_potential_energy(atoms)
    found = json.loads(run("predict", "ethanol-nequip", "ethanol.xyz", "-o", "out.extxyz", "--json"))
    assert found["program"].endswith(" + d3:PBE")
    assert ase.io.read("out.extxyz").info["eqff_energy"] == pytest.approx(expected, abs=1e-6)
    ase.io.write("labelled.extxyz", ase.io.read("out.extxyz"))
    run("relax", "ethanol-nequip", "ethanol.xyz", "-o", "relaxed.extxyz", "--fmax", "0.05")
    relaxed = ase.io.read("relaxed.extxyz")
    again = EqffCalculator("ethanol-nequip", add="d3:PBE").get_potential_energy(relaxed)
    assert relaxed.get_potential_energy() == pytest.approx(again, abs=1e-6)
    labels = ["--energy-key", "eqff_energy", "--forces-key", "eqff_forces"]
    shown = run("evaluate", "ethanol-nequip", "labelled.extxyz", *labels, "--no-plot", "--json")
    assert json.loads(shown)["add"] == "d3:PBE"
    assert json.loads(shown)["metrics"]["forces_mae_meV_A"] < 1e-2
    run("vib", "ethanol-nequip", "ethanol.xyz", "-o", "vib", "--no-plot")
    assert json.loads((tmp_path / "vib" / "provenance.json").read_text())["program"].endswith(" + d3:PBE")
    run("md", "ethanol-nequip", "--structure", "ethanol.xyz", "--steps", "3", "-o", "md.extxyz", "--no-plot")
    assert len(ase.io.read("md.extxyz")) == 9


def test_two_body_terms_only():
    atoms = silicon()
    atoms.calc = calculator_maker("d3:PBE")()
    energy, energies = atoms.get_potential_energy(), []
    for three_body in (False, True):
        atoms.calc = DFTD3(damping="d3bj", params_tweaks={"method": "PBE", "atm": three_body})
        energies.append(atoms.get_potential_energy())
    assert energy == energies[0]
    assert abs(energy - energies[1]) > 0.05


def test_elements_beyond_d3_are_refused():
    atoms = Atoms([104, 1], [[0, 0, 0], [0, 0, 2.0]])
    atoms.calc = calculator_maker("d3:PBE")()
    with pytest.raises(PotentialError, match=r"EQ4926: d3:PBE: D3 ends with element 103, not 104"):
        atoms.get_potential_energy()


def test_dispersion_is_not_counted_twice(monkeypatch):
    atoms, potential = silicon(), eqff.load("si-nequip")
    for level in ("PBE-D3(BJ)", "B3LYP+D3", "revPBE D4", "wB97X-D3"):
        monkeypatch.setitem(potential.header, "level_of_theory", level)
        with pytest.raises(ConfigError, match="EQ1969"):
            EqffCalculator(potential, add="d3:PBE").get_potential_energy(atoms)
    monkeypatch.setitem(potential.header, "level_of_theory", "PBE, 3D grid, CD3OD")
    assert EqffCalculator(potential, add="d3:PBE").get_potential_energy(atoms) < 0.0
