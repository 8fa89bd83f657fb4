import numpy as np
import pytest

from eqff.data.units import decide_units
from eqff.errors import ConfigError, DataError

NOTHING = (None, None, None)


def test_stated_units_are_taken():
    units = decide_units("f", energy=(None, "kcal/mol", None), length=(None, "Ang", None))
    assert (units.energy, units.length) == ("kcal/mol", "Å")
    assert units.energy_factor == pytest.approx(0.043364106, rel=1e-7)
    assert units.energy_source == "stated in the file"


def test_atomic_units_give_the_force_factor_of_the_field():
    units = decide_units("f", energy=("Ha", None, None), length=("bohr", None, None))
    assert units.force_factor == pytest.approx(51.42206747, rel=1e-8)  # CODATA: 1 Eh/a0 in eV/Å


@pytest.mark.parametrize(
    ("rms", "name"), [(27.6, "kcal/mol/Å"), (1.2, "eV/Å"), (0.023, "Hartree/Bohr"), (115.0, "kJ/mol/Å")]
)
def test_a_missing_unit_is_asked_for_with_a_suggestion(rms, name):
    with pytest.raises(DataError, match=f"looks like {name}") as caught:
        decide_units("f.npz", energy=NOTHING, length=(None, None, "Å"), forces=np.full((3, 3), rms))
    assert caught.value.id == "EQ3010"
    assert "--energy-unit" in caught.value.message


def test_no_suggestion_without_forces_or_for_odd_magnitudes():
    with pytest.raises(DataError, match="no forces to judge by"):
        decide_units("f", energy=NOTHING, length=(None, None, "Å"))
    with pytest.raises(DataError, match="does not look like any usual unit"):
        decide_units("f", energy=NOTHING, length=(None, None, "Å"), forces=np.full((3, 3), 1e5))


def test_option_and_file_that_disagree_are_an_error():
    with pytest.raises(DataError, match="EQ3011"):
        decide_units("f", energy=("eV", "kcal/mol", None), length=(None, None, "Å"))
    same = decide_units("f", energy=("KCAL/MOL", "kcal/mol", None), length=("Angstrom", "Ang", None))
    assert same.energy_source == "stated in the file"


def test_unknown_units():
    with pytest.raises(ConfigError, match="furlong"):
        decide_units("f", energy=("eV", None, None), length=("furlong", None, None))
    with pytest.raises(DataError, match="EQ3013"):
        decide_units("f", energy=(None, "furlong", None), length=(None, None, "Å"))


def test_convention_is_refused_when_the_forces_speak_against_it():
    forces = np.full((3, 3), 19.0)
    with pytest.raises(DataError, match="EQ3012"):
        decide_units("f", energy=(None, None, "eV"), length=(None, None, "Å"), forces=forces)
    told = decide_units("f", energy=("eV", None, "eV"), length=(None, None, "Å"), forces=forces)
    assert told.doubt is not None  # told, so taken, with a warning
    assert decide_units("f", energy=("kcal/mol", None, "eV"), length=(None, None, "Å"), forces=forces).doubt is None
