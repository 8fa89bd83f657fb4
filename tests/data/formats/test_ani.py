import h5py
import numpy as np
import pytest

from eqff.data.reading.read import Source, find_format, read_frames
from eqff.errors import DataError

HARTREE = 27.211386245988
WATER = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
POSITIONS = WATER + np.random.default_rng(0).normal(scale=0.05, size=(4, 3, 3))
FORCES = np.random.default_rng(1).normal(scale=0.03, size=(4, 3, 3))
ENERGIES = np.array([-76.41, -76.40, -76.42, -76.39])


def written(path, **groups):
    with h5py.File(path, "w") as file:
        for name, arrays in groups.items():
            for key, value in arrays.items():
                file[f"{name}/{key}"] = value
    return path


def test_ani_1x(tmp_path):
    coupled_cluster = np.array([np.nan, -76.3, np.nan, -76.2])
    arrays = {
        "atomic_numbers": np.array([8, 1, 1], dtype=np.uint8),
        "coordinates": POSITIONS.astype(np.float32),
        "wb97x_dz.energy": ENERGIES,
        "wb97x_dz.forces": FORCES.astype(np.float32),
        "ccsd(t)_cbs.energy": coupled_cluster,
    }
    path = written(tmp_path / "ani1x.h5", H2O=arrays)
    assert find_format(path) == "ani"
    source = Source(path)
    assert source.units.energy == "Hartree"
    assert source.log.names == {("energy", "wb97x_dz.energy"): 4}
    for k, frame in enumerate(source.frames):
        assert frame.energy == ENERGIES[k] * HARTREE
        np.testing.assert_allclose(frame.forces, FORCES[k] * HARTREE, rtol=1e-6)
        np.testing.assert_allclose(frame.positions, POSITIONS[k], rtol=1e-6)
    better = read_frames(path, energy_key="ccsd(t)_cbs.energy", forces_key="none")
    assert [frame.energy for frame in better] == [None, -76.3 * HARTREE, None, -76.2 * HARTREE]
    assert better[0].forces is None


def test_ani_2x(tmp_path):
    species = np.array([[8, 1, 1], [1, 8, 1], [8, 1, 1], [16, 1, 1]])
    arrays = {"species": species, "coordinates": POSITIONS, "energies": ENERGIES, "forces": FORCES}
    path = written(tmp_path / "ani2x.h5", **{"3": arrays})
    for k, frame in enumerate(read_frames(path)):
        assert frame.atomic_numbers.tolist() == species[k].tolist()
        np.testing.assert_array_equal(frame.forces, FORCES[k] * HARTREE)


def test_ani_1(tmp_path):
    arrays = {"species": [b"O", b"H", b"H"], "coordinates": POSITIONS, "energies": ENERGIES}
    path = written(tmp_path / "ani1.h5", **{"gdb11_s01/gdb11_s01-2": arrays, "gdb11_s01/gdb11_s01-3": arrays})
    frames = read_frames(path)
    assert len(frames) == 8
    assert frames[0].atomic_numbers.tolist() == [8, 1, 1]
    assert frames[5].energy == ENERGIES[1] * HARTREE
    assert frames[5].forces is None


@pytest.mark.parametrize(
    ("change", "id"),
    [
        ({"species": [b"O", b"H", b"Qq"]}, "EQ3927"),
        ({"species": np.array([8, 1])}, "EQ3023"),
        ({"coordinates": np.zeros((4, 3))}, "EQ3912"),
        ({"energies": np.zeros((4, 2))}, "EQ3023"),
        ({"species": np.array([["O", "H", "H"]] * 4, dtype="S1")}, "EQ3926"),
    ],
)
def test_what_does_not_fit(tmp_path, change, id):
    arrays = {"species": [b"O", b"H", b"H"], "coordinates": POSITIONS, "energies": ENERGIES}
    path = written(tmp_path / "a.h5", a=arrays | change)
    with pytest.raises(DataError, match=id):
        read_frames(path)
