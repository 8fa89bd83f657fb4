"""Pair distances and spectra against closed forms."""

import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from eqff.tasks.md.observables import BLOCK, CM_PER_FS, MIN_SAMPLES, Observables


def oscillations(observables, wavenumbers, n_samples, phases=0.0):
    """Atom i moves along x with wavenumbers[i], velocity amplitude 1."""
    for k in range(n_samples):
        time_fs = k * observables.interval
        velocity = np.zeros((len(wavenumbers), 3))
        velocity[:, 0] = np.cos(2 * math.pi * CM_PER_FS * np.asarray(wavenumbers) * time_fs + phases)
        observables.add_velocities(velocity)


@pytest.mark.parametrize("n_samples", [600, BLOCK, BLOCK + 700, 2 * BLOCK])
def test_lines_lie_where_the_oscillators_are_and_weigh_their_mass(n_samples):
    observables = Observables(Atoms("HC", positions=[[0, 0, 0], [1, 0, 0]]), timestep=0.5)
    assert observables.interval == 2.0
    oscillations(observables, [3000.0, 1000.0], n_samples)
    spectrum = observables.spectrum()
    wavenumber = spectrum.wavenumber
    assert spectrum.nyquist == pytest.approx(8339, abs=1)
    total = sum(spectrum.density.values())
    assert np.trapezoid(total, wavenumber) == pytest.approx(1.0)
    for element, line, mass in (("H", 3000.0, 1.008), ("C", 1000.0, 12.011)):
        density = spectrum.density[element]
        assert wavenumber[density.argmax()] == pytest.approx(line, abs=0.3 * spectrum.resolution)
        assert np.trapezoid(density, wavenumber) == pytest.approx(mass / 13.019, rel=0.02)
        wide = wavenumber[density > 0.5 * density.max()]
        assert wide.max() - wide.min() == pytest.approx(spectrum.resolution, rel=0.25)


def test_autocorrelation_of_oscillators_is_their_mean_cosine():
    observables = Observables(Atoms("H2", positions=[[0, 0, 0], [1, 0, 0]]), timestep=1.0)
    lines = np.array([500.0, 4000.0])
    oscillations(observables, lines, BLOCK)
    spectrum = observables.spectrum()
    expected = np.cos(2 * math.pi * CM_PER_FS * lines[:, None] * spectrum.lag_fs).mean(0)
    np.testing.assert_allclose(spectrum.autocorrelation, expected, atol=0.01)


@pytest.mark.parametrize(("timestep", "every"), [(0.25, 8), (0.5, 4), (1.5, 1), (2.0, 1), (4.0, 1)])
def test_velocities_are_kept_every_two_femtoseconds(timestep, every):
    observables = Observables(Atoms("H"), timestep)
    assert observables.every == every
    oscillations(observables, [100.0], MIN_SAMPLES)
    assert observables.spectrum().nyquist == pytest.approx(1 / (2 * every * timestep) / CM_PER_FS)


def test_too_little_gives_nothing():
    observables = Observables(molecule("H2O"), 0.5)
    assert observables.pair_distances() is None
    assert observables.spectrum() is None
    for _ in range(MIN_SAMPLES + 1):
        observables.add_velocities(np.zeros((3, 3)))
    assert observables.spectrum() is None  # nothing moves
    lonely = Observables(Atoms("Ar"), 0.5)
    lonely.add_distances(np.zeros((1, 3)), np.zeros((3, 3)))
    assert lonely.pair_distances() is None


def test_pairs_of_a_molecule_are_counted():
    water = molecule("H2O")
    observables = Observables(water, 0.5)
    for _ in range(3):
        observables.add_distances(water.positions, water.cell.array)
    found = observables.pair_distances()
    assert not found.normalised
    width = found.radius[1] - found.radius[0]
    assert {name: round(curve.sum() * width, 9) for name, curve in found.curves.items()} == {"O-H": 2.0, "H-H": 1.0}
    assert found.radius[found.curves["O-H"].argmax()] == pytest.approx(0.969, abs=width)


def test_shells_of_a_crystal_hold_their_neighbours():
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    observables = Observables(crystal, 0.5)
    observables.add_distances(crystal.positions, crystal.cell.array)
    found = observables.pair_distances()
    width = found.radius[1] - found.radius[0]
    shell = 4 * math.pi * (found.radius**2 + width**2 / 12) * width * 4 / crystal.get_volume()
    for name, distance, n_neighbors in (("Na-Cl", 2.82, 6), ("Na-Na", 5.64 / math.sqrt(2), 12)):
        near = abs(found.radius - distance) < 0.3
        assert (found.curves[name] * shell)[near].sum() == pytest.approx(n_neighbors)


def test_g_of_an_ideal_gas_is_one():
    rng = np.random.default_rng(0)
    gas = Atoms("Ar200", cell=[20, 21, 22], pbc=True)
    observables = Observables(gas, 0.5)
    for _ in range(20):
        observables.add_distances(rng.uniform(0, 1, (200, 3)) @ gas.cell.array, gas.cell.array)
    found = observables.pair_distances()
    far = found.radius > 3.0
    assert found.normalised
    assert found.curves["Ar-Ar"][far].mean() == pytest.approx(1.0, rel=0.02)


def test_memory_does_not_grow_with_the_system():
    many = Observables(Atoms("H100000", positions=np.zeros((100_000, 3))), 0.5)
    assert sum(array.nbytes for array in many.state().values()) + many._block.nbytes < 10e6
    assert len(many.chosen) == 300
