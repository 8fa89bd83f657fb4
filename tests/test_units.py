import ase.units
import pytest

from eqff.errors import ConfigError
from eqff.units import energy_factor, length_factor


def test_factors_are_ases():
    expected = {
        "eV": 1.0,
        "meV": 1e-3,
        "kcal/mol": ase.units.kcal / ase.units.mol,
        "kJ/mol": ase.units.kJ / ase.units.mol,
        "Hartree": ase.units.Hartree,
    }
    for unit, value in expected.items():
        assert energy_factor(unit) == pytest.approx(value, rel=1e-7)
    assert length_factor("bohr") == pytest.approx(ase.units.Bohr, rel=1e-7)  # in any case
    assert length_factor("nm") == ase.units.nm


def test_unknown_units_are_named():
    with pytest.raises(ConfigError, match=r"EQ1001.*'kcal'.*kcal/mol"):
        energy_factor("kcal")
    with pytest.raises(ConfigError, match="length"):
        length_factor("foot")
