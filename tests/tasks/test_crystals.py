"""Crystals: closed forms of a harmonic fcc lattice and of the Birch-Murnaghan equation, EMT, refusals, files."""

import json

import ase.io
import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from torch import nn
from toys import potential_of

from eqff.artifact import potential as potential_module
from eqff.artifact.potential import Potential
from eqff.engines.ase import EqffCalculator
from eqff.errors import ConfigError, RunError
from eqff.tasks.elastic import ElasticConfig, moduli, run_elastic, symmetrized, symmetry
from eqff.tasks.eos import EosConfig, run_eos
from eqff.tasks.phonons import PhononsConfig, repeats, run_phonons

STIFFNESS, LENGTH = 3.0, 2.0  # eV/Å^2, Å
MASS = 50.0  # amu


class NearestSprings(nn.Module):
    """E = k/2 (r - r0)^2 between nearest neighbours of an fcc lattice; nothing beyond 1.2 r0."""

    def forward(self, species, senders, receivers, edge_vector):
        length = edge_vector.norm(dim=1)
        near = ((1.2 * LENGTH - length) / (0.05 * LENGTH)).clamp(0.0, 1.0)
        pair = 0.25 * STIFFNESS * (length - LENGTH) ** 2 * near
        return torch.zeros(len(species), dtype=torch.float64).index_add(0, receivers, pair)


class BirchMurnaghan(Calculator):
    """Energy and stress of a volume, with known parameters for each atom."""

    implemented_properties = ("energy", "forces", "stress")
    energy, volume, modulus, derivative = -3.0, 15.0, 100.0 * units.GPa, 5.0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        n, v0, b0, b1 = len(atoms), self.volume, self.modulus, self.derivative
        x = (v0 * n / atoms.get_volume()) ** (2 / 3)
        energy = self.energy + 9 * v0 * b0 / 16 * ((x - 1) ** 3 * b1 + (x - 1) ** 2 * (6 - 4 * x))
        pressure = 1.5 * b0 * (x**3.5 - x**2.5) * (1 + 0.75 * (b1 - 4) * (x - 1))
        self.results = {
            "energy": n * energy,
            "forces": np.zeros((n, 3)),
            "stress": -pressure * np.array([1.0, 1, 1, 0, 0, 0]),
        }


def at(report, temperature):
    """Free energy, entropy, heat capacity at a temperature that was computed."""
    row = report.temperatures.tolist().index(temperature)
    return report.free_energies[row], report.entropies[row], report.heat_capacities[row]


def springs():
    atoms = bulk("Mn", "fcc", a=np.sqrt(2) * LENGTH)
    atoms.set_masses([MASS])
    return atoms, EqffCalculator(potential_of(NearestSprings(), species=["Mn"]))


def test_the_equation_of_state_gives_back_the_parameters_of_the_energy(tmp_path):
    report = run_eos(EosConfig(output=tmp_path / "eos"), bulk("Cu", cubic=True, a=4.0), BirchMurnaghan())
    assert report.volume / 4 == pytest.approx(15.0, rel=1e-6)
    assert report.energy / 4 == pytest.approx(-3.0, abs=1e-9)
    assert report.bulk_modulus == pytest.approx(100.0, rel=1e-5)
    assert report.bulk_modulus_derivative == pytest.approx(5.0, rel=1e-4)
    assert report.residual < 1e-9
    assert report.pressure_difference < 1e-3
    assert report.atoms.get_volume() == pytest.approx(report.volume, rel=1e-9)
    assert json.loads((tmp_path / "eos" / "eos.json").read_text())["volume_A3_atom"] == pytest.approx(15.0, rel=1e-6)
    assert len(ase.io.read(tmp_path / "eos" / "structures.extxyz", ":")) == 11
    assert np.loadtxt(tmp_path / "eos" / "eos.csv", delimiter=",", skiprows=1).shape == (11, 5)


def test_the_shape_of_the_cell_is_relaxed_at_every_volume(tmp_path):
    """Without shear stress left, pressure and slope of the energy agree; c/a at the minimum is that of a relaxation."""
    report = run_eos(EosConfig(output=tmp_path / "eos", fmax=1e-4), bulk("Cu", "hcp", a=2.5, c=4.4), EMT())
    assert report.pressure_difference < 0.02
    assert report.volume / 2 == pytest.approx(11.58, abs=0.1)
    lengths = report.atoms.cell.lengths()
    assert lengths[2] / lengths[0] == pytest.approx(1.633, abs=0.02)


def test_no_minimum_among_the_volumes(tmp_path):
    config = EosConfig(output=tmp_path / "eos", relax=False, range=0.02)
    with pytest.raises(RunError, match="EQ5331"):
        run_eos(config, bulk("Cu", a=4.4), BirchMurnaghan())
    assert not (tmp_path / "eos").exists()


