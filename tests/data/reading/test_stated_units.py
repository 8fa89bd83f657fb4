"""Units in headers: every spelling is understood, known to be about something else, or refused by its key."""

import numpy as np
import pytest

from eqff.data.formats import extxyz
from eqff.data.reading.file_units import decide_units
from eqff.data.reading.read import Source, read_frames
from eqff.data.reading.stated_units import energy_unit, force_unit, is_unit_key, length_unit, stated, stress_unit
from eqff.errors import ConfigError, DataError

HARTREE, BOHR, KCAL = 27.211386245988, 0.529177210903, 0.0433641042  # eV, Å, eV; CODATA 2018
GPA = 0.0062415091  # eV/Å^3


def write(tmp_path, header, energy=0.5, frames=1):
    line = f'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:forces:R:3 pbc="T T T" energy={energy} {header}'
    text = f"2\n{line}\nCu 0 0 0 0.1 0 0\nCu 2 2 0 -0.1 0 0\n"
    (tmp_path / "a.xyz").write_text(text * frames)
    return tmp_path / "a.xyz"


@pytest.mark.parametrize(
    ("text", "factor"),
    [
        ("eV/Å", 1.0), ("eV/A", 1.0), ("ev/ang", 1.0), ("eV/Angstrom", 1.0), ("eV*Å^-1", 1.0), ("eV Å-1", 1.0),
        ("meV/Å", 1e-3), ("Hartree/Bohr", HARTREE / BOHR), ("Ha/a0", HARTREE / BOHR), ("a.u.", HARTREE / BOHR),
        ("Ry/bohr", HARTREE / BOHR / 2), ("kcal/mol/Å", KCAL), ("kcal/(mol A)", KCAL), ("kcal mol-1 Å-1", KCAL),
        ("kJ/mol/nm", KCAL / 4.184 / 10),
    ],
)  # fmt: skip
def test_forces_in_many_words(tmp_path, text, factor):
    path = write(tmp_path, f'energy_unit="{text.rpartition("/")[0] if "/" in text else ""}" forces_unit="{text}"')
    path = write(tmp_path, f'forces_unit="{text}"')
    assert read_frames(path, energy_unit="eV")[0].forces[0, 0] == pytest.approx(0.1 * factor, rel=1e-7)


@pytest.mark.parametrize(
    ("text", "factor"),
    [
        ("GPa", GPA), ("kbar", GPA / 10), ("kB", GPA / 10), ("bar", GPA * 1e-4), ("MPa", GPA * 1e-3), ("eV/Å^3", 1.0),
        ("eV/A3", 1.0), ("ev/ang**3", 1.0), ("eV/Angstrom^3", 1.0), ("eV Å-3", 1.0),
        ("Hartree/Bohr^3", HARTREE / BOHR**3), ("Ha/a0^3", HARTREE / BOHR**3),
    ],
)  # fmt: skip
def test_stress_in_many_words(tmp_path, text, factor):
    path = write(tmp_path, f'stress="1 2 3 4 5 6" stress-unit="{text}"')
    frame = read_frames(path, energy_unit=None if "Ha" not in text else "Hartree", force_unit="eV/Å")[0]
    np.testing.assert_allclose(frame.stress, np.arange(1.0, 7.0) * factor, rtol=1e-7)


@pytest.mark.parametrize(
    "key",
    ["energy-unit", "energy_unit", "unit_energy", "Energy_unit", "ENERGY_UNITS", "EnergyUnit", "energyunit",
     "energy.unit", "unit-of-energy", "units"],
)  # fmt: skip
def test_keys_that_state_the_energy_unit(tmp_path, key):
    frame = read_frames(write(tmp_path, f"{key}=Hartree"), force_unit="eV/Å")[0]
    assert frame.energy == pytest.approx(0.5 * HARTREE)
    assert key not in frame.info  # the frame is in eV


@pytest.mark.parametrize(
    "entry",
    [
        "time_unit=fs",
        "n_units=4",
        "formula_units=2",
        "community=MD",
        "mass-unit=amu",
        "kinetic_energy_unit=kcal/mol",
        "atomization_energy_unit=kcal/mol",
        "structural_unit=SiO4",
        "unitcell=primitive",
    ],
)
def test_units_of_something_else_are_kept(tmp_path, entry):
    frame = read_frames(write(tmp_path, entry))[0]
    assert frame.energy == 0.5


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ("energy_unit=calories", "energy_unit"),
        ("energy_unit=27.2", "energy_unit"),
        ("stress_unit=eV", "stress_unit"),
        ("force_unit=N", "force_unit"),
        ("length_unit=parsec", "length_unit"),
        ("my_unit=eV", "my_unit"),
        ("units=furlong", "units"),
        ("virial-unit=GPa", "virial-unit"),
        ("eunit=Hartree", "eunit"),
        ("unitsystem=furlong", "unitsystem"),
        ("unitsofenergy=kcal/mol", "unitsofenergy"),
        ("units_energy_per_atom=kcal/mol", "units_energy_per_atom"),
        ("positionsatomic_unit", "positionsatomic_unit"),
        ("units=1", "units"),
        ("energy_unit=MeV", "energy_unit"),
    ],
)
def test_what_is_not_understood_is_refused_by_its_key(tmp_path, entry, key):
    with pytest.raises(DataError, match=f"EQ3600.*{key}"):
        read_frames(write(tmp_path, entry))


