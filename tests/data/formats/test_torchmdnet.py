import h5py
import numpy as np
import pytest

from eqff.data.reading.read import find_format, read_frames
from eqff.errors import DataError


@pytest.fixture
def file(ethanol_file, tmp_path):
    """The ethanol sample as TorchMD-Net keeps it, in kcal/mol, and a second group with one list of atoms."""
    with np.load(ethanol_file) as arrays, h5py.File(tmp_path / "a.h5", "w") as file:
        first = file.create_group("9")
        first["types"] = np.tile(arrays["z"], (12, 1))
        first["pos"], first["energy"], first["forces"] = arrays["R"][:12], arrays["E"][:12, 0], arrays["F"][:12]
        second = file.create_group("more")
        second["atomic_numbers"] = arrays["z"]
        second["pos"], second["energy"] = arrays["R"][12:], arrays["E"][12:]
        second["forces"] = arrays["F"][12:]
        file.create_group("_metadata")["mols"] = np.arange(3)
    return tmp_path / "a.h5"


def test_same_frames_as_the_npz(file, ethanol_file, same_frame):
    assert find_format(file) == "torchmdnet"
    with pytest.raises(DataError, match=r"EQ3010.*looks like kcal/mol"):
        read_frames(file)
    found = read_frames(file, energy_unit="kcal/mol")
    assert all(same_frame(a, b) for a, b in zip(found, read_frames(ethanol_file), strict=True))


@pytest.mark.parametrize(
    ("name", "value", "id"),
    [
        ("9/pos", np.zeros((12, 9)), "EQ3023"),
        ("9/types", np.zeros((12, 8), dtype=int), "EQ3023"),
        ("9/energy", np.zeros(11), "EQ3023"),
        ("9/forces", np.zeros((12, 3, 9)), "EQ3023"),
        ("9/energy", np.array([b"low"] * 12), "EQ3929"),
        ("more/pos", None, "EQ3914"),
    ],
)
def test_what_does_not_fit(file, name, value, id):
    with h5py.File(file, "a") as content:
        del content[name]
        if value is not None:
            content[name] = value
    with pytest.raises(DataError, match=id):
        read_frames(file, energy_unit="kcal/mol", format="torchmdnet")