def test_elastic_constants_of_central_springs(tmp_path):
    """fcc with nearest-neighbour springs at rest: C11 = 2k/a, C12 = C44 = k/a (Born and Huang)."""
    atoms, calculator = springs()
    report = run_elastic(ElasticConfig(output=tmp_path / "elastic", strain=1e-3), atoms, calculator)
    unit = STIFFNESS / (np.sqrt(2) * LENGTH) / units.GPa
    expected = np.zeros((6, 6))
    expected[:3, :3] = unit * (np.eye(3) + 1.0)
    expected[3:, 3:] = unit * np.eye(3)
    np.testing.assert_allclose(report.constants, expected, atol=1e-3 * unit)
    assert report.space_group == "Fm-3m (225)"
    assert report.stable
    assert report.hill.bulk == pytest.approx(4 / 3 * unit, rel=1e-3)
    assert report.asymmetry < 1e-6
    assert json.loads((tmp_path / "elastic" / "elastic.json").read_text())["stable"] is True


def test_constants_do_not_depend_on_the_orientation_of_the_structure(tmp_path):
    constants = []
    for angle in (0.0, 40.0):
        atoms = bulk("Cu", cubic=True, a=3.6)
        atoms.rotate(angle, (1, 2, 3), rotate_cell=True)
        report = run_elastic(ElasticConfig(output=tmp_path / f"elastic{angle}"), atoms, EMT())
        constants.append(report.constants)
    np.testing.assert_allclose(constants[1], constants[0], atol=0.2)
    assert abs(constants[1][3:, :3]).max() < 1e-6


def test_bulk_moduli_of_strain_and_of_volume_agree(tmp_path):
    eos = run_eos(EosConfig(output=tmp_path / "eos", range=0.03), bulk("Al"), EMT())
    elastic = run_elastic(ElasticConfig(output=tmp_path / "elastic"), bulk("Al"), EMT())
    assert elastic.hill.bulk == pytest.approx(eos.bulk_modulus, rel=0.01)


def test_symmetry_is_imposed_by_the_rotations_of_the_crystal():
    rotations, _, name = symmetry(bulk("Ti", "hcp", a=2.9, c=4.6))
    assert name == "P6_3/mmc (194)"
    matrix = np.random.default_rng(0).normal(size=(6, 6))
    tensor = symmetrized(matrix + matrix.T, rotations)
    assert tensor[0, 0] == pytest.approx(tensor[1, 1])
    assert tensor[5, 5] == pytest.approx(0.5 * (tensor[0, 0] - tensor[0, 1]))
    np.testing.assert_allclose(tensor[:3, 3:], 0.0, atol=1e-12)


def test_moduli_of_an_isotropic_solid():
    young, poisson = 200.0, 0.3
    shear, lame = young / 2.6, young * poisson / (1.3 * 0.4)
    constants = np.diag([2 * shear] * 3 + [shear] * 3)
    constants[:3, :3] += lame
    for moduli_ in moduli(constants):
        assert moduli_ == pytest.approx((lame + 2 * shear / 3, shear, young, poisson))


def test_phonons_of_central_springs(tmp_path):
    """omega^2 = 8 k / M is the highest of fcc with nearest-neighbour springs, at X, and 4 k / M the transverse one."""
    atoms, calculator = springs()
    config = PhononsConfig(output=tmp_path / "phonons", supercell=(4, 4, 4), displacement=1e-3, mesh=40.0)
    report = run_phonons(config, atoms, calculator)
    unit = np.sqrt(STIFFNESS * 16.02176634 / (MASS * 1.66053906660e-27)) / (2e12 * np.pi)  # THz, sqrt(k / M)
    (to_x,) = (band for band in report.bands if band.labels == ("Γ", "X"))
    np.testing.assert_allclose(to_x.frequencies[-1], np.array([2.0, 2.0, np.sqrt(8.0)]) * unit, rtol=1e-4)
    assert report.stable
    assert report.imaginary_share == 0.0
    _, entropy, capacity = at(report, 1000.0)
    # Dulong and Petit with the first quantum correction; the mean square frequency of the crystal is 4 k / M
    ratio = units._hbar * 2e12 * np.pi * 2.0 * unit / (units._k * 1000.0)
    assert capacity == pytest.approx(3 * units._k * units._Nav * (1 - ratio**2 / 12), rel=1e-4)
    assert report.free_energies[0] == pytest.approx(report.zero_point_energy)
    slope = (at(report, 1000.0)[0] - at(report, 990.0)[0]) / 10.0
    assert -slope / (units.kJ / units.mol) * 1e3 == pytest.approx(entropy, rel=1e-2)
    assert np.trapezoid(report.dos, report.dos_frequencies) == pytest.approx(3.0, rel=0.02)
    assert {path.name for path in report.files} >= {"bands.csv", "dos.csv", "thermal.csv", "phonopy_params.yaml"}


def test_room_temperature_does_not_depend_on_the_other_temperatures(tmp_path):
    atoms, calculator = springs()
    for place, highest in (("a", 100.0), ("b", 4200.0)):
        config = PhononsConfig(output=tmp_path / place, supercell=(3, 3, 3), mesh=30.0, max_temperature=highest)
        report = run_phonons(config, atoms, calculator)
        assert report.at_300_kelvin[2] == pytest.approx(3 * units._k * units._Nav, rel=0.15)
        content = json.loads((tmp_path / place / "phonons.json").read_text())
        assert content["heat_capacity_300K_J_K_mol"] == report.at_300_kelvin[2]


