"""Units and conventions: inside eqff eV, Å and amu, fs on the command line; the only table of conversion factors.

Source: CODATA 2018 as rounded by the field (1 eV = 23.060548 kcal/mol).
"""

from eqff.errors import ConfigError

KCAL_PER_MOL = 1.0 / 23.060548012069496  # eV
KJ_PER_MOL = KCAL_PER_MOL / 4.184  # eV
HARTREE = 27.211386245988  # eV
BOHR = 0.529177210903  # Å
GPA = 1.0 / 160.2176634  # eV/Å^3
BOLTZMANN = 8.617333262e-5  # eV/K
G_PER_CM3 = 1.66053906660  # 1 amu/Å^3

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))  # order of six stress components: xx yy zz yz xz xy

ENERGY = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": KJ_PER_MOL,
    "Hartree": HARTREE,
    "Rydberg": 0.5 * HARTREE,
}
LENGTH = {"Å": 1.0, "Angstrom": 1.0, "nm": 10.0, "Bohr": BOHR}
PRESSURE = {
    "GPa": GPA,
    "MPa": 1e-3 * GPA,
    "Pa": 1e-9 * GPA,
    "kbar": 0.1 * GPA,
    "bar": 1e-4 * GPA,
    "atm": 1.01325e-4 * GPA,
}


def energy_factor(unit: str) -> float:
    """Factor that turns an energy in `unit` into eV.  Raises: ConfigError for a unit not in the table."""
    return _factor(ENERGY, "energy", unit)


def length_factor(unit: str) -> float:
    """Factor that turns a length in `unit` into Å.  Raises: ConfigError for a unit not in the table."""
    return _factor(LENGTH, "length", unit)


def force_factor(unit: str) -> float:
    """Factor that turns a force in `unit` (energy/length, e.g. Hartree/Bohr) into eV/Å.  Raises: as `_compound`"""
    return _compound(unit, "force", "")


def stress_factor(unit: str) -> float:
    """Factor that turns a stress in `unit` (GPa, or energy/length^3) into eV/Å^3.  Raises: as `_compound`"""
    for name, factor in PRESSURE.items():
        if name == unit:
            return factor
    return _compound(unit, "stress", "^3")


def _compound(unit: str, quantity: str, power: str) -> float:
    """Of an energy over a power of a length.  Raises: ConfigError EQ1007 for any other unit"""
    energy, _, length = unit.removesuffix(power).rpartition("/")
    if unit.endswith(power) and energy in ENERGY and length in LENGTH:
        return ENERGY[energy] / LENGTH[length] ** (3 if power else 1)
    examples = "eV/Å, kcal/mol/Å, Hartree/Bohr" if quantity == "force" else "GPa, kbar, eV/Å^3, Hartree/Bohr^3"
    raise ConfigError("EQ1007", f"{quantity} unit={unit!r} is unknown; use e.g. one of {examples}")


def _factor(table: dict[str, float], quantity: str, unit: str) -> float:
    for name, factor in table.items():
        if name.lower() == unit.strip().lower():
            return factor
    raise ConfigError("EQ1001", f"{quantity} unit={unit!r} is unknown; use one of {', '.join(table)}")
