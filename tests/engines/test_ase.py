"""The ASE calculator: ASE's own checks, caching, copies, refusals, and dynamics with and without a skin."""

import copy
import dataclasses
import gc
import pickle
import weakref

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.mixing import SumCalculator
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from torch import nn
from toys import Bonds, ethanol, potential_of, tiny_file

import eqff
from eqff import artifact
from eqff.config import to_mapping
from eqff.engines.ase import EqffCalculator
from eqff.errors import ConfigError, GraphError, PotentialError
from eqff.exporter import export
from eqff.models import nequip


@pytest.fixture
def potential():
    return potential_of(Bonds())


@pytest.fixture(scope="module")
def potential_file(tmp_path_factory):
    yield from tiny_file(tmp_path_factory, n_layers=2, n_channels=8)


def crystal():
    """Carbon in a triclinic cell smaller than the cutoff."""
    atoms = bulk("C", "diamond", a=3.2)
    atoms.set_cell(atoms.cell.array @ np.array([[1, 0, 0], [0.1, 1, 0], [-0.05, 0.08, 1.1]]), scale_atoms=True)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.parametrize("make", [crystal, ethanol])
def test_forces_and_stress_against_ase_finite_differences(potential, make):
    atoms = make()
    atoms.calc = EqffCalculator(potential)
    scale = max(1.0, np.abs(atoms.get_forces()).max())
    assert np.abs(atoms.get_forces() - calculate_numerical_forces(atoms, eps=1e-4)).max() < 1e-6 * scale
    if atoms.pbc.all():
        assert np.abs(atoms.get_stress() - calculate_numerical_stress(atoms, eps=1e-5)).max() < 1e-7
        assert np.abs(atoms.get_stress()).max() > 1e-3


def test_exported_file_against_finite_differences(potential_file):
    atoms = crystal()
    atoms.calc = EqffCalculator(potential_file, dtype="float64")
    scale = max(1.0, np.abs(atoms.get_forces()).max())
    assert np.abs(atoms.get_forces() - calculate_numerical_forces(atoms, eps=1e-4)).max() < 1e-6 * scale
    assert np.abs(atoms.get_stress() - calculate_numerical_stress(atoms, eps=1e-5)).max() < 1e-6 * scale
    atoms = ethanol()
    atoms.calc = eqff.EqffCalculator(str(potential_file), dtype="float32")
    assert atoms.calc.potential.dtype == torch.float32
    single = atoms.get_forces()
    atoms.calc = EqffCalculator(potential_file, dtype="float64")
    assert 0 < np.abs(single - atoms.get_forces()).max() < 1e-4


def test_results_have_ases_meaning(potential):
    atoms = crystal()
    atoms.calc = EqffCalculator(potential)
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    assert type(energy) is float
    assert atoms.get_potential_energy(force_consistent=True) == energy
    assert atoms.get_potential_energies().sum() == pytest.approx(energy, rel=1e-14)
    for array, shape in ((forces, (2, 3)), (stress, (6,)), (atoms.get_potential_energies(), (2,))):
        assert array.shape == shape
        assert array.dtype == np.float64
        assert array.flags.owndata
        assert array.flags.writeable
    atoms.get_forces()[:] = 0.0
    assert np.array_equal(atoms.get_forces(), forces), "the caller's array is a copy"
    assert all(array.flags.owndata for name, array in atoms.calc.results.items() if "energy" not in name)
    assert set(atoms.calc.results) == set(EqffCalculator.implemented_properties)
    assert atoms.calc.export_properties()["energy"] == energy


def test_one_evaluation_per_geometry(potential):
    atoms = crystal()
    atoms.calc = EqffCalculator(potential)
    n_calls = potential.evaluator
    for ask in (atoms.get_potential_energy, atoms.get_forces, atoms.get_stress, atoms.get_potential_energies):
        ask()
    assert n_calls.n_calls == 1
    assert not atoms.calc.calculation_required(atoms, ["energy", "forces", "stress"])
    atoms.info["charge"] = 0
    atoms.set_initial_magnetic_moments([0.0, 0.0])
    atoms.get_forces()
    assert n_calls.n_calls == 1, "nothing that the potential looks at has changed"
    for count, change in enumerate(
        [
            lambda: atoms.positions.__setitem__((0, 0), atoms.positions[0, 0] + 1e-12),
            lambda: atoms.set_cell(atoms.cell * 1.01),
            lambda: atoms.set_pbc([True, True, False]),
            lambda: atoms.set_atomic_numbers([6, 8]),
            lambda: atoms.append("H"),
            lambda: atoms.calc.reset(),
        ],
        start=2,
    ):
        change()
        assert atoms.calc.calculation_required(atoms, ["energy"])
        assert atoms.calc.get_property("energy", atoms, allow_calculation=False) is None
        atoms.get_potential_energy()
        assert n_calls.n_calls == count


