"""Units that a file states beside its numbers: which quantity a key is about, and which unit a text means.

    energy-unit=Hartree  unit_force="eV/Ang"  stressUnits=GPa  units=atomic

A key that contains the word unit is understood, known to be about something else (time, mass, charge), or refused.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from eqff.errors import ConfigError, DataError
from eqff.units import force_factor, stress_factor

# how files spell the units of eqff.units (lower case); the factors are there, not here
ENERGIES = {
    "ev": "eV",
    "electronvolt": "eV",
    "electronvolts": "eV",
    "mev": "meV",
    "ha": "Hartree",
    "hartree": "Hartree",
    "hartrees": "Hartree",
    "eh": "Hartree",
    "e_h": "Hartree",
    "ry": "Rydberg",
    "rydberg": "Rydberg",
    "kcal/mol": "kcal/mol",
    "kj/mol": "kJ/mol",
}
LENGTHS = {
    "a": "Å",
    "å": "Å",
    "ang": "Å",
    "angs": "Å",
    "angst": "Å",
    "angstrom": "Å",
    "angstroms": "Å",
    "ångström": "Å",
    "ångstrom": "Å",
    "a0": "Bohr",
    "bohr": "Bohr",
    "bohrs": "Bohr",
    "nm": "nm",
    "nanometer": "nm",
}
PRESSURES = {
    "gpa": "GPa",
    "gigapascal": "GPa",
    "mpa": "MPa",
    "megapascal": "MPa",
    "pa": "Pa",
    "pascal": "Pa",
    "kbar": "kbar",
    "kb": "kbar",
    "kilobar": "kbar",
    "bar": "bar",
    "atm": "atm",
}
ATOMIC = ("au", "a.u.", "a.u", "atomic", "atomic units")
SYSTEMS = {  # one word for all units: energy, length, force, stress
    **dict.fromkeys(ATOMIC, ("Hartree", "Bohr", "Hartree/Bohr", "Hartree/Bohr^3")),
    "metal": ("eV", "Å", "eV/Å", "bar"),  # LAMMPS
    "real": ("kcal/mol", "Å", "kcal/mol/Å", "atm"),  # LAMMPS
    "ase": ("eV", "Å", "eV/Å", "eV/Å^3"),
}
QUANTITIES = ("energy", "length", "force", "stress")
WORDS = {  # beginnings of the words of a key, first match
    "energy": ("energ",),
    "virial": ("virial",),
    "force": ("force", "gradient"),
    "stress": ("stress", "pressure"),
    "length": ("length", "distance", "position", "pos", "coord", "cell", "lattice", "box", "geometry", "xyz"),
}
OTHER_WORDS = re.compile("communit|opportunit|unitary|immunit|united|uniting|unity")
COUNTED = ("formula", "structural", "asymmetric", "repeat", "id", "n", "number")  # units that are things
ELSEWHERE = (  # units of what no label depends on
    *("kinetic", "zpe", "zero", "atomi", "formation", "adsorption", "binding", "interaction", "cohesive", "enthalp"),
    *(
        "time",
        "dt",
        "mass",
        "charge",
        "dipole",
        "quadrupole",
        "magmom",
        "mag",
        "spin",
        "velocit",
        "momenta",
        "momentum",
    ),
    *("temperature", "temp", "frequenc", "density", "angle", "polarizab", "field", "dos", "hessian", "bandgap", "gap"),
)


def energy_unit(text: str) -> str:
    """The name in eqff.units of an energy unit, or the text itself."""
    return "Hartree" if _plain(text) in ATOMIC else ENERGIES.get(_plain(text), text)


def length_unit(text: str) -> str:
    """The name in eqff.units of a length unit, or the text itself."""
    return "Bohr" if _plain(text) in ATOMIC else LENGTHS.get(_plain(text), text)


def force_unit(text: str) -> str:
    """A force unit as energy/length in the names of eqff.units, e.g. "kcal/mol/Å".  Raises: ConfigError EQ1007"""
    unit = "Hartree/Bohr" if _plain(text) in ATOMIC else _quotient(text, 1) or text
    force_factor(unit)
    return unit


def stress_unit(text: str) -> str:
    """A stress unit in the names of eqff.units, e.g. "GPa" or "eV/Å^3".  Raises: ConfigError EQ1007"""
    plain = _plain(text)
    unit = "Hartree/Bohr^3" if plain in ATOMIC else PRESSURES.get(plain) or _quotient(text, 3) or text
    stress_factor(unit)
    return unit


def stated(info: Mapping[str, Any], where: str) -> dict[str, str]:
    """Units that a header states, by quantity ("energy", "length", "force", "stress"), as the file spells them.

    Args:   info: name -> value of the header; where: file and frame, for messages
    Raises: DataError EQ3600 for a key or value that cannot be understood, EQ3601 for two that contradict each other
    """
    found: dict[str, tuple[str, str]] = {}
    for key, value in info.items():
        for quantity, unit in _statement(key, value, where).items():
            before = found.setdefault(quantity, (key, unit))
            if not same(quantity, before[1], unit):
                raise _contradiction(before, (key, unit), quantity, where)
    virial = found.pop("virial", None)  # in the unit of energy, whoever states it
    if virial is not None and not same("energy", virial[1], found.get("energy", ("", "eV"))[1]):
        raise _contradiction(found.get("energy", ("energies by convention", "eV")), virial, "energy", where)
    return {quantity: unit for quantity, (_, unit) in found.items()}


def same(quantity: str, one: str, other: str) -> bool:
    """Whether two spellings mean one unit of energy, virial, length, force or stress."""
    spelling = {"length": length_unit, "force": force_unit, "stress": stress_unit}.get(quantity, energy_unit)
    return spelling(one) == spelling(other)


def is_unit_key(key: str) -> bool:
    """Whether a key of a header is about units."""
    return "unit" in OTHER_WORDS.sub("", key.lower())


def _statement(key: str, value: Any, where: str) -> dict[str, str]:
    """What one entry of a header says about the units of labels and positions."""
    if not is_unit_key(key):
        return {}
    rest = [word for word in _words(key) if word not in ("unit", "units")]
    if any(word.startswith(ELSEWHERE) or word in COUNTED for word in rest):
        return {}
    quantity = _quantity(rest)
    if not isinstance(value, str):
        words_of_a_text = isinstance(value, bool | np.bool_) and not rest
        if (quantity is not None or key.lower() == "units") and np.size(value) <= 1 and not words_of_a_text:
            raise _not_understood(key, value, where, "a name such as eV")
        return {}  # the vectors of a unit cell, a count, a word of a comment
    if rest in ([], ["system"], ["style"]):
        return _bundle(key, value, where)
    if "cell" in rest and not _is("length", value):
        return {}  # which cell it is
    if quantity is not None and "atom" not in rest:
        _check(quantity, key, value, where)
        return {quantity: value}
    raise _not_understood(key, value, where, "the unit of energy, length, force or stress")


def _bundle(key: str, value: str, where: str) -> dict[str, str]:
    """`units=...` without a quantity: a system of units, or a list of units that speak for themselves."""
    system = SYSTEMS.get(_plain(value))
    if system is not None:
        return dict(zip(QUANTITIES, system, strict=True))
    found = {}
    for part in re.split(r"\s*[,;]\s*|\s+and\s+", value.strip()):
        name = next((quantity for quantity in QUANTITIES if _is(quantity, part)), None)
        if name is None:
            raise _not_understood(key, value, where, "units of energy, length, force or stress, separated by commas")
        found[name] = part
    return found


def _check(quantity: str, key: str, value: str, where: str) -> None:
    if quantity == "stress" and _is("energy", value):
        raise _not_understood(key, value, where, "a unit of pressure or energy per volume")
    if not _is(quantity, value):
        raise _not_understood(key, value, where, f"a unit of {quantity} that eqff knows")


def _is(quantity: str, text: str) -> bool:
    if text.strip() in ("MeV", "mPa"):  # nearly always meV and MPa
        return False
    if quantity in ("energy", "virial", "length"):
        return _plain(text) in (LENGTHS if quantity == "length" else ENERGIES) or _plain(text) in ATOMIC
    try:
        (force_unit if quantity == "force" else stress_unit)(text)
    except ConfigError:
        return False
    return True


def _contradiction(one: tuple[str, str], other: tuple[str, str], quantity: str, where: str) -> DataError:
    return DataError(
        "EQ3601",
        f"{where}: {one[0]}={one[1]!r} and {other[0]}={other[1]!r} contradict each other about the unit of {quantity}; "
        "repair the file",
    )


def _not_understood(key: str, value: Any, where: str, expected: str) -> DataError:
    return DataError(
        "EQ3600",
        f"{where}: {key}={value!r} is not understood, expected {expected}; correct it, or remove it from the file and "
        "name the units by options (--energy-unit, --force-unit ...)",
    )


def _quantity(words: list[str]) -> str | None:
    """energy, virial, force, stress or length; a virial stress is a stress."""
    for quantity in ("stress", "force", "virial", "energy", "length"):
        if any(word.startswith(WORDS[quantity]) for word in words):
            return quantity
    return None


def _words(key: str) -> list[str]:
    """Lower-case words of energy-unit, energy_units, EnergyUnit, energyunit, UNIT_ENERGY."""
    words = []
    for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", key):
        word = word.lower()
        before, unit, after = re.fullmatch(r"(.*?)(units?|$)(.*)", word).groups()  # type: ignore[union-attr]
        words += [part for part in (before, unit, after) if part]
    return words


def _plain(text: str) -> str:
    """Lower case, one spelling of "per mole"."""
    plain = " ".join(text.split()).lower().strip("\"'")
    plain = re.sub(r"\s*(/|\bper\b)\s*", "/", plain)
    return re.sub(r"\s*[*·.]?\s*mol(e)?\s*\^?[-−⁻](1|¹)$|/mole$", "/mol", plain) if "mol" in plain else plain


def _quotient(text: str, power: int) -> str | None:
    """Energy over a power of a length, in the names of eqff.units; None for anything else."""
    numerator: list[str] = []
    lengths = []
    plain = text.lower().replace("**", "^").replace("³", "^3").replace("⁻¹", "^-1").replace("−", "-")
    plain = re.sub(r"\bper\b", "/", plain)
    for place, part in enumerate(plain.split("/")):
        grouped = "(" in part
        for number, word in enumerate(re.findall(r"[^\s*·()]+", part)):
            match = re.fullmatch(r"(a0|[a-zåö_]+)\^?(-?\d)?", word)
            if match is None:
                return None
            name, exponent = match[1], int(match[2] or 1)
            if place and (grouped or number == 0):
                exponent = -exponent
            if name in LENGTHS and exponent == -power:
                lengths.append(LENGTHS[name])
            elif name == "mol" and exponent == -1 and numerator in (["kcal"], ["kj"]):
                numerator = [f"{numerator[0]}/mol"]
            elif exponent == 1:
                numerator.append(name)
            else:
                return None
    if len(numerator) != 1 or len(lengths) != 1 or numerator[0] not in ENERGIES:
        return None
    return f"{ENERGIES[numerator[0]]}/{lengths[0]}" + ("" if power == 1 else f"^{power}")
