"""A potential of differences and its baseline: sums, forces, conservation, and everything that must be refused."""

import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest
import toys
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.calculators.emt import EMT
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.md.verlet import VelocityVerlet
from toys import Repulsion, diamond, ethanol

from eqff import artifact
from eqff.artifact.potential import Prediction
from eqff.config import to_mapping
from eqff.data.frame import Frame
from eqff.digest import file_sha256
from eqff.engines.ase import EqffCalculator
from eqff.engines.ase.baseline import baseline_of
from eqff.errors import ConfigError, PotentialError
from eqff.exporter import export
from eqff.models import nequip
from eqff.tasks.neb import BatchedNEB
from eqff.training.prepare.baseline import _check_record

R_MAX = 4.0
CONFIG = nequip.Config(species=("H", "C", "O"), r_max=R_MAX, l_max=1, n_layers=1, n_channels=4)


class Springs(Calculator):
    """Every pair of atoms on a spring of 1.5 Å; neither stress nor energies of atoms; remembers how often it was asked.

    `noise` is added to the energy each time it goes on without reset, as a wave function that is kept would.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, stiffness=0.5, noise=0.0):
        super().__init__()
        self.stiffness, self.noise, self.n_calls, self.n_since_reset = stiffness, noise, 0, 0

    def reset(self):
        super().reset()
        self.n_since_reset = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.n_calls += 1
        vectors = self.atoms.positions[:, None] - self.atoms.positions[None]
        lengths = np.linalg.norm(vectors, axis=2) + np.eye(len(self.atoms))
        stretch = (lengths - 1.5) * (1 - np.eye(len(self.atoms)))
        energy = 0.25 * self.stiffness * (stretch**2).sum() + self.noise * self.n_since_reset
        self.n_since_reset += 1
        forces = -self.stiffness * (stretch / lengths)[:, :, None] * vectors
        self.results = {"energy": float(energy), "forces": forces.sum(1)}


class Failing(Calculator):
    """Dies of a structure with a short bond."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if self.atoms.get_all_distances()[0, 1:].min() < 0.5:
            raise RuntimeError("SCF did not\nconverge")
        self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


def record_of(calculator, name="ase.calculators.emt:EMT", sha256=None):
    """What a header says of a baseline."""
    atoms = molecule("H2O")
    atoms.calc = calculator
    frame = Frame(atomic_numbers=atoms.numbers, positions=atoms.positions)
    result = Prediction(atoms.get_potential_energy(), None, atoms.get_forces(), None)
    return {"name": name, "level_of_theory": "of a test", "sha256": sha256, "check": _check_record(frame, result)}


def potential_of(record, **changes):
    header = {} if record is None else {"baseline": record}
    return toys.potential_of(Repulsion(), header=header, **changes)


@pytest.fixture
def on_emt():
    return EqffCalculator(potential_of(record_of(EMT())))


@pytest.fixture
def on_springs():
    return EqffCalculator(potential_of(record_of(Springs())), baseline=Springs())


@pytest.mark.parametrize("make", [ethanol, diamond])
def test_results_are_those_of_potential_and_baseline_together(make, on_emt):
    whole, difference, emt = make(), make(), make()
    whole.calc, difference.calc, emt.calc = on_emt, EqffCalculator(potential_of(None)), EMT()
    assert whole.get_potential_energy() == pytest.approx(
        difference.get_potential_energy() + emt.get_potential_energy(), abs=1e-10
    )
    np.testing.assert_allclose(whole.get_forces(), difference.get_forces() + emt.get_forces(), atol=1e-10)
    energies = difference.get_potential_energies() + emt.get_potential_energies()
    np.testing.assert_allclose(whole.get_potential_energies(), energies, atol=1e-10)
    if whole.pbc.all():
        np.testing.assert_allclose(whole.get_stress(), difference.get_stress() + emt.get_stress(), atol=1e-10)
    assert float(np.abs(emt.get_forces()).max()) > 0.1  # there was something to add
    assert on_emt.program == "TorchScript + ase.calculators.emt:EMT"


def test_forces_and_stress_of_the_sum_are_derivatives_of_its_energy(on_emt, on_springs):
    atoms, solid = ethanol(), diamond()
    atoms.calc, solid.calc = on_springs, on_emt
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-5)
    np.testing.assert_allclose(solid.get_stress(), calculate_numerical_stress(solid, eps=1e-4), atol=1e-5)


