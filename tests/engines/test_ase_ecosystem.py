"""The calculator among ASE's tools and their neighbours: each does with it what it does with any other calculator."""

import json
import multiprocessing
import operator
import os
import subprocess
import sys

import ase.db
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.mixing import SumCalculator
from ase.constraints import FixAtoms, FixBondLength
from ase.filters import FrechetCellFilter, StrainFilter, UnitCellFilter
from ase.io import read, write
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import IsotropicMTKNPT, NoseHooverChainNVT
from ase.mep import NEB
from ase.optimize import BFGS, FIRE, LBFGS, BFGSLineSearch, MDMin
from ase.phonons import Phonons
from ase.vibrations import Vibrations
from torch import nn
from toys import potential_of, tiny_file

from eqff.engines.ase import EqffCalculator
from eqff.errors import ConfigError, GraphError

R_MAX = 4.0
FORK_WITH_THREADS = """
import multiprocessing, operator, sys
import torch
from ase.build import molecule
from eqff.engines.ase import EqffCalculator
torch.set_num_threads(2)
atoms = molecule("CH3CH2OH")
atoms.calc = EqffCalculator(sys.argv[1])
expected = atoms.get_potential_energy()
atoms.calc.results = {}
ask = operator.methodcaller("get_potential_energy")
with multiprocessing.get_context("fork").Pool(1, torch.set_num_threads, (1,)) as pool:
    assert abs(pool.map(ask, [atoms])[0] - expected) < 1e-6
with multiprocessing.get_context("fork").Pool(1) as pool:
    pool.map(ask, [atoms])
"""


class Toy(nn.Module):
    """Pairs that bind near 1.4 Å, cut off smoothly."""

    def forward(self, species, senders, receivers, edge_vector):
        square = (edge_vector**2).sum(1)
        pair = 0.2 * ((2.0 / square) ** 4 - 2 * (2.0 / square) ** 2) * (1 - square / R_MAX**2).clamp(min=0) ** 3
        pair = pair * (1 + 0.1 * species[receivers]) * (1 + 0.1 * species[senders])
        return torch.zeros(len(species), dtype=torch.float64).index_add(0, receivers, pair)


