import h5py
import numpy as np
import pytest

from eqff.data.reading.read import Source, find_format, read_frames
from eqff.errors import DataError

BOHR, HARTREE = 0.529177210903, 27.211386245988


@pytest.fixture
def file(ethanol_file, tmp_path):
    """The ethanol sample in the layout and units of SPICE, made by conversion of its kcal/mol and Å."""
    with np.load(ethanol_file) as arrays, h5py.File(tmp_path / "SPICE.hdf5", "w") as file:
        group = file.create_group("ethanol")
        group["atomic_numbers"] = arrays["z"].astype(np.int16)
        group["conformations"] = (arrays["R"] / BOHR).astype(np.float32)
        group["conformations"].attrs["units"] = "bohr"
        energies = arrays["E"][:, 0] / 627.5094740631
        group["dft_total_energy"], group["formation_energy"] = energies, energies + 11.0
        group["dft_total_gradient"] = -arrays["F"] / 627.5094740631 * BOHR
        group["subset"], group["smiles"] = [b"test"], [b"[H]OCC"]
        other = file.create_group("helium")  # energies only
        other["atomic_numbers"], other["conformations"], other["dft_total_energy"] = (
            [2],
            np.zeros((2, 1, 3)),
            [-2.9, -2.9],
        )
    return tmp_path / "SPICE.hdf5"


def test_bohr_hartree_and_gradients(file, ethanol_file):
    assert find_format(file) == "spice"
    source = Source(file)
    assert (source.units.energy, source.units.length) == ("Hartree", "Bohr")
    assert source.units.length_source == "stated in the file"
    frames = read_frames(ethanol_file)
    for one, other in zip(frames, source.frames[:20], strict=True):
        np.testing.assert_allclose(other.positions, one.positions, atol=1e-6)
        np.testing.assert_allclose(other.forces, one.forces, rtol=2e-8, atol=1e-12)
        assert other.energy == pytest.approx(one.energy, rel=2e-8)
        assert other.info == {"name": "ethanol", "subset": "test", "smiles": "[H]OCC"}
    assert source.census.labels == {"energy": 22, "forces": 20, "stress": 0}


def test_formation_energy(file):
    with h5py.File(file, "a") as content:
        del content["helium"]
    total, formation = read_frames(file)[0].energy, read_frames(file, energy_key="formation_energy")[0].energy
    assert formation - total == pytest.approx(11.0 * HARTREE)


def test_shapes_that_do_not_fit(file):
    with h5py.File(file, "a") as content:
        del content["ethanol/dft_total_gradient"]
        content["ethanol/dft_total_gradient"] = np.zeros((20, 8, 3))
    with pytest.raises(DataError, match=r"EQ3023.*/ethanol/dft_total_gradient has shape \(20, 8, 3\)"):
        read_frames(file)
