import numpy as np
import pytest

from eqff.data.formats import md17
from eqff.data.frame import Frame
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source, read_frames
from eqff.errors import DataError


def test_units_stated_in_the_file_are_used(ethanol_file):
    source = Source(ethanol_file)
    assert source.format == "md17"
    assert source.units.energy == "kcal/mol"
    assert source.units.energy_source == "stated in the file"
    with np.load(ethanol_file) as arrays:
        energy, forces, positions = arrays["E"][3, 0], arrays["F"][3], arrays["R"][3]
    frame = source.frames[3]
    assert frame.energy == pytest.approx(energy / 23.060548012, rel=1e-10)
    np.testing.assert_allclose(frame.forces, forces / 23.060548012, rtol=1e-9)
    np.testing.assert_array_equal(frame.positions, positions)
    assert frame.atomic_numbers.dtype == np.int64
    assert not frame.pbc.any()


def test_units_that_are_not_stated_are_asked_for(ethanol_file, tmp_path):
    with np.load(ethanol_file) as arrays:
        np.savez(tmp_path / "bare.npz", **{name: arrays[name] for name in "zREF"})
    with pytest.raises(DataError, match="looks like kcal/mol") as caught:
        read_frames(tmp_path / "bare.npz")
    assert caught.value.id == "EQ3010"
    told = read_frames(tmp_path / "bare.npz", energy_unit="kcal/mol")
    assert told[0].energy == read_frames(ethanol_file)[0].energy
    with pytest.raises(DataError, match="EQ3011"):
        read_frames(ethanol_file, energy_unit="eV")


def test_round_trip_with_the_md5_of_sgdml(ethanol_file, tmp_path, same_frame):
    frames = read_frames(ethanol_file)
    path = tmp_path / "copy.npz"
    md17.write(path, frames)
    for one, other in zip(frames, read_frames(path), strict=True):
        assert same_frame(one, other, tolerance=1e-12)
    # the file's own md5 was made by sGDML's rule; its numbers written back unchanged must give the same one
    with np.load(ethanol_file) as original, np.load(path) as copy:
        assert str(copy["e_unit"]) == "kcal/mol"
        assert str(copy["name"]) == "C2H6O"
        unchanged = [np.array_equal(original[name], copy[name]) for name in "zREF"]
        assert (original["md5"] == copy["md5"]) == all(unchanged)


def test_energy_only_and_lattice_as_columns(tmp_path):
    lattice = np.array([[4.0, 1.0, 0.0], [0.0, 5.0, 0.5], [0.0, 0.0, 6.0]])  # columns are lattice vectors
    np.savez(
        tmp_path / "a.npz",
        z=[1, 1],
        R=[[[0.0, 0, 0], [0.74, 0, 0]]],
        E=[-31.0],
        e_unit=np.array(b"eV"),
        r_unit=np.array(b"Angstrom"),
        lattice=lattice,
    )
    (frame,) = md17.read(tmp_path / "a.npz")
    assert frame.forces is None
    np.testing.assert_array_equal(frame.cell, lattice.T)
    assert frame.pbc.all()


def test_lattice_scales_with_the_length_unit(tmp_path):
    arrays = {"z": [1, 1], "R": [[[0.0, 0, 0], [1.4, 0, 0]]], "E": [-1.1], "lattice": np.eye(3) * 10.0}
    np.savez(tmp_path / "a.npz", **arrays)
    (frame,) = md17.read(tmp_path / "a.npz", ReadOptions(energy_unit="Hartree", length_unit="Bohr"))
    np.testing.assert_allclose(np.diag(frame.cell), 5.29177210903)
    np.testing.assert_allclose(frame.positions[1, 0], 1.4 * 0.529177210903)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"atomic_numbers": np.array([1, 6])}, "other atoms"),
        ({"forces": None}, "no forces"),
        ({"energy": None}, "no energy"),
        ({"pbc": np.array([True, False, False])}, "periodic"),
    ],
)
def test_what_the_layout_cannot_hold_is_refused(tmp_path, change, reason):
    good = {
        "atomic_numbers": np.array([1, 1]),
        "positions": np.array([[0.0, 0, 0], [0.74, 0, 0]]),
        "energy": -31.0,
        "forces": np.zeros((2, 3)),
    }
    with pytest.raises(DataError, match=reason) as caught:
        md17.write(tmp_path / "a.npz", [Frame(**good), Frame(**(good | change))])
    assert caught.value.id == "EQ3026"
    assert "frame 1" in caught.value.message