class Dispersion(Calculator):
    """-C6 / r^6 over all pairs: what is added to a potential as DFT-D3 would be."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)):
        super().calculate(atoms, properties, system_changes)
        vector = atoms.get_all_distances(vector=True)  # [i, j] = r_j - r_i
        square = (vector**2).sum(2) + np.eye(len(atoms)) * 1e9
        self.results = {
            "energy": -0.5 * (1 / square**3).sum(),
            "forces": (6 * vector / square[:, :, None] ** 4).sum(1),
        }


@pytest.fixture
def calculator():
    return EqffCalculator(potential_of(Toy()))


@pytest.fixture(scope="module")
def potential_file(tmp_path_factory):
    yield from tiny_file(tmp_path_factory)


@pytest.fixture
def ethanol(calculator):
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    atoms.calc = calculator
    return atoms


@pytest.fixture
def crystal(calculator):
    atoms = bulk("C", "fcc", a=2.2)
    atoms *= (2, 1, 1)
    atoms.rattle(0.03, seed=1)
    atoms.calc = calculator
    return atoms


def relaxed(atoms, fmax=1e-3):
    assert FIRE(atoms, logfile=None).run(fmax=fmax, steps=1000)
    return atoms


@pytest.mark.parametrize("optimizer", [BFGS, LBFGS, BFGSLineSearch, MDMin])
def test_optimizers_find_the_same_minimum(ethanol, optimizer):
    expected = relaxed(ethanol).get_potential_energy()
    ethanol.rattle(0.02, seed=2)
    assert ethanol.get_potential_energy() > expected + 1e-3
    assert optimizer(ethanol, logfile=None).run(fmax=1e-3, steps=500)
    assert ethanol.get_potential_energy() == pytest.approx(expected, abs=1e-5)


def test_constraints_hold_in_a_relaxation(ethanol):
    bond = ethanol.get_distance(0, 1)
    fixed = ethanol.positions[5].copy()
    ethanol.set_constraint([FixAtoms([5]), FixBondLength(0, 1)])
    assert np.abs(ethanol.get_forces(apply_constraint=False)[5]).max() > 1e-3
    relaxed(ethanol, fmax=0.01)
    assert np.array_equal(ethanol.positions[5], fixed)
    assert ethanol.get_distance(0, 1) == pytest.approx(bond, abs=1e-5)


@pytest.mark.parametrize("cell_filter", [FrechetCellFilter, UnitCellFilter, StrainFilter])
def test_cell_filters_remove_the_stress(crystal, cell_filter):
    assert np.abs(crystal.get_stress()).max() > 0.05
    assert LBFGS(cell_filter(crystal), logfile=None).run(fmax=1e-3, steps=500)
    assert np.abs(crystal.get_stress()).max() < 2e-3


@pytest.mark.parametrize(
    ("integrator", "options"),
    [
        (Langevin, {"temperature_K": 300, "friction": 0.01 / units.fs, "fixcm": False}),
        (Bussi, {"temperature_K": 300, "taut": 50 * units.fs}),
        (NoseHooverChainNVT, {"temperature_K": 300, "tdamp": 50 * units.fs}),
        (IsotropicMTKNPT, {"temperature_K": 300, "tdamp": 50 * units.fs, "pressure_au": 0.1, "pdamp": 50 * units.fs}),
    ],
)
def test_thermostats_and_barostats(crystal, integrator, options):
    crystal.set_momenta(np.random.default_rng(0).normal(size=(len(crystal), 3)))
    if integrator in (Langevin, Bussi):
        options = options | {"rng": np.random.RandomState(1)}
    before, volume = crystal.positions.copy(), crystal.get_volume()
    integrator(crystal, timestep=0.5 * units.fs, **options).run(10)
    assert np.abs(crystal.positions - before).max() > 1e-3
    assert np.isfinite(crystal.get_total_energy())
    assert (crystal.get_volume() == volume) == (integrator is not IsotropicMTKNPT)


def test_vibrations(ethanol, tmp_path):
    """Central differences of the forces against the analytic Hessian."""
    relaxed(ethanol)
    vibrations = Vibrations(ethanol, name=str(tmp_path / "vib"), delta=1e-3)
    vibrations.run()
    found = vibrations.get_vibrations().get_hessian_2d()
    expected = ethanol.calc.get_hessian(ethanol)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_phonons(calculator, tmp_path):
    """At Gamma of a supercell of one cell, the frequencies are those of the analytic Hessian."""
    atoms = bulk("C", "diamond", a=3.0)
    atoms.rattle(0.02, seed=0)
    atoms.calc = calculator
    phonons = Phonons(atoms, calculator, supercell=(1, 1, 1), delta=1e-3, name=str(tmp_path / "phonon"))
    phonons.run()
    phonons.read(acoustic=False, symmetrize=0)
    (found,) = phonons.band_structure([[0, 0, 0]], verbose=False)
    dynamical = calculator.get_hessian(atoms) / atoms.get_masses()[0]
    values = np.linalg.eigvalsh(dynamical)
    expected = np.sign(values) * np.sqrt(np.abs(values)) * units._hbar * 1e10 / np.sqrt(units._e * units._amu)
    assert np.abs(expected).max() > 0.01
    assert np.allclose(np.sort(found[3:]), expected[3:], rtol=1e-3)


def test_phonopy(calculator):
    """Run where phonopy is installed; it is in no extra of this package."""
    phonopy = pytest.importorskip("phonopy")
    from phonopy.structure.atoms import PhonopyAtoms

    atoms = bulk("C", "diamond", a=3.0)
    cell = PhonopyAtoms(
        symbols=list(atoms.symbols), cell=atoms.cell.array, scaled_positions=atoms.get_scaled_positions()
    )
    phonon = phonopy.Phonopy(cell, np.eye(3, dtype=int) * 2, primitive_matrix=np.eye(3))
    phonon.generate_displacements(distance=1e-3)
    forces = []
    for supercell in phonon.supercells_with_displacements:
        image = Atoms(supercell.symbols, cell=supercell.cell, scaled_positions=supercell.scaled_positions, pbc=True)
        image.calc = calculator
        forces.append(image.get_forces())
    phonon.forces = forces
    phonon.produce_force_constants()
    phonon.run_qpoints([[0, 0, 0]])
    found = phonon.qpoints.frequencies[0]  # THz
    values = np.linalg.eigvalsh(calculator.get_hessian(atoms) / atoms.get_masses()[0])[3:]
    expected = np.sqrt(values * units._e * 1e20 / units._amu) / (2 * np.pi) / 1e12
    assert np.abs(found[:3]).max() < 0.1
    assert np.allclose(found[3:], expected, rtol=1e-3)


def test_neb_with_a_shared_calculator(ethanol):
    """The same path as with one calculator an image, although every image displaces the list of the other."""
    start = relaxed(ethanol, fmax=0.02)
    end = start.copy()
    end.rattle(0.2, seed=4)
    paths = []
    for shared in (True, False):
        images = [start.copy() for _ in range(4)] + [end.copy()]
        for image in images:
            image.calc = start.calc if shared else EqffCalculator(start.calc.potential)
        neb = NEB(images, allow_shared_calculator=shared, method="improvedtangent")
        neb.interpolate()
        FIRE(neb, logfile=None).run(fmax=0.0, steps=5)
        paths.append([image.positions for image in images])
    assert np.array_equal(*paths)


def test_sum_with_a_dispersion_correction(ethanol):
    energy, forces = ethanol.get_potential_energy(), ethanol.get_forces()
    ethanol.calc = SumCalculator([ethanol.calc, Dispersion()])
    twin = ethanol.copy()
    twin.calc = Dispersion()
    assert ethanol.get_potential_energy() == pytest.approx(energy + twin.get_potential_energy(), abs=1e-12)
    assert np.allclose(ethanol.get_forces(), forces + twin.get_forces(), atol=1e-12)
    assert np.abs(twin.get_forces()).max() > 1e-3
    relaxed(ethanol, fmax=0.02)


def test_database(potential_file, tmp_path):
    """A row keeps energy, forces and what calculated them, enough to make that calculator again."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = EqffCalculator(potential_file, dtype="float64", skin=0.3)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    with ase.db.connect(tmp_path / "rows.db") as database:
        database.write(atoms, note="ours")
    row = ase.db.connect(tmp_path / "rows.db").get(note="ours")
    assert row.energy == energy
    assert np.array_equal(row.forces, forces)
    assert row.calculator == "eqff"
    parameters = json.loads(json.dumps(row.calculator_parameters))
    assert parameters == atoms.calc.todict()
    again = row.toatoms()
    assert again.get_potential_energy() == energy
    again.calc = EqffCalculator(**parameters)
    assert np.allclose(again.get_forces(), forces, atol=1e-12)


