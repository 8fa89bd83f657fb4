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

ENERGY = {"eV": 1.0, "meV": 1e-3, "kcal/mol": KCAL_PER_MOL, "kJ/mol": KJ_PER_MOL, "Hartree": HARTREE}
LENGTH = {"Å": 1.0, "Angstrom": 1.0, "nm": 10.0, "Bohr": BOHR}


def energy_factor(unit: str) -> float:
    """Factor that turns an energy in `unit` into eV.  Raises: ConfigError for a unit not in the table."""
    return _factor(ENERGY, "energy", unit)


def length_factor(unit: str) -> float:
    """Factor that turns a length in `unit` into Å.  Raises: ConfigError for a unit not in the table."""
    return _factor(LENGTH, "length", unit)


def _factor(table: dict[str, float], quantity: str, unit: str) -> float:
    for name, factor in table.items():
        if name.lower() == unit.strip().lower():
            return factor
    raise ConfigError("EQ1001", f"{quantity} unit={unit!r} is unknown; use one of {', '.join(table)}")