def test_nothing_is_written_into_the_atoms(potential, capsys):
    atoms = crystal()
    atoms.positions += 100.0  # not wrapped back
    atoms.info["note"], before = "kept", atoms.copy()
    atoms.calc = EqffCalculator(potential)
    atoms.get_stress()
    assert atoms == before
    assert atoms.info == {"note": "kept"}
    assert set(atoms.arrays) == set(before.arrays)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("pbc", [[0, 0, 0], [1, 1, 0], [0, 0, 1]])
def test_stress_is_absent_without_three_periodic_directions(potential, pbc):
    atoms = crystal()
    atoms.pbc = pbc
    atoms.calc = EqffCalculator(potential)
    with pytest.raises(PropertyNotImplementedError, match=r"periodic in three directions, this one has pbc=\["):
        atoms.get_stress()
    assert "stress" not in atoms.calc.results
    atoms.get_forces()
    assert potential.evaluator.n_calls == 1, "what exists was kept"
    assert set(atoms.calc.results) == set(EqffCalculator.implemented_properties) - {"stress"}
    assert all(np.isfinite(value).all() for value in atoms.calc.results.values())
    atoms.pbc = True
    assert atoms.get_stress().shape == (6,)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_dipole_moment()


def test_isolated_atom_has_its_reference_energy(potential):
    atoms = Atoms("C", calculator=EqffCalculator(potential))
    assert atoms.get_potential_energy() == -7.0
    assert not atoms.get_forces().any()


def ethanol_with(change):
    atoms = ethanol()
    change(atoms)
    return atoms


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms(), "EQ2108: positions: n_atoms=0"),
        (Atoms("HBr", [[0, 0, 0], [0, 0, 1.4]]), "EQ2101: species: atom 1 is Br.*knows only H C O"),
        (Atoms("HX", [[0, 0, 0], [0, 0, 1.4]]), "EQ2107"),
        (Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]), "EQ2103: positions: atom 1 is not finite"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0]]), "EQ2109: positions: atoms 0 and 1 are 0 Å apart"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 1]], pbc=True), r"EQ2106: cell: pbc=\[True, True, True\] but lattice vector 0"),
        (Atoms("H", cell=np.ones((3, 3)), pbc=True), "EQ2112: cell: rank 1, but 3 directions"),
    ],
)
def test_bad_structures_are_refused_and_leave_nothing_behind(potential, atoms, message):
    calculator = EqffCalculator(potential)
    good = ethanol()
    good.calc = calculator
    expected = good.get_forces()
    atoms.calc = calculator
    for _ in range(2):
        with pytest.raises(GraphError, match=message):
            atoms.get_potential_energy()
        assert calculator.results == {}
        with pytest.raises(GraphError, match=message):
            calculator.calculate(atoms)
    assert np.array_equal(good.get_forces(), expected), "and the calculator still works"


def test_without_atoms():
    with pytest.raises(GraphError, match="EQ2113: atoms=None"):
        EqffCalculator(potential_of(Bonds())).calculate()


def test_results_that_are_not_finite_are_refused():
    class Broken(nn.Module):
        limit = 1e-9

        def forward(self, species, senders, receivers, edge_vector):
            energies = torch.zeros(len(species), dtype=torch.float64)
            return energies.index_add(0, receivers, torch.log(edge_vector.norm(dim=1) - self.limit))

    module = Broken()
    atoms = Atoms("H2C", [[0, 0, 0], [0, 0, 9.0], [0, 0, 10.0]])
    atoms.calc = EqffCalculator(potential_of(module))
    atoms.get_potential_energy()
    module.limit = 2.0
    atoms.positions[:, 0] += 1.0
    with pytest.raises(PotentialError, match=r"EQ4161: result: atom 1 has energy nan eV.*smaller time step"):
        atoms.get_forces()
    assert atoms.calc.results == {}
    with pytest.raises(PotentialError, match="EQ4161"):
        atoms.get_potential_energy()


