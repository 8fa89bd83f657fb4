"""Thermochemistry: measured entropies of gases (NIST), from measured frequencies and geometries; the Einstein solid."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from eqff.errors import ConfigError
from eqff.tasks.thermochemistry import thermochemistry
from eqff.tasks.vibrations import Mode, VibrationsReport

JOULE = units.J / units.mol  # eV


def report(atoms, frequencies, n_rigid, imaginary=()):
    atoms.calc = SinglePointCalculator(atoms, energy=-5.0)
    shape = np.zeros((len(atoms), 3))
    modes = [Mode(-abs(value), "imaginary", shape) for value in imaginary]
    modes += [Mode(0.0, "rigid", shape)] * n_rigid + [Mode(value, "vibration", shape) for value in frequencies]
    zero_point = 0.5 * units.invcm * sum(frequencies)
    return VibrationsReport(atoms, None, 0.0, None, tuple(modes), zero_point, ())


@pytest.mark.parametrize(
    ("atoms", "frequencies", "n_rigid", "symmetry", "entropy"),  # cm-1; J/mol/K at 298.15 K and 1 bar
    [
        (molecule("H2O"), [1595, 3657, 3756], 6, 2, 188.84),
        (molecule("CO2"), [667, 667, 1333, 2349], 5, 2, 213.79),
        (Atoms("N2", [[0, 0, 0], [0, 0, 1.098]]), [2359], 5, 2, 191.61),
        (Atoms("Ar"), [], 3, 1, 154.85),
        (molecule("CH4"), [1306, 1306, 1306, 1534, 1534, 2917, 3019, 3019, 3019], 6, 12, 186.25),
    ],
)
def test_entropies_of_gases_are_the_measured_ones(atoms, frequencies, n_rigid, symmetry, entropy):
    found = thermochemistry(report(atoms, frequencies, n_rigid), symmetry_number=symmetry)
    assert found.entropy / JOULE == pytest.approx(entropy, rel=2e-3)
    assert found.gibbs == pytest.approx(found.enthalpy - 298.15 * found.entropy)


def test_entropy_falls_with_pressure_and_symmetry():
    water = report(molecule("H2O"), [1595, 3657, 3756], 6)
    plain = thermochemistry(water).entropy
    assert plain - thermochemistry(water, pressure=10.0).entropy == pytest.approx(units.kB * np.log(10))
    assert plain - thermochemistry(water, symmetry_number=2).entropy == pytest.approx(units.kB * np.log(2))
    cold = thermochemistry(water, temperature=1e-3)
    assert cold.enthalpy == pytest.approx(-5.0 + water.zero_point_energy, abs=1e-5)


def test_a_crystal_is_harmonic_and_imaginary_modes_are_left_out():
    x = 400 * units.invcm / (units.kB * 300.0)
    for imaginary in ((), (200.0,)):
        found = thermochemistry(report(bulk("Si"), [400.0] * 3, 3, imaginary), temperature=300.0)
        einstein = 3 * units.kB * (x / (np.exp(x) - 1) - np.log(1 - np.exp(-x)))
        assert found.entropy == pytest.approx(einstein)
        assert found.enthalpy == pytest.approx(-5.0 + 3 * 400 * units.invcm * (0.5 + 1 / (np.exp(x) - 1)))
        assert found.gibbs == pytest.approx(found.enthalpy - 300.0 * found.entropy)
        assert found.n_ignored == len(imaginary)
        assert found.pressure is None


@pytest.mark.parametrize(
    ("options", "id"),
    [({"temperature": 0.0}, "EQ1491"), ({"pressure": -1.0}, "EQ1492"), ({"symmetry_number": 0}, "EQ1493")],
)
def test_errors(options, id):
    with pytest.raises(ConfigError) as caught:
        thermochemistry(report(molecule("H2O"), [1595, 3657, 3756], 6), **options)
    assert caught.value.id == id