def test_displacements_are_evaluated_together(tmp_path, monkeypatch):
    sizes, original = [], Potential.predict_batch
    monkeypatch.setattr(
        Potential, "predict_batch", lambda self, batch: sizes.append(len(batch)) or original(self, batch)
    )
    monkeypatch.setitem(potential_module.MAX_EDGES, "cpu", 10**6)
    atoms = bulk("Si", cubic=True)
    atoms.set_cell([[5.5, 0.0, 0.0], [0.4, 5.4, 0.0], [0.3, 0.5, 5.6]], scale_atoms=True)
    atoms.rattle(0.05, seed=2)  # without symmetry every atom has six displacements
    config = PhononsConfig(output=tmp_path / "phonons", supercell=(1, 1, 1), relax=False, mesh=10.0)
    report = run_phonons(config, atoms, EqffCalculator("si-nequip", dtype="float64"))
    assert report.n_displacements > 20
    assert sizes == [report.n_displacements]


def test_what_phonons_and_elastic_constants_cannot_do(tmp_path):
    atoms, calculator = springs()
    heavy = atoms.repeat((2, 1, 1))
    heavy.set_masses([MASS, 2 * MASS])
    left = atoms.copy()
    left.set_cell(atoms.cell[[1, 0, 2]])
    alone = bulk("Mn", "fcc", a=20.0)
    config = PhononsConfig(output=tmp_path / "phonons", supercell=(1, 1, 1), relax=False, mesh=30.0)
    for structure, id in ((heavy, "EQ1280"), (left, "EQ1281"), (alone, "EQ5333"), (atoms, "EQ5333")):
        with pytest.raises((ConfigError, RunError), match=id):
            run_phonons(config, structure, calculator)
    with pytest.raises(RunError, match="EQ5332"):
        run_elastic(ElasticConfig(output=tmp_path / "elastic", relax=False), alone, calculator)


def test_an_unstable_crystal_has_imaginary_modes(tmp_path):
    """A simple cubic lattice of compressed springs buckles: omega^2 = 4 k (1 - r0 / r) / M sideways, at X."""
    atoms, calculator = springs()
    atoms.set_cell(0.97 * LENGTH * np.eye(3))
    config = PhononsConfig(output=tmp_path / "phonons", supercell=(4, 4, 4), mesh=30.0, relax=False)
    report = run_phonons(config, atoms, calculator)
    assert not report.stable
    expected = np.sqrt(4 * STIFFNESS * (1 / 0.97 - 1) * 16.02176634 / (MASS * 1.66053906660e-27)) / (2e12 * np.pi)
    (to_x,) = (band for band in report.bands if band.labels == ("Γ", "X"))
    assert to_x.frequencies[-1].min() == pytest.approx(-expected, rel=1e-3)
    assert report.imaginary_share > 0.0


def test_supercells_are_wide_enough_in_every_direction():
    assert repeats(bulk("Cu", cubic=True, a=4.0), 12.0) == (3, 3, 3)
    assert repeats(bulk("Cu", a=4.0), 12.0) == (6, 6, 6)  # faces of the primitive cell are a / sqrt(3) apart


@pytest.mark.parametrize(
    ("change", "id"),
    [
        (lambda atoms: atoms.set_pbc([True, True, False]), "EQ1270"),
        (lambda atoms: atoms.set_constraint(FixAtoms([0])), "EQ1271"),
    ],
)
def test_what_is_no_crystal_is_refused(tmp_path, change, id):
    atoms = bulk("Cu")
    change(atoms)
    with pytest.raises(ConfigError, match=id):
        run_eos(EosConfig(output=tmp_path / "eos"), atoms, EMT())


def test_molecules_and_full_folders_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="EQ1270"):
        run_elastic(ElasticConfig(output=tmp_path / "new"), molecule("H2O"), EMT())
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ConfigError, match="EQ1251"):
        run_phonons(PhononsConfig(output=tmp_path), bulk("Cu"), EMT())


def test_a_relaxation_that_does_not_converge(tmp_path):
    with pytest.raises(RunError, match="EQ5322"):
        run_eos(EosConfig(output=tmp_path / "eos", steps=1, fmax=1e-6), bulk("Cu", a=3.8), EMT())


@pytest.mark.parametrize(
    ("make", "id"),
    [
        (lambda: EosConfig(range=0.0), "EQ1273"),
        (lambda: EosConfig(n_points=4), "EQ1274"),
        (lambda: ElasticConfig(strain=0.2), "EQ1275"),
        (lambda: PhononsConfig(supercell=(0, 1, 1)), "EQ1276"),
        (lambda: PhononsConfig(displacement=0.0), "EQ1277"),
        (lambda: PhononsConfig(max_temperature=0.0), "EQ1278"),
    ],
)
def test_settings_are_checked(make, id):
    with pytest.raises(ConfigError, match=id):
        make()