def test_infinite_forces_that_cancel_are_refused():
    class Infinite(nn.Module):
        def forward(self, species, senders, receivers, edge_vector):
            energies = torch.zeros(len(species), dtype=torch.float64)
            return energies.index_add(0, receivers, edge_vector[:, 2].clamp(min=0).sqrt())

    atoms = Atoms("HH", [[0, 0, 0], [1.0, 0, 0]], calculator=EqffCalculator(potential_of(Infinite())))
    with pytest.raises(PotentialError, match=r"EQ4161: result: atom 0 has energy 0 eV and force"):
        atoms.get_forces()


def test_pickle_is_path_and_options(potential_file, tmp_path, monkeypatch):
    monkeypatch.chdir(potential_file.parent)
    atoms = crystal()
    atoms.calc = EqffCalculator(potential_file.name, dtype="float64", skin=0.2)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    content = pickle.dumps(atoms)
    assert len(content) < 20_000, "no weights inside"
    monkeypatch.chdir(tmp_path)  # a relative path must have become absolute
    twin = pickle.loads(content)
    assert twin.calc.parameters == atoms.calc.parameters
    assert twin.calc.results["energy"] == energy
    twin.calc.reset()
    assert twin.get_potential_energy() == pytest.approx(energy, abs=1e-12)
    assert np.allclose(twin.get_forces(), forces, atol=1e-12)
    loaded = EqffCalculator(eqff.load(potential_file, dtype="float64"))
    twin = pickle.loads(pickle.dumps(loaded))
    assert twin.parameters["dtype"] == "float64"
    assert twin.parameters["potential"] == str(potential_file.resolve())


def test_potential_in_memory_does_not_pickle(potential):
    with pytest.raises(PotentialError, match="EQ4160: potential: lives in memory only"):
        pickle.dumps(EqffCalculator(potential))


def test_deep_copies_are_independent_and_share_the_potential(potential):
    atoms = crystal()
    atoms.calc = EqffCalculator(potential, skin=0.3)
    energy = atoms.get_potential_energy()
    twin = copy.deepcopy(atoms)
    assert twin.calc is not atoms.calc
    assert twin.calc.potential is potential
    assert twin.calc.parameters == atoms.calc.parameters
    assert twin.get_potential_energy() == energy
    assert potential.evaluator.n_calls == 1, "results were copied, too"
    twin.rattle(0.1, seed=3)
    assert twin.get_potential_energy() != energy
    assert atoms.get_potential_energy() == energy
    assert atoms.calc.results["energy"] == energy


def test_files_load_at_the_first_use(potential_file, monkeypatch):
    loads = []
    monkeypatch.setattr(artifact, "load", lambda *options: loads.append(options) or potential_of(Bonds()))
    calculator = EqffCalculator(potential_file, device="cuda:7", dtype="float32")
    assert loads == []
    for _ in range(2):
        calculator.calculate(ethanol())
    assert loads == [(str(potential_file.resolve()), "cuda:7", "float32", "ready", False)]
    calculator.set(device="cpu")
    assert calculator.results == {}
    calculator.calculate(ethanol())
    assert loads[1:] == [(str(potential_file.resolve()), "cpu", "float32", "ready", False)]


def test_options_are_checked(potential, potential_file):
    with pytest.raises(PotentialError, match="no such file"):
        EqffCalculator("nowhere/x.eqff.pt")
    with pytest.raises(ConfigError, match="EQ1303: dtype='float16' is unknown; choose from auto, float32, float64"):
        EqffCalculator(potential, dtype="float16")
    with pytest.raises(ConfigError, match="EQ1305: skin=-1"):
        EqffCalculator(potential, skin=-1)
    with pytest.raises(ConfigError, match="EQ1302: cutoff=3: no such option"):
        EqffCalculator(potential).set(cutoff=3)
    with pytest.raises(ConfigError, match="EQ1306: potential: cannot be exchanged"):
        EqffCalculator(potential).set(potential=potential_file)
    for options in ({"dtype": "float32"}, {"device": "cuda"}):
        with pytest.raises(ConfigError, match=r"EQ130[47]: d.*the given Potential"):
            EqffCalculator(potential, **options).calculate(ethanol())
    calculator = EqffCalculator(potential)
    calculator.calculate(ethanol())
    assert calculator.set(skin=0.5) == {}
    assert calculator.results, "nothing changed"
    assert calculator.set(skin=0.1) == {"skin": 0.1}
    assert calculator.results == {}


