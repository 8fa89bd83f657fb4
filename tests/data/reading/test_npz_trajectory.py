"""Trajectories of one molecule as arrays: shapes, dtypes, units by magnitude, blocks."""

import numpy as np
import pytest

from eqff.data.reading import npz_trajectory
from eqff.data.reading.file_units import Units
from eqff.data.reading.npz import open_npz
from eqff.data.reading.npz_trajectory import Trajectory, frame_count
from eqff.errors import DataError


@pytest.fixture
def good():
    return {
        "z": np.array([8, 1, 1], dtype=np.uint8),
        "R": np.ones((4, 3, 3)),
        "E": np.ones((4, 1)),
        "F": np.ones((4, 3, 3)),
    }


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"R": np.ones((4, 3))}, r"R has shape \(4, 3\), expected \(n_frames, n_atoms, 3\)"),
        ({"z": np.ones(4, dtype=int)}, r"z has shape \(4,\), expected \(3,\)"),
        ({"E": np.ones(3)}, r"E has shape \(3,\), expected \(4,\) or \(4, 1\)"),
        ({"E": np.ones((4, 3))}, "E has shape"),
        ({"F": np.ones((4, 2, 3))}, r"F has shape \(4, 2, 3\), expected \(4, 3, 3\)"),
        ({"z": np.ones(3)}, "z has dtype float64"),
        ({"R": np.ones((4, 3, 3), dtype=complex)}, "R has dtype complex"),
        ({"R": np.ones((0, 3, 3)), "E": None, "F": None}, "no frames"),
    ],
)
def test_wrong_shapes_say_expected_and_found(good, change, text):
    arrays = {name: array for name, array in (good | change).items() if array is not None}
    with pytest.raises(DataError, match=text):
        Trajectory("a.npz", arrays, ("z", "R", "E", "F"))


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_both_shapes_of_energies(good, shape):
    found = Trajectory("a.npz", good | {"E": np.arange(4.0).reshape(shape)}, ("z", "R", "E", "F"))
    frames = list(found.frames(Units("eV", "Å", "option", "option"), {}))
    assert [frame.energy for frame in frames] == [0.0, 1.0, 2.0, 3.0]
    assert found.atomic_numbers.dtype == np.int64


def test_lengths_that_cannot_be_angstrom_are_asked_for():
    """H2O in Bohr: the O-H distance is 1.81."""
    positions = np.array([[[0.0, 0.0, 0.0], [1.81, 0.0, 0.0], [-0.45, 1.75, 0.0]]])
    arrays = {"z": np.array([8, 1, 1]), "R": positions}
    trajectory = Trajectory("a.npz", arrays, ("z", "R", "E", "F"))
    with pytest.raises(DataError, match=r"length unit; .* shortest distance in frame 0 is 1.81"):
        trajectory.units("Hartree", None)
    units = trajectory.units("Hartree", "Bohr")
    (frame,) = trajectory.frames(units, {})
    assert frame.positions[1, 0] == pytest.approx(0.9578, abs=1e-4)


def test_frames_of_a_large_array_are_read_in_blocks(tmp_path, monkeypatch, good):
    monkeypatch.setattr(npz_trajectory, "BLOCK", 24 * 3 * 7)  # seven frames
    content = {"z": good["z"], "R": np.random.default_rng(0).normal(size=(30, 3, 3)), "E": np.arange(30.0)}
    content["F"] = -content["R"]
    np.savez_compressed(tmp_path / "a.npz", **content)
    trajectory = Trajectory("a.npz", open_npz(tmp_path / "a.npz", ("z", "R"), ("E", "F")), ("z", "R", "E", "F"))
    frames = list(trajectory.frames(Units("eV", "Å", "option", "option"), {}))
    np.testing.assert_array_equal([f.positions for f in frames], content["R"])
    np.testing.assert_array_equal([f.forces for f in frames], content["F"])
    assert [f.energy for f in frames] == content["E"].tolist()
    assert max(f.positions.base.nbytes for f in frames) <= 24 * 3 * 7


def test_frames_are_counted_without_reading_them(tmp_path):
    np.savez(tmp_path / "a.npz", R=np.zeros((7, 2, 3)))
    assert frame_count(tmp_path / "a.npz", "R") == 7
