from itertools import pairwise

import numpy as np
import pytest

from eqff.data.formats import extxyz
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source, read_frames
from eqff.errors import DataError

CELL = 'Lattice="4 0 0 0 5 0 0 0 6"'
COLUMNS = "Properties=species:S:1:pos:R:3:forces:R:3"


def frame_text(header: str, columns: str = "0.1 0.2 0.3") -> str:
    return f"2\n{header}\nO 0 0 0 {columns}\nH 0.96 0 0 {columns}\n"


def read_text(tmp_path, text, **options):
    path = tmp_path / "a.extxyz"
    path.write_text(text)
    return list(extxyz.read(path, ReadOptions(**options)))


def test_water_sample_has_all_labels_in_ase_conventions(water_file):
    source = Source(water_file)
    assert source.census.labels == {"energy": 5, "forces": 5, "stress": 5}
    first = water_file.read_text().splitlines()[1]
    nine = [float(x) for x in first.split('stress="')[1].split('"')[0].split()]
    voigt = [nine[0], nine[4], nine[8], nine[5], nine[2], nine[1]]
    np.testing.assert_allclose(source.frames[0].stress, voigt)
    assert source.frames[0].energy == float(first.split("energy=")[1].split()[0])
    assert source.frames[0].pbc.all()
    assert source.frames[0].info["config_type"] == "water16_GFN1-xTB_350K"


def test_energy_change_equals_work_of_the_forces(water_file):
    """Consecutive frames, 2 fs apart: dE = -F.dx roughly at this step; a wrong unit or sign is off by far more."""
    frames = read_frames(water_file)
    for one, other in pairwise(frames):
        work = -(0.5 * (one.forces + other.forces) * (other.positions - one.positions)).sum()
        change = other.energy - one.energy
        assert abs(change) > 0.05
        assert work == pytest.approx(change, rel=0.3)


def test_lattice_with_pbc_f_is_not_periodic(tmp_path):
    (frame,) = read_text(tmp_path, frame_text(f'{CELL} {COLUMNS} energy=-1.0 pbc="F F F"'))
    assert not frame.pbc.any()
    assert not frame.cell.any()
    (mixed,) = read_text(tmp_path, frame_text(f'{CELL} {COLUMNS} energy=-1.0 pbc="T F T"'))
    assert mixed.pbc.tolist() == [True, False, True]
    np.testing.assert_array_equal(np.diag(mixed.cell), [4.0, 5.0, 6.0])


@pytest.mark.parametrize("name", ["Energy", "REF_energy", "dft_energy", "TotEnergy"])
def test_other_names_of_the_energy(tmp_path, name):
    (frame,) = read_text(tmp_path, frame_text(f"{COLUMNS} {name}=-7.25"))
    assert frame.energy == -7.25
    assert frame.forces[1].tolist() == [0.1, 0.2, 0.3]
    assert name not in frame.info


@pytest.mark.parametrize("name", ["force", "REF_forces", "dft_forces"])
def test_other_names_of_the_forces(tmp_path, name):
    columns = COLUMNS.replace("forces", name)
    (frame,) = read_text(tmp_path, frame_text(f"{columns} energy=-7.25"))
    assert frame.forces[0].tolist() == [0.1, 0.2, 0.3]


def test_two_energies_that_differ_are_asked_about(tmp_path):
    text = frame_text(f"{COLUMNS} energy=-7.0 REF_energy=-8.0")
    with pytest.raises(DataError, match=r"EQ3033.*'energy' and 'REF_energy'"):
        read_text(tmp_path, text)
    assert read_text(tmp_path, text, energy_key="REF_energy")[0].energy == -8.0
    assert read_text(tmp_path, text, energy_key="energy")[0].energy == -7.0
    assert read_text(tmp_path, text.replace("-8.0", "-7.0"))[0].energy == -7.0


def test_a_named_label_must_be_there(tmp_path):
    with pytest.raises(DataError, match=r"EQ3031.*frame 0 has no 'mp2' for energy; choose from .*energy"):
        read_text(tmp_path, frame_text(f"{COLUMNS} energy=-7.0"), energy_key="mp2")