def test_dynamics_of_the_sum_conserves_its_energy(on_springs):
    atoms = ethanol()
    atoms.calc = on_springs
    momenta = np.random.default_rng(0).standard_normal((len(atoms), 3))
    atoms.set_momenta(momenta * np.sqrt(atoms.get_masses() * units.kB * 300.0)[:, None])
    errors, exchanged = {}, []
    for timestep in (0.2, 0.1):
        moving = atoms.copy()
        moving.calc = on_springs
        moving.set_momenta(atoms.get_momenta())
        energies = []
        dynamics = VelocityVerlet(moving, timestep * units.fs)
        dynamics.attach(lambda moving=moving, energies=energies: energies.append(moving.get_total_energy()))
        dynamics.run(round(10.0 / timestep))
        errors[timestep] = np.ptp(energies)
        exchanged.append(abs(moving.get_kinetic_energy() - atoms.get_kinetic_energy()))
    assert errors[0.1] < 0.01 * min(exchanged)
    assert 3.0 < errors[0.2] / errors[0.1] < 5.0  # second order: the forces are those of the energy


def test_what_the_baseline_lacks_the_sum_lacks(on_springs):
    atoms = diamond()
    atoms.calc = on_springs
    atoms.get_forces()
    assert set(on_springs.results) == {"energy", "free_energy", "forces"}
    with pytest.raises(PropertyNotImplementedError, match="baseline"):
        atoms.get_stress()


def test_results_do_not_depend_on_what_was_computed_before():
    calculator = EqffCalculator(potential_of(record_of(Springs())), baseline=Springs(noise=1.0))
    atoms = ethanol()
    atoms.calc = calculator
    first = atoms.get_potential_energy()
    other = atoms.copy()
    other.rattle(0.1, seed=9)
    calculator.get_potential_energy(other)
    assert calculator.get_potential_energy(atoms) == first


def test_state_of_the_atoms_does_not_reach_the_baseline():
    class Charged(Springs):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            self.results["energy"] += 10.0 * float(self.atoms.get_initial_charges().sum())

    calculator = EqffCalculator(potential_of(record_of(Springs())), baseline=Charged())
    atoms = ethanol()
    plain = calculator.get_potential_energy(atoms)
    atoms.set_initial_charges([1.0] * len(atoms))
    with pytest.warns(UserWarning, match="charge"):
        assert calculator.get_potential_energy(atoms) == plain


def test_second_derivatives_of_the_sum(on_springs):
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=0)
    found = on_springs.get_hessian(atoms)
    expected = np.zeros((9, 9))
    for k in range(9):
        forces = []
        for step in (1e-4, -1e-4):
            moved = atoms.copy()
            moved.positions.flat[k] += step
            forces.append(on_springs.get_forces(moved).reshape(-1))
        expected[k] = (forces[1] - forces[0]) / 2e-4
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(on_springs.get_hessian(atoms, [1]), found[3:6], atol=1e-12)


def test_copies_and_pickles_add_the_baseline_too(tmp_path, monkeypatch, on_emt):
    atoms = ethanol()
    expected = on_emt.get_potential_energy(atoms)
    assert copy.deepcopy(on_emt).get_potential_energy(atoms) == expected
    monkeypatch.setattr("eqff.exporter.prove_in_fresh_process", lambda path: None)
    path = tmp_path / "difference.eqff.pt"
    export(nequip.Model(CONFIG), "nequip", to_mapping(CONFIG), path, baseline=record_of(EMT()))
    calculator = EqffCalculator(path)
    expected = calculator.get_potential_energy(atoms)
    again = pickle.loads(pickle.dumps(EqffCalculator(path, baseline=EMT())))
    assert again.get_potential_energy(atoms) == expected
    difference = float(calculator.potential(calculator.potential.structure(*_arrays(atoms))).energy[0])
    assert expected == pytest.approx(difference + EMT().get_potential_energy(atoms), abs=1e-9)
    header = artifact.inspect(path)
    assert header["format"] == 3  # a reader that knows no baseline refuses it


def _arrays(atoms):
    return atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc


def test_batches_are_refused_where_nothing_is_added(on_emt):
    with pytest.raises(PotentialError, match=r"EQ4361.*emt:EMT"):
        on_emt.potential.predict([ethanol()])


