import numpy as np
import pytest

from eqff.data.reading.file_units import decide_units, same_unit
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


ETHANOL = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])


@pytest.mark.parametrize(
    ("energy", "unit"), [(-154.7, "Hartree"), (-4210.0, "eV"), (-97087.0, "kcal/mol"), (-406211.0, "kJ/mol")]
)
def test_total_energies_of_all_electrons_tell_their_unit(energy, unit):
    """Ethanol: CCSD(T) -154.7 Hartree, the others by conversion; no forces are needed."""
    with pytest.raises(DataError, match=f"EQ3010.*totals of all electrons in {unit}$"):
        decide_units("f", energy=NOTHING, length=(None, None, "Å"), energies=([energy], [ETHANOL]))


@pytest.mark.parametrize(
    ("numbers", "energy"),  # Hartree, near-exact total energies: H atom, C atom, N2, H2O, CF4, SiH4, Ar
    [([1], -0.5), ([6], -37.84), ([7, 7], -109.54), ([8, 1, 1], -76.44), ([6, 9, 9, 9, 9], -437.6),
     ([14, 1, 1, 1, 1], -291.9), ([18], -527.5)],
)  # fmt: skip
def test_the_estimate_holds_across_the_table(numbers, energy):
    with pytest.raises(DataError, match=r"EQ3012.*totals of all electrons in Hartree"):
        decide_units("f", energy=(None, None, "eV"), length=(None, None, "Å"), energies=([energy], [np.array(numbers)]))
    told = decide_units(
        "f", energy=("Hartree", None, "eV"), length=(None, None, "Å"), energies=([energy], [np.array(numbers)])
    )
    assert told.energy == "Hartree"


@pytest.mark.parametrize(
    ("numbers", "energy"),  # eV with pseudopotentials or valence only: Si bulk, Mo bulk, GFN2 ethanol; isolated H
    [([14, 14], -10.85), ([42], -10.9), (ETHANOL, -309.6), ([1], -13.6), ([1, 1], -6.77)],
)
def test_valence_energies_in_electronvolt_are_left_in_peace(numbers, energy):
    units = decide_units(
        "f", energy=(None, None, "eV"), length=(None, None, "Å"), energies=([energy], [np.array(numbers)])
    )
    assert units.energy == "eV"


def test_spellings_of_one_unit():
    assert same_unit("Ang", "Å")
    assert same_unit("HA", "hartree")
    assert not same_unit("nm", "Å")
