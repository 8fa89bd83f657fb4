"""Frames named by an index as ASE writes it, against Python's slices."""

import ase.io
import pytest
from ase import Atoms

from eqff.data.reading.index import check_index, split_index
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.structures import read_structures
from eqff.errors import ConfigError, DataError


@pytest.fixture
def path(tmp_path):
    ase.io.write(tmp_path / "ten.xyz", [Atoms("H", [[0, 0, k]]) for k in range(10)])
    return tmp_path / "ten.xyz"


@pytest.mark.parametrize("index", ["0", "-1", "9", "-10"])
def test_one_frame(path, index):
    (atoms,) = read_structures(path, ReadOptions(index=index))
    assert atoms.positions[0, 2] == range(10)[int(index)]


@pytest.mark.parametrize("index", [":", "2:5", "-3:", "::4", "7:2:-2", ":100"])
def test_slices(path, index):
    bounds = [int(part) if part else None for part in index.split(":")]
    expected = list(range(10))[slice(*bounds)]
    assert [atoms.positions[0, 2] for atoms in read_structures(path, ReadOptions(index=index))] == expected


@pytest.mark.parametrize("index", ["10", "-11", "10:", "-20:-15", "5:5"])
def test_an_index_outside_the_file(path, index):
    for place, options in ((path, ReadOptions(index=index)), (f"{path}@{index}", None)):
        with pytest.raises(DataError, match=r"EQ3106: .*ten.xyz: index .* names none of its (10 )?frames"):
            read_structures(place, options)


@pytest.mark.parametrize("index", ["x", "", "::0", "1:2:3:4", "-", "1.0"])
def test_what_is_no_index(path, index):
    with pytest.raises(ConfigError, match="EQ1961"):
        check_index(index)
    with pytest.raises(ConfigError, match="EQ1961"):
        read_structures(path, ReadOptions(index=index))


def test_file_at_index(path, tmp_path):
    assert split_index(f"{path}@3") == (path, "3")
    assert split_index(f"{path}@:10") == (path, ":10")
    assert split_index(path) == (path, None)
    (tmp_path / "a@1").touch()
    assert split_index(tmp_path / "a@1") == (tmp_path / "a@1", None)
    assert [atoms.positions[0, 2] for atoms in read_structures(f"{path}@2:4")] == [2, 3]
    with pytest.raises(ConfigError, match="EQ1960"):
        read_structures(f"{path}@3", ReadOptions(index="3"))
