"""Frames named by ASE's index, against Python's own slices."""

import ase.io
import pytest
from ase import Atoms

from eqff.errors import DataError
from eqff.tasks.frames import select_frames


@pytest.fixture
def path(tmp_path):
    ase.io.write(tmp_path / "ten.xyz", [Atoms("H", [[0, 0, k]]) for k in range(10)])
    return tmp_path / "ten.xyz"


@pytest.mark.parametrize("index", ["0", "-1", "9", "-10"])
def test_one_frame(path, index):
    (atoms,) = select_frames(path, index)
    assert atoms.positions[0, 2] == range(10)[int(index)]


@pytest.mark.parametrize("index", [":", "2:5", "-3:", "::4", "7:2:-2", ":100"])
def test_slices(path, index):
    bounds = [int(part) if part else None for part in index.split(":")]
    expected = list(range(10))[slice(*bounds)]
    assert [atoms.positions[0, 2] for atoms in select_frames(path, index)] == expected


@pytest.mark.parametrize("index", ["10", "-11", "5:5", "x", "", "::0", "1:2:3:4"])
def test_nothing_is_named(path, index):
    with pytest.raises(DataError, match=r"EQ3106: .*ten.xyz: index .* names none of its 10 frames"):
        select_frames(path, index)
