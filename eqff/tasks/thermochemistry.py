"""Enthalpy, entropy and free energy from harmonic frequencies, by ase.thermochemistry.

Molecules without fixed atoms are an ideal gas of rigid rotors; periodic structures and those with fixed atoms are
harmonic oscillators only, for which H = U and G = F, p V being neglected.  Frequencies are those at the gamma point.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from ase import units
from ase.thermochemistry import HarmonicThermo, IdealGasThermo

from eqff.errors import ConfigError
from eqff.tasks.vibrations import VibrationsReport


class Thermochemistry(NamedTuple):
    """Results at a temperature; energies contain the potential energy and the zero-point energy."""

    model: str  # in words, with what was assumed
    temperature: float  # K
    pressure: float | None  # bar, None without an ideal gas
    symmetry_number: int | None
    enthalpy: float  # eV
    entropy: float  # eV/K
    gibbs: float  # eV
    n_ignored: int  # imaginary modes, which are left out


def check_conditions(temperature: float, pressure: float, symmetry_number: int) -> None:
    """Raises: ConfigError EQ1491 temperature, EQ1492 pressure, EQ1493 symmetry number"""
    if not (temperature > 0.0 and math.isfinite(temperature)):
        raise ConfigError("EQ1491", f"temperature={temperature:g} K: expected a number > 0; give e.g. 298.15")
    if not (pressure > 0.0 and math.isfinite(pressure)):
        raise ConfigError("EQ1492", f"pressure={pressure:g} bar: expected a number > 0; give e.g. 1")
    if symmetry_number < 1:
        raise ConfigError("EQ1493", f"symmetry_number={symmetry_number}: expected a number >= 1; give 1 if unsure")


def thermochemistry(
    report: VibrationsReport, temperature: float = 298.15, pressure: float = 1.0, symmetry_number: int = 1
) -> Thermochemistry:
    """H, S and G of a structure.

    Args:   report: with frequencies; temperature K; pressure bar; symmetry_number: rotations that leave the molecule
            as it is, e.g. 2 for H2O, 12 for CH4
    Raises: as `check_conditions`
    """
    check_conditions(temperature, pressure, symmetry_number)
    with np.errstate(over="ignore"):  # exp(energy / kT) of cold oscillators, which have no heat
        return _results(report, temperature, pressure, symmetry_number)


def _results(report: VibrationsReport, temperature: float, pressure: float, symmetry_number: int) -> Thermochemistry:
    atoms = report.atoms
    energies = [mode.frequency * units.invcm for mode in report.modes if mode.kind == "vibration"]
    potential = float(atoms.get_potential_energy())
    is_gas = not atoms.pbc.any() and not atoms.constraints
    if not is_gas:
        harmonic = HarmonicThermo(energies, potentialenergy=potential)
        return Thermochemistry(
            model="harmonic oscillators at the gamma point; G is F, since p V is neglected",
            temperature=temperature,
            pressure=None,
            symmetry_number=None,
            enthalpy=harmonic.get_internal_energy(temperature, verbose=False),
            entropy=harmonic.get_entropy(temperature, verbose=False),
            gibbs=harmonic.get_helmholtz_energy(temperature, verbose=False),
            n_ignored=report.n_imaginary,
        )
    geometry: Any = {3: "monatomic", 5: "linear"}.get(len(report.rigid), "nonlinear")
    gas = IdealGasThermo(
        energies,
        geometry=geometry,
        potentialenergy=potential,
        atoms=atoms,
        symmetrynumber=symmetry_number,
        spin=0.0,
        vib_selection="all",
    )
    pascal = pressure * 1e5
    return Thermochemistry(
        model=f"ideal gas, {geometry}, symmetry number {symmetry_number}, all electrons paired",
        temperature=temperature,
        pressure=pressure,
        symmetry_number=symmetry_number,
        enthalpy=gas.get_enthalpy(temperature, verbose=False),
        entropy=gas.get_entropy(temperature, pascal, verbose=False),
        gibbs=gas.get_gibbs_energy(temperature, pascal, verbose=False),
        n_ignored=report.n_imaginary,
    )