def test_says_what_it_is(potential, potential_file):
    text = repr(EqffCalculator(potential_file, dtype="float32"))
    for part in ("tiny.eqff.pt", "device='cpu'", "dtype='float32'", "eV/Å", "skin=0.5 Å"):
        assert part in text
    assert "in memory" in repr(EqffCalculator(potential))
    assert EqffCalculator(potential).name == "eqff"
    assert EqffCalculator(potential_file).todict() == {
        "potential": str(potential_file.resolve()),
        "device": "cpu",
        "dtype": "auto",
        "skin": 0.5,
    }


def test_composes_with_other_calculators(potential):
    atoms = ethanol()
    atoms.calc = EqffCalculator(potential)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = SumCalculator([EqffCalculator(potential), EqffCalculator(potential)])
    assert atoms.get_potential_energy() == 2 * energy
    assert np.array_equal(atoms.get_forces(), 2 * forces)


def test_no_reference_keeps_a_calculator_alive(potential):
    calculator = EqffCalculator(potential)
    calculator.calculate(ethanol())
    gone = weakref.ref(calculator)
    del calculator
    gc.collect()
    assert gone() is None


def relaxed(potential):
    atoms = ethanol()
    atoms.calc = EqffCalculator(potential)
    assert BFGS(atoms, logfile=None).run(fmax=0.02, steps=200)
    return atoms


def test_dynamics_conserves_energy_and_skin_changes_no_bit(potential):
    start = relaxed(potential)
    start.set_momenta(np.random.default_rng(3).normal(size=(len(start), 3)) * 0.4)
    ends = []
    for skin in (0.0, 0.5):
        atoms = start.copy()
        atoms.calc = EqffCalculator(potential, skin=skin)
        energies = []
        dynamics = VelocityVerlet(atoms, 0.125 * units.fs)
        dynamics.attach(lambda atoms=atoms, energies=energies: energies.append(atoms.get_total_energy()))
        dynamics.run(400)
        assert atoms.get_kinetic_energy() > 0.1
        assert np.ptp(energies) < 0.01 * atoms.get_kinetic_energy()
        ends.append((atoms.positions, atoms.get_momenta(), energies))
        n_searches = atoms.calc._neighbors.n_searches
        assert n_searches == 401 if skin == 0 else 1 < n_searches < 60
    for without, with_skin in zip(*ends, strict=True):
        assert np.array_equal(without, with_skin)


def test_cell_relaxation(potential):
    atoms = crystal()
    atoms.calc = EqffCalculator(potential)
    start = atoms.get_potential_energy()
    assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.005, steps=300)
    assert atoms.get_potential_energy() < start
    assert np.abs(atoms.get_stress()).max() < 0.005
    assert atoms.calc._neighbors.n_searches < potential.evaluator.n_calls


def test_a_composition_with_an_unknown_constant_is_warned_of_once(tmp_path):
    path = tmp_path / "one.eqff.pt"
    config = nequip.Config(species=("H", "O"), r_max=3.0, l_max=1, n_layers=1, n_channels=4)
    data = {"compositions": ["H2O"], "reference_rank": 1}
    export(nequip.Model(config), "nequip", to_mapping(config), path, metadata={"training_data": data})
    calculator = EqffCalculator(path)
    water = molecule("H2O")
    for known in (water, water * 1 + Atoms("OH2", positions=water.positions + 9.0)):
        known.calc = calculator
        known.get_potential_energy()  # a warning would be an error here
    foreign = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])
    foreign.calc = calculator
    with pytest.warns(UserWarning, match="trained on H2O only"):
        foreign.get_potential_energy()
    foreign.rattle(0.01, seed=0)
    foreign.get_potential_energy()


def test_a_given_potential_brings_its_device_along(tmp_path):
    path = tmp_path / "one.eqff.pt"
    config = nequip.Config(species=("H", "O"), r_max=3.0, l_max=1, n_layers=1, n_channels=4)
    export(nequip.Model(config), "nequip", to_mapping(config), path)
    elsewhere = dataclasses.replace(artifact.load(path), device=torch.device("cuda"))
    assert EqffCalculator(elsewhere).parameters["device"] == "cuda"
    assert EqffCalculator(path).parameters["device"] == "cpu"