@pytest.mark.parametrize("name", ["a.traj", "a.extxyz"])
def test_results_travel_in_files(crystal, tmp_path, name):
    crystal.get_stress()
    write(tmp_path / name, crystal)
    found = read(tmp_path / name)
    assert found.get_potential_energy() == pytest.approx(crystal.get_potential_energy(), abs=1e-7)
    assert np.allclose(found.get_forces(), crystal.get_forces(), atol=1e-7)
    assert np.allclose(found.get_stress(), crystal.get_stress(), atol=1e-7)


def jobs(potential_file):
    """Structures with a calculator each, not calculated, and their energies."""
    made = [molecule(name) for name in ("CH3CH2OH", "H2O", "CH4")]
    for atoms in made:
        atoms.calc = EqffCalculator(potential_file, dtype="float64")
    energies = [atoms.get_potential_energy() for atoms in made]
    for atoms in made:
        atoms.calc.reset()
    return made, energies


ENERGY = operator.methodcaller("get_potential_energy")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(potential_file, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    made, energies = jobs(potential_file)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map(ENERGY, made) == pytest.approx(energies, abs=1e-9)


def test_joblib(potential_file):
    joblib = pytest.importorskip("joblib")
    made, energies = jobs(potential_file)
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(ENERGY)(atoms) for atoms in made)
    assert found == pytest.approx(energies, abs=1e-9)