def test_bands_of_images_add_the_baseline(on_emt):
    images = [ethanol() for _ in range(3)]
    for k, image in enumerate(images):
        image.rattle(0.02, seed=k)
    BatchedNEB(images, on_emt.potential)
    for image in images:
        assert image.get_potential_energy() == pytest.approx(on_emt.get_potential_energy(image), abs=1e-9)
        np.testing.assert_allclose(image.get_forces(), on_emt.get_forces(image), atol=1e-9)


def test_another_baseline_is_refused():
    potential = potential_of(record_of(Springs()))
    with pytest.raises(PotentialError, match=r"EQ4364.*eV/Å"):
        EqffCalculator(potential, baseline=Springs(stiffness=0.6)).get_potential_energy(ethanol())
    assert baseline_of(potential_of(None)) is None
    with pytest.raises(ConfigError, match=r"EQ1443.*whole"):
        EqffCalculator(potential_of(None), baseline=Springs()).get_potential_energy(ethanol())
    with pytest.raises(ConfigError, match=r"EQ1925.*expected an ASE calculator"):
        EqffCalculator(potential, baseline="emt").get_potential_energy(ethanol())


@pytest.mark.parametrize(
    ("name", "reason"),
    [("tblite:GFN2-xTB", "EQ6911"), ("no_such_module:make", "EQ1926"), ("json:loads", "TypeError|missing 1 required")],
)
def test_a_baseline_that_cannot_be_made(name, reason, monkeypatch):
    real = __import__("importlib").import_module

    def without(module, *rest):
        if module.startswith("tblite"):
            raise ModuleNotFoundError(f"No module named {module!r}")
        return real(module, *rest)

    monkeypatch.setattr("importlib.import_module", without)
    with pytest.raises(PotentialError, match=rf"EQ4360.*{name}.*({reason}).*baseline=") as caught:
        EqffCalculator(potential_of(record_of(EMT(), name))).get_potential_energy(ethanol())
    assert "of a test" in str(caught.value)  # the level of theory


def test_a_baseline_that_fails_is_named():
    calm = molecule("H2O")
    calculator = EqffCalculator(potential_of(record_of(Failing())), baseline=Failing())
    assert np.isfinite(calculator.get_potential_energy(calm))
    near = Atoms("CO", [[0, 0, 0], [0, 0, 0.45]])
    with pytest.raises(PotentialError, match=r"EQ4362.*RuntimeError: SCF did not converge"):
        calculator.get_potential_energy(near)
    assert calculator.results == {}
    with pytest.raises(PotentialError, match=r"EQ4925.*not finite"):
        baseline_of(potential_of(record_of(Springs())), Springs(stiffness=np.nan))


def test_a_potential_as_baseline_is_known_by_its_content(tmp_path, monkeypatch):
    monkeypatch.setattr("eqff.exporter.prove_in_fresh_process", lambda path: None)
    monkeypatch.setenv("EQFF_POTENTIALS", str(tmp_path / "named"))
    base, own = tmp_path / "base.eqff.pt", tmp_path / "run" / "best.eqff.pt"
    own.parent.mkdir()
    export(nequip.Model(CONFIG), "nequip", to_mapping(CONFIG), base)
    record = record_of(EqffCalculator(base), "base.eqff.pt", file_sha256(base))
    potential = potential_of(json.loads(json.dumps(record)), path=own)
    monkeypatch.chdir(tmp_path / "run")
    with pytest.raises(PotentialError, match=r"EQ4360.*EQ4363.*" + record["sha256"]):
        baseline_of(potential)
    (own.parent / "another_name.eqff.pt").write_bytes(base.read_bytes())  # beside it, under any name
    atoms = ethanol()
    expected = EqffCalculator(base).get_potential_energy(atoms)
    assert baseline_of(potential)(*_arrays(atoms)).energy == expected
    other = dataclasses.replace(CONFIG, seed=CONFIG.seed + 1)
    export(nequip.Model(other), "nequip", to_mapping(other), own.parent / "another_name.eqff.pt", force=True)
    with pytest.raises(PotentialError, match="EQ4363"):
        baseline_of(potential)
    named = tmp_path / "named" / "base" / "base.eqff.pt"
    named.parent.mkdir(parents=True)
    named.write_bytes(base.read_bytes())
    record["name"] = "base"
    assert baseline_of(potential_of(record, path=own))(*_arrays(atoms)).energy == expected
