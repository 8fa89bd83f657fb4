"""Cohesive and formation energies: by hand, with EMT, and through the verbs."""

import json

import ase.io
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from typer.testing import CliRunner

from eqff import cli
from eqff.artifact.potential import Potential
from eqff.engines.ase import EqffCalculator
from eqff.errors import ConfigError, DataError
from eqff.tasks.binding import References, check_elements, elemental_energies, isolated_energies


def run(*arguments):
    return CliRunner().invoke(cli.build(), [*map(str, arguments), "--threads", "1"])


def test_by_hand():
    water = molecule("H2O")
    references = References({"H": -10.0, "O": -400.0}, {"H": -15.0, "O": -403.0})
    assert references.cohesive(water, -429.0) == pytest.approx((429.0 - 420.0) / 3)
    assert references.formation(water, -436.0) == pytest.approx((-436.0 + 433.0) / 3)
    assert references.cohesive(molecule("CO"), -1.0) is None
    assert References({}, {}).formation(water, 0.0) is None


def test_the_lowest_relaxed_phase_counts():
    phases = [bulk("Cu", "bcc", a=2.95), bulk("Cu", "fcc", a=3.7), bulk("Au", "fcc", a=4.0)]
    energies = elemental_energies(phases, EMT())
    assert energies.keys() == {"Cu", "Au"}
    assert energies["Cu"] == pytest.approx(elemental_energies(phases[1:2], EMT())["Cu"], abs=1e-4)
    assert energies["Cu"] < elemental_energies(phases[:1], EMT())["Cu"] - 1e-3
    assert energies["Cu"] == pytest.approx(-0.007, abs=2e-3), "ASE's EMT of Cu"


def test_phases_that_do_not_fit():
    with pytest.raises(DataError, match="EQ3958: elements: structure 1 is ClNa"):
        elemental_energies([bulk("Cu"), bulk("NaCl", "rocksalt", a=5.6)], EMT())
    with pytest.raises(ConfigError, match="EQ1970: elements: no phase of Cl, which ClNa contains"):
        check_elements({"Na": 0.0}, Atoms("NaCl"))


@pytest.mark.parametrize("verb", ["predict", "eos"])
def test_verbs(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("eqff.tasks.binding.isolated_energies", lambda potential: {"Si": -0.8})
    ase.io.write("si.cif", bulk("Si", a=5.46, cubic=True))
    ase.io.write("elements.extxyz", bulk("Si", a=5.5))
    arguments = {"predict": ["-o", "out.extxyz"], "eos": ["-o", "eos", "--points", 5, "--no-relax"]}[verb]
    result = run(verb, "si-nequip", "si.cif", *arguments, "--elements-from", "elements.extxyz", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    found = found["listed"][0] if verb == "predict" else found
    energy = found["energy_eV"] / 8
    assert found["cohesive_energy_eV_atom"] == pytest.approx(-0.8 - energy, abs=1e-9)
    assert 4.0 < found["cohesive_energy_eV_atom"] < 5.0, "measured: 4.63 eV"
    assert found["formation_energy_eV_atom"] == pytest.approx(0.0, abs=2e-3)
    if verb == "predict":
        written = ase.io.read("out.extxyz").info
        assert written["eqff_cohesive_energy"] == pytest.approx(found["cohesive_energy_eV_atom"], abs=1e-7)
        assert written["eqff_formation_energy"] == pytest.approx(found["formation_energy_eV_atom"], abs=1e-7)


def test_the_header_names_isolated_atoms(monkeypatch):
    potential = EqffCalculator("si-nequip").potential
    assert isolated_energies(potential) == {}
    monkeypatch.setitem(potential.header, "training_data", {"isolated_atoms_eV": {"Si": -0.8}})
    assert isolated_energies(potential) == {"Si": -0.8}
    monkeypatch.setattr(Potential, "baseline", "emt")
    assert isolated_energies(potential) == {}, "of differences from a baseline"