def test_virial_becomes_stress_with_the_other_sign(tmp_path):
    (frame,) = read_text(tmp_path, frame_text(f'{CELL} {COLUMNS} energy=-1 virial="1 2 3 2 4 5 3 5 6" pbc="T T T"'))
    np.testing.assert_allclose(frame.stress, -np.array([1, 4, 6, 5, 3, 2]) / 120.0)
    (told,) = read_text(
        tmp_path,
        frame_text(f'{CELL} {COLUMNS} energy=-1 virial="1 2 3 2 4 5 3 5 6" pbc="T T T"'),
        stress_key="virial",
    )
    np.testing.assert_array_equal(told.stress, frame.stress)


def test_units_scale_every_label(tmp_path):
    text = frame_text(f'{CELL} {COLUMNS} energy=-2 stress="1 2 3 2 4 5 3 5 6" pbc="T T T"')
    (frame,) = read_text(tmp_path, text, energy_unit="Hartree", length_unit="Bohr")
    assert frame.energy == pytest.approx(-2 * 27.211386245988)
    assert frame.positions[1, 0] == pytest.approx(0.96 * 0.529177210903)
    assert frame.cell[2, 2] == pytest.approx(6 * 0.529177210903)
    assert frame.forces[0, 0] == pytest.approx(0.1 * 51.4220674763)
    assert frame.stress[0] == pytest.approx(29421.02648438959 / 160.21766208, rel=1e-6)  # Eh/a0^3 in GPa, by CODATA


def test_kcal_by_mistake_is_refused(tmp_path):
    text = frame_text(f"{COLUMNS} energy=-97000.0", "20.0 -25.0 30.0")
    with pytest.raises(DataError, match=r"EQ3012.*looks like kcal/mol"):
        read_text(tmp_path, text)
    assert read_text(tmp_path, text, energy_unit="kcal/mol")[0].forces[0, 0] == pytest.approx(20 / 23.060548)


def test_a_stress_that_is_none(tmp_path):
    with pytest.raises(DataError, match=r"EQ3608.*expected 6 or 9"):
        read_text(tmp_path, frame_text(f'{CELL} {COLUMNS} energy=-1 REF_stress="1 2 3 4" pbc="T T T"'))
    with pytest.raises(DataError, match=r"EQ3608.*not symmetric"):
        read_text(tmp_path, frame_text(f'{CELL} {COLUMNS} energy=-1 REF_stress="1 2 3 9 4 5 3 5 6" pbc="T T T"'))


def test_damaged_text_names_the_frame(tmp_path):
    good = frame_text(f"{COLUMNS} energy=-1.0")
    with pytest.raises(DataError, match=r"EQ3036.*frame 1"):
        read_text(tmp_path, good + good[: len(good) // 2])
    with pytest.raises(DataError, match=r"EQ3931.*frame 0"):
        read_text(tmp_path, "hello\nworld\n")
    with pytest.raises(DataError, match="EQ3024"):
        list(extxyz.read(tmp_path / "nowhere.xyz"))


def test_frames_without_labels_stay_without(tmp_path):
    (frame,) = read_text(tmp_path, "2\n\nO 0 0 0\nH 0.96 0 0\n")
    assert (frame.energy, frame.forces, frame.stress) == (None, None, None)


def test_round_trip(mixed_frames, tmp_path, same_frame):
    frames = [f for f in mixed_frames if f.pbc.all() or not f.pbc.any()]
    extxyz.write(tmp_path / "a.extxyz", frames)
    again = read_frames(tmp_path / "a.extxyz")
    for one, other in zip(frames, again, strict=True):
        assert same_frame(one, other, tolerance=6e-9)  # ASE writes eight decimals
    assert again[1].info["config_type"] == "bulk"
    assert again[1].energy == frames[1].energy


@pytest.mark.parametrize("symbol", ["X", "Bq", "H_gh", "XX", "Gh"])
def test_ghost_atoms_are_refused_by_name_and_place(tmp_path, symbol):
    (tmp_path / "a.xyz").write_text(f"2\nenergy=1\nO 0 0 0\n{symbol} 0 0 1\n")
    with pytest.raises(DataError, match=rf"EQ3030.*atom 1: '{symbol}' is a ghost or dummy atom"):
        read_frames(tmp_path / "a.xyz")