def test_units_that_contradict_each_other(tmp_path):
    with pytest.raises(DataError, match=r"EQ3601.*energy_unit.*virial_unit"):
        read_frames(write(tmp_path, "energy_unit=Hartree virial_unit=eV"))
    with pytest.raises(DataError, match=r"EQ3604.*kcal/mol"):
        read_frames(write(tmp_path, "energy_unit=eV force_unit=kcal/mol/Å"))
    with pytest.raises(DataError, match=r"EQ3602.*Hartree"):
        read_frames(write(tmp_path, "force_unit=Hartree/Bohr"))
    with pytest.raises(DataError, match="EQ3011"):
        read_frames(write(tmp_path, "energy_unit=eV force_unit=eV/Å"), force_unit="Hartree/Bohr")


def test_energies_in_hartree_leave_the_forces_open(tmp_path):
    path = write(tmp_path, "units=hartree")
    with pytest.raises(DataError, match=r"EQ3603.*--force-unit"):
        read_frames(path)
    frame = read_frames(path, force_unit="Hartree/Bohr")[0]
    assert frame.forces[0, 0] == pytest.approx(0.1 * HARTREE / BOHR)
    np.testing.assert_array_equal(frame.positions[1], [2, 2, 0])


def test_a_system_of_units(tmp_path):
    frame = read_frames(write(tmp_path, 'units=atomic stress="1 0 0 0 0 0"'))[0]
    assert frame.energy == pytest.approx(0.5 * HARTREE)
    assert frame.positions[1, 0] == pytest.approx(2 * BOHR)
    assert frame.forces[0, 0] == pytest.approx(0.1 * HARTREE / BOHR)
    assert frame.stress[0] == pytest.approx(HARTREE / BOHR**3)


def test_a_later_frame_may_not_change_the_units(tmp_path):
    path = write(tmp_path, "energy_unit=eV")
    path.write_text(path.read_text() + path.read_text().replace("energy_unit=eV", "energy_unit=Hartree"))
    with pytest.raises(DataError, match=r"frame 1.*states 'Hartree'"):
        read_frames(path)
    path = write(tmp_path, "energy_unit=kcal/mol")
    path.write_text(path.read_text() + path.read_text().replace("energy_unit=kcal/mol", ""))
    with pytest.raises(DataError, match=r"EQ3611.*frame 1.*no unit of energy"):
        read_frames(path)
    path = write(tmp_path, "energy_unit=eV")
    path.write_text(path.read_text() + path.read_text().replace("energy_unit=eV", "energy_unit=ev"))
    assert len(read_frames(path)) == 2


def test_a_broken_first_frame_still_states_the_units(tmp_path):
    path = write(tmp_path, "energy_unit=kcal/mol", frames=2)
    path.write_text(path.read_text().replace("Cu 0 0 0", "Cu 0 0 zz", 1))
    (frame,) = read_frames(path, skip_bad=True)
    assert frame.energy == pytest.approx(0.5 * KCAL)


def test_stress_beside_energies_in_hartree_is_asked_for(tmp_path):
    path = write(tmp_path, 'energy_unit=Hartree force_unit=Hartree/Bohr stress="1 0 0 0 1 0 0 0 1"')
    with pytest.raises(DataError, match="EQ3606"):
        read_frames(path)
    assert read_frames(path, stress_unit="Hartree/Bohr^3")[0].stress[0] == pytest.approx(HARTREE / BOHR**3)


def test_a_file_that_was_read_and_written_is_read_alike(tmp_path):
    frames = read_frames(write(tmp_path, "energy-unit=Hartree force-unit=Hartree/Bohr"))
    extxyz.write(tmp_path / "b.extxyz", frames)
    one, other = (Source(tmp_path / name).frames[0] for name in ("a.xyz", "b.extxyz"))
    assert other.energy == one.energy == pytest.approx(0.5 * HARTREE)


def test_forces_of_a_format_that_defines_its_units_may_be_large():
    large = np.full((10, 3), 50.0)
    with pytest.raises(DataError, match="EQ3012"):
        decide_units("a", energy=(None, None, "eV"), length=(None, None, "Å"), forces=large)
    units = decide_units("a", energy=(None, "eV", None), length=(None, None, "Å"), forces=large)
    assert "unusual" in units.doubt


def test_names_in_the_table():
    assert (energy_unit("kcal mol^-1"), energy_unit("Eh"), energy_unit("a.u.")) == ("kcal/mol", "Hartree", "Hartree")
    assert (length_unit("Angstroms"), length_unit("au"), length_unit("a0")) == ("Å", "Bohr", "Bohr")
    assert (force_unit("eV per Å"), stress_unit("eV/Å³")) == ("eV/Å", "eV/Å^3")
    assert [is_unit_key(key) for key in ("unit_cell", "opportunity", "unitforce")] == [True, False, True]
    for spelling, text in ((force_unit, "eV"), (stress_unit, "eV/Å"), (force_unit, "eV/Å^3")):
        with pytest.raises(ConfigError, match="EQ1007"):
            spelling(text)
    assert stated({"unit_cell": np.eye(3)}, "a") == {}
