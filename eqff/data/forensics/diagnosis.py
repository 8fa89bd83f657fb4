"""Find out which labels have the wrong unit or sign, from three measurements.

    slope        change of energy over work -F.dx                  1
    temperature  that forces and positions agree on                some hundred K
    bond         nearest distances over sums of covalent radii     about 1

Every possible fault multiplies them by known factors.  The answer is the fault that explains all three measurements
with the least deviation; "no fault" is one of the candidates.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from eqff.units import BOHR, ENERGY, HARTREE

TYPICAL_TEMPERATURE = 500.0  # K
HOTTER, COLDER = 1.3, 3.0  # spread of the logarithm: some data are hot, and small displacements seem very cold
BOND_SPREAD = 0.15  # of the logarithm
SINGLE, DOUBLE, SIGN = 6.0, 8.0, 2.0  # prior against a fault, in squared deviations


class Fault(NamedTuple):
    """A possible fault: its name, the message and remedy, and the factors it puts on the measurements."""

    name: str
    message: str
    remedy: str
    slope: float = 1.0
    temperature: float = 1.0
    bond: float = 1.0
    price: float = SINGLE  # prior against it


@dataclass(frozen=True)
class Evidence:
    """The three measurements, None where one could not be made."""

    slope: float | None
    slope_spread: float  # of its logarithm
    temperature: float | None  # K
    bond: float | None
    n_atoms: float  # mean per frame


NOTHING = Fault("", "energies, forces and distances fit each other", "", price=0.0)


def diagnose(evidence: Evidence) -> Fault:
    """The fault that explains the evidence best.  Returns: NOTHING, with an empty name, if there is none"""
    return min(faults(evidence.n_atoms), key=lambda fault: _deviation(fault, evidence))


def faults(n_atoms: float) -> Iterator[Fault]:
    """All candidates for frames of n_atoms atoms, "no fault" first."""
    yield NOTHING
    for unit in ("kcal/mol", "kJ/mol", "Hartree", "meV"):
        yield from _energy_unit(unit, ENERGY[unit])
    yield from _atomic_units()
    yield from _signs()
    if n_atoms >= 2:
        yield Fault(
            "energy per atom",
            "energies seem to be per atom",
            "multiply each energy by the number of atoms",
            slope=1 / n_atoms,
        )


def _energy_unit(unit: str, f: float) -> Iterator[Fault]:
    energies, forces = f"energies seem to be in {unit}", f"forces seem to be in {unit}/Å"
    yield Fault("energy unit", f"{energies}, the forces are in eV/Å", f"multiply the energies by {f:.6g}", slope=1 / f)
    times = f"multiply the forces by {f:.6g}"
    yield Fault("force unit", f"{forces}, the energies are in eV", times, slope=f, temperature=1 / f)
    both = f"say so with --energy-unit {unit}"
    yield Fault("energy and force unit", f"{energies} and {forces}", both, temperature=1 / f, price=DOUBLE)


def _atomic_units() -> Iterator[Fault]:
    f = HARTREE / BOHR
    times = f"multiply the forces by {f:.6g}"
    yield Fault("force unit", "forces seem to be in Hartree/Bohr", times, slope=f, temperature=1 / f)
    times = f"multiply the forces by {1 / BOHR:.6g}"
    yield Fault("force unit", "forces seem to be in eV/Bohr", times, slope=1 / BOHR, temperature=BOHR)
    yield Fault(
        "energy and force unit",
        "energies seem to be in Hartree and forces in Hartree/Bohr, positions in Å",
        f"multiply energies by {HARTREE:.6g} and forces by {f:.6g}",
        slope=1 / BOHR,
        temperature=1 / f,
    )
    for unit, size in (("Bohr", BOHR), ("nm", 10.0)):
        yield Fault(
            "length unit",
            f"positions seem to be in {unit}",
            f"say so with --length-unit {unit}, or multiply positions and cell by {size:.6g}",
            slope=size,
            temperature=1 / size,
            bond=1 / size,
        )
    yield Fault(
        "energy and length unit",
        "energies, forces and positions seem to be in atomic units",
        "say so with --energy-unit Hartree --length-unit Bohr",
        temperature=1 / HARTREE,
        bond=1 / BOHR,
        price=DOUBLE,
    )


def _signs() -> Iterator[Fault]:
    yield Fault("energy sign", "energies have the wrong sign", "multiply the energies by -1", slope=-1.0)
    gradients = "forces have the wrong sign: these are gradients"
    yield Fault("force sign", gradients, "multiply the forces by -1", slope=-1.0, temperature=-1.0)
    for unit, f in (("Hartree/Bohr", HARTREE / BOHR), ("kcal/mol/Å", ENERGY["kcal/mol"])):
        yield Fault(
            "force sign",
            f"forces seem to be gradients in {unit}",
            f"multiply the forces by {-f:.6g}",
            slope=-f,
            temperature=-1 / f,
            price=SINGLE + SIGN,
        )


def _deviation(fault: Fault, evidence: Evidence) -> float:
    """Squared deviations of the measurements from those that the fault predicts, plus its price."""
    total = fault.price
    if evidence.slope is not None:
        total += _squared(evidence.slope / fault.slope, evidence.slope_spread)
    if evidence.temperature is not None:
        ratio = evidence.temperature / fault.temperature / TYPICAL_TEMPERATURE
        total += _squared(ratio, HOTTER if ratio > 1.0 else COLDER)
    if evidence.bond is not None:
        total += _squared(evidence.bond / fault.bond, BOND_SPREAD)
    return total


def _squared(ratio: float, spread: float) -> float:
    return (math.log(ratio) / spread) ** 2 if ratio > 0 else math.inf
