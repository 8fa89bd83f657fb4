import numpy as np
import pytest

from eqff.data.formats import rmd17
from eqff.data.reading.read import find_format, read_frames
from eqff.errors import DataError


@pytest.fixture
def file(ethanol_file, tmp_path):
    """The ethanol sample in the layout of revised MD17, with decoys in the old_ arrays."""
    with np.load(ethanol_file) as arrays:
        np.savez(
            tmp_path / "rmd17.npz",
            nuclear_charges=arrays["z"],
            coords=arrays["R"],
            energies=arrays["E"].reshape(-1),
            forces=arrays["F"],
            old_indices=np.arange(20),
            old_energies=arrays["E"].reshape(-1) + 119.0,
            old_forces=arrays["F"] * 2.0,
        )
    return tmp_path / "rmd17.npz"


def test_the_unit_is_always_asked_for(file):
    with pytest.raises(DataError, match=r"EQ3010.*looks like kcal/mol"):
        list(rmd17.read(file))


def test_same_frames_as_the_md17_layout(file, ethanol_file, same_frame):
    assert find_format(file) == "rmd17"
    assert find_format(ethanol_file) == "md17"
    found = read_frames(file, energy_unit="kcal/mol")
    assert all(same_frame(a, b) for a, b in zip(found, read_frames(ethanol_file), strict=True))
