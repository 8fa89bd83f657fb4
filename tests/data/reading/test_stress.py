"""What a label of stress means by its name: order, unit and sign are known, asked for, or refused."""

import numpy as np
import pytest

from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source, read_frames
from eqff.errors import ConfigError, DataError

GPA = 0.0062415091  # eV/Å^3
SIX = np.array([0.01, 0.02, -0.03, 0.004, -0.005, 0.006])  # xx yy zz yz xz xy, eV/Å^3
MATRIX = np.array([[0.01, 0.006, -0.005], [0.006, 0.02, 0.004], [-0.005, 0.004, -0.03]])
VOLUME = 64.0


def words(values):
    return '"' + " ".join(f"{value:.10g}" for value in np.ravel(values)) + '"'


def write(tmp_path, header, pbc="T T T", columns="species:S:1:pos:R:3:forces:R:3"):
    line = f'Lattice="4 0 0 0 4 0 0 0 4" Properties={columns} pbc="{pbc}" energy=0.5 {header}'
    (tmp_path / "a.xyz").write_text(f"1\n{line}\nCu 0 0 0 0 0 0\n")
    return tmp_path / "a.xyz"


def vasp():
    """As VASP prints SIX, in kB: xx yy zz xy yz zx, positive under compression."""
    return -SIX[[0, 1, 2, 5, 3, 4]] / GPA * 10


@pytest.mark.parametrize("name", ["stress", "Stress", "REF_stress", "dft_stress"])
@pytest.mark.parametrize("values", [SIX, MATRIX], ids=["six", "nine"])
def test_usual_names_have_the_order_and_sign_of_ase(tmp_path, name, values):
    np.testing.assert_allclose(read_frames(write(tmp_path, f"{name}={words(values)}"))[0].stress, SIX)


def test_equal_labels_of_unequal_shape_are_one(tmp_path):
    path = write(tmp_path, f"stress={words(MATRIX)} dft_stress={words(SIX)}")
    np.testing.assert_allclose(read_frames(path)[0].stress, SIX)
    with pytest.raises(DataError, match="EQ3033"):
        read_frames(write(tmp_path, f"stress={words(MATRIX)} dft_stress={words(2 * SIX)}"))


def test_another_name_asks_for_order_and_unit(tmp_path):
    path = write(tmp_path, f"virial_stress={words(vasp())}")
    source = Source(path)
    assert source.frames[0].stress is None
    assert source.log.candidates["stress", "virial_stress"] == 1
    with pytest.raises(DataError, match=r"EQ3605.*'virial_stress'.*--stress-order"):
        read_frames(path, stress_key="virial_stress", stress_unit="kB")
    with pytest.raises(DataError, match=r"EQ3606.*'virial_stress'.*--stress-unit"):
        read_frames(path, stress_key="virial_stress", stress_order="vasp")
    frame = read_frames(path, stress_key="virial_stress", stress_unit="kB", stress_order="vasp")[0]
    np.testing.assert_allclose(frame.stress, SIX, rtol=1e-7)


def test_nine_numbers_need_no_order(tmp_path):
    path = write(tmp_path, f"sigma={words(MATRIX / GPA)}")
    np.testing.assert_allclose(read_frames(path, stress_key="sigma", stress_unit="GPa")[0].stress, SIX, rtol=1e-7)


def test_a_virial_of_six_numbers_needs_an_order(tmp_path):
    path = write(tmp_path, f"virial={words(-VOLUME * SIX[[0, 1, 2, 5, 3, 4]])}")
    with pytest.raises(DataError, match="EQ3605"):
        read_frames(path)
    np.testing.assert_allclose(read_frames(path, stress_order="vasp")[0].stress, SIX)
    path = write(tmp_path, f"virial={words(-VOLUME * MATRIX)}")
    np.testing.assert_allclose(read_frames(path)[0].stress, SIX)


@pytest.mark.parametrize("label", [f"virial={words(MATRIX)}", f"stress={words(SIX)}"], ids=["virial", "stress"])
def test_a_slab_has_no_stress_and_it_is_said(tmp_path, label):
    source = Source(write(tmp_path, label, pbc="T T F"))
    assert source.frames[0].stress is None
    (note,) = source.log.notes
    assert label.split("=")[0] in note
    assert not any(kind == "stress" for kind, _ in source.log.names)


def test_an_order_that_does_not_exist(tmp_path):
    with pytest.raises(ConfigError, match="EQ1008"):
        read_frames(write(tmp_path, ""), stress_order="nye")


def test_options_of_labels_are_refused_where_the_format_fixes_them(tmp_path):
    np.savez(tmp_path / "a.npz", R=np.zeros((1, 1, 3)), z=np.array([1]), E=np.zeros(1), F=np.zeros((1, 1, 3)))
    with pytest.raises(ConfigError, match=r"EQ1030.*stress_unit"):
        Source(tmp_path / "a.npz", ReadOptions(stress_unit="GPa", energy_unit="eV"))


def test_headers_in_any_case(tmp_path):
    text = write(tmp_path, "").read_text()
    for old, new in (("Properties", "properties"), ("Lattice", "LATTICE"), ("pbc", "PBC"), ("energy", "Energy")):
        text = text.replace(old, new)
    (tmp_path / "a.xyz").write_text(text.replace("Cu 0 0 0 0 0 0", "Cu 0 0 0 0.5 0 0"))
    frame = read_frames(tmp_path / "a.xyz")[0]
    assert (frame.energy, frame.forces[0, 0], frame.pbc.all(), frame.cell[0, 0]) == (0.5, 0.5, True, 4.0)


def test_columns_that_nothing_explains(tmp_path):
    (tmp_path / "a.xyz").write_text("1\nenergy=1.0\nCu 0 0 0 0.5 0 0\n")
    with pytest.raises(DataError, match=r"EQ3610.*7 columns, and 4 are explained"):
        read_frames(tmp_path / "a.xyz")
    (tmp_path / "a.xyz").write_text("1\nenergy=1.0\nCu 0 0 0 0.5\n")  # a charge cannot be a force
    assert read_frames(tmp_path / "a.xyz")[0].energy == 1.0


def test_the_energy_that_forces_belong_to(tmp_path):
    source = Source(write(tmp_path, "free_energy=0.25"))
    assert source.frames[0].energy == 0.25
    assert any("free_energy" in note for note in source.log.notes)
    assert read_frames(tmp_path / "a.xyz", energy_key="energy")[0].energy == 0.5
    assert read_frames(tmp_path / "a.xyz", forces_key="none")[0].energy == 0.5
    path = write(tmp_path, "free_energy=0.25")
    path.write_text(path.read_text().replace(" energy=0.5", ""))
    assert read_frames(path)[0].energy == 0.25
    assert not Source(write(tmp_path, "free_energy=0.5")).log.notes