@pytest.mark.slow
def test_a_fork_with_threads_is_refused_where_it_would_hang(potential_file, tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "XDG_CACHE_HOME": str(tmp_path)}
    program = [sys.executable, "-W", "ignore", "-c", FORK_WITH_THREADS, str(potential_file)]
    child = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=100)
    assert "ConfigError EQ1309: threads=2: this process was forked" in child.stderr
    assert "AssertionError" not in child.stderr


def test_a_fork_is_known_by_its_process(ethanol, monkeypatch):
    ethanol.get_potential_energy()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    ethanol.rattle(0.01, seed=0)
    with pytest.raises(ConfigError, match=r"EQ1309.*spawn"):
        ethanol.get_forces()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert np.isfinite(ethanol.get_forces()).all()


STATES = {
    "charge": lambda atoms: atoms.info.update(charge=1),
    "total_charge": lambda atoms: atoms.info.update(total_charge=-1.0),
    "spin": lambda atoms: atoms.info.update(spin=1),
    "spin_multiplicity": lambda atoms: atoms.info.update(spin_multiplicity=3),
    "initial_charges": lambda atoms: atoms.set_initial_charges([0.5, -0.5] + [0] * 7),
    "initial_magmoms": lambda atoms: atoms.set_initial_magnetic_moments([1.0] + [0] * 8),
}


@pytest.mark.parametrize("name", list(STATES))
def test_charge_and_spin_are_warned_of_once_or_refused(ethanol, name):
    strict = EqffCalculator(ethanol.calc.potential, strict=True)
    expected = ethanol.get_potential_energy()
    strict.calculate(ethanol)
    STATES[name](ethanol)
    with pytest.warns(UserWarning, match=rf"{name}.* is not looked at: the potential knows neither charge nor spin"):
        assert ethanol.get_potential_energy() == expected, "also where the result was known already"
    ethanol.rattle(0.01, seed=0)
    ethanol.get_forces()  # a second warning would be an error here
    for _ in range(2):
        with pytest.raises(GraphError, match=rf"EQ2114: atoms: .*{name}.*strict=True"):
            strict.get_potential_energy(ethanol)
        with pytest.raises(GraphError, match="EQ2114"):
            strict.calculate(ethanol)
        assert strict.results == {}


def test_neutral_singlets_pass(ethanol):
    ethanol.info |= {"charge": 0, "total_charge": 0.0, "spin": 0, "spin_multiplicity": 1, "multiplicity": None}
    ethanol.set_initial_charges(np.zeros(9))
    ethanol.set_initial_magnetic_moments(np.zeros(9))
    for strict in (False, True):
        EqffCalculator(ethanol.calc.potential, strict=strict).calculate(ethanol)


def test_strict_is_an_option_like_the_others(potential_file):
    assert "strict" not in EqffCalculator(potential_file).todict(), "only what is not the default"
    strict = EqffCalculator(potential_file, strict=True)
    assert strict.todict()["strict"] is True
    assert "strict=True" in repr(strict)
    assert strict.set(strict=False) == {"strict": False}
    with pytest.raises(ConfigError, match="EQ1308: strict='yes' is no switch; give True or False"):
        EqffCalculator(potential_file, strict="yes")
