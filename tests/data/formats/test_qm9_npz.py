import numpy as np
import pytest

from eqff.data.formats import qm9_npz
from eqff.data.reading.read import Source, find_format, read_frames
from eqff.errors import DataError

COUNTS = [5, 3, 4]  # CH4, H2O, NH3


@pytest.fixture
def arrays():
    return {
        "R": np.random.default_rng(0).normal(size=(12, 3)) * 2.0,
        "Z": np.array([6, 1, 1, 1, 1, 8, 1, 1, 7, 1, 1, 1], dtype=np.uint8),
        "N": np.array(COUNTS),
        "U0": np.array([-1101.49, -2079.0, -1538.2]),
        "gap": np.array([13.7, 9.8, 9.0]),
        "id": np.array([1, 3, 2]),
    }


def test_molecules_are_cut_out_of_the_row(arrays, tmp_path):
    np.savez(tmp_path / "qm9.npz", **arrays)
    assert find_format(tmp_path / "qm9.npz") == "qm9_npz"
    with pytest.raises(DataError, match=r"EQ3010.*totals of all electrons in eV"):
        read_frames(tmp_path / "qm9.npz")
    source = Source(tmp_path / "qm9.npz", qm9_npz.ReadOptions(energy_unit="eV"))
    for k, (start, end) in enumerate([(0, 5), (5, 8), (8, 12)]):
        frame = source.frames[k]
        np.testing.assert_array_equal(frame.atomic_numbers, arrays["Z"][start:end])
        np.testing.assert_array_equal(frame.positions, arrays["R"][start:end])
        assert frame.energy == arrays["U0"][k]
        assert frame.info == {"gap": arrays["gap"][k], "id": arrays["id"][k]}
    assert source.census.compositions == {"CH4": 1, "H2O": 1, "H3N": 1}


def test_blocks_smaller_than_the_file(arrays, tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "qm9.npz", **arrays)
    whole = [f.positions for f in read_frames(tmp_path / "qm9.npz", energy_unit="eV")]
    monkeypatch.setattr(qm9_npz, "BLOCK", 24 * 5)
    for one, other in zip(whole, read_frames(tmp_path / "qm9.npz", energy_unit="eV"), strict=True):
        np.testing.assert_array_equal(one, other.positions)


@pytest.mark.parametrize(
    ("change", "id"),
    [
        ({"N": np.array([5, 3, 5])}, "EQ3917"),
        ({"N": np.array([5, -3, 10])}, "EQ3917"),
        ({"N": np.array([2**62, 2**62, 12])}, "EQ3917"),
        ({"R": np.zeros((11, 3))}, "EQ3023"),
        ({"U0": np.zeros(4)}, "EQ3023"),
        ({"Z": np.zeros(12)}, "EQ3028"),
        ({"N": np.array(12)}, "EQ3023"),
    ],
)
def test_arrays_that_do_not_fit(arrays, change, id, tmp_path):
    np.savez(tmp_path / "a.npz", **(arrays | change))
    with pytest.raises(DataError, match=id):
        read_frames(tmp_path / "a.npz", energy_unit="eV")
