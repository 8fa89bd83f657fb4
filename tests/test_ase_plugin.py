"""`ase.io.read` on eqff's data file, declared as an installed package would declare it."""

import copy
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.io import formats, iread, read, write

from eqff.data.frame import Frame
from eqff.data.store.store import write_store
from eqff.errors import DataError

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
GROUP = "ase.ioformats"


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """What `import ase.io` does where the package is installed."""
    entries = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["entry-points"][GROUP]
    known = {name: value for name, value in formats.ioformats.items() if name not in entries}
    extensions = copy.copy(formats.extension2format)
    for name in ("ioformats", "all_formats"):
        monkeypatch.setattr(formats, name, known)
    for name, value in entries.items():
        formats.define_external_io_format(EntryPoint(name, value, GROUP))
    assert formats.extension2format == extensions, "no suffix is taken from anybody"


@pytest.fixture
def frames():
    rng = np.random.default_rng(0)
    made = [
        Frame(
            atomic_numbers=np.array([8, 1, 1]),
            positions=rng.normal(size=(3, 3)),
            energy=-2080.123456789012 - i,
            forces=rng.normal(size=(3, 3)),
            info={"frame": i},
        )
        for i in range(6)
    ]
    cell = np.eye(3) * 4.0 + 0.1
    made.append(
        Frame(
            atomic_numbers=np.array([6]), positions=np.zeros((1, 3)), cell=cell, pbc=np.ones(3, bool), stress=np.ones(6)
        )
    )
    return made


@pytest.mark.parametrize("name", ["frames.h5", "frames.hdf5", "frames"])
def test_read_by_content(frames, tmp_path, name):
    write_store(tmp_path / name, frames, provenance={f"key{i}": "text" * 50 for i in range(40)})
    images = read(tmp_path / name, index=":")
    assert len(images) == 7
    for atoms, frame in zip(images, frames, strict=True):
        assert np.array_equal(atoms.numbers, frame.atomic_numbers)
        assert np.array_equal(atoms.positions, frame.positions)
        assert np.array_equal(atoms.cell.array, frame.cell)
        assert np.array_equal(atoms.pbc, frame.pbc)
        assert atoms.info == frame.info
    assert images[2].get_potential_energy() == frames[2].energy
    assert np.array_equal(images[2].get_forces(), frames[2].forces)
    assert set(images[6].calc.results) == {"stress"}


def test_indices_are_ases(frames, tmp_path):
    path = tmp_path / "frames.h5"
    write_store(path, frames)
    assert len(read(path)) == 1, "the last frame"
    assert read(path, index=0).info == {"frame": 0}
    assert read(f"{path}@2").info == {"frame": 2}
    assert [atoms.info["frame"] for atoms in read(path, index="1:6:2")] == [1, 3, 5]
    assert [atoms.info["frame"] for atoms in read(path, index="4:1:-1")] == [4, 3, 2]
    assert next(iread(path)).info == {"frame": 0}
    write(tmp_path / "out.extxyz", read(path, index=":6"))
    assert read(tmp_path / "out.extxyz", index=3).get_potential_energy() == pytest.approx(frames[3].energy, abs=1e-7)


def test_other_files_are_left_alone(tmp_path):
    write(tmp_path / "a.traj", Atoms("H"))
    assert len(read(tmp_path / "a.traj")) == 1
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(formats.UnknownFileTypeError):
        read(tmp_path / "other.h5")
    with pytest.raises(DataError, match=r"EQ3073: .*other.h5: HDF5, but not a store"):
        read(tmp_path / "other.h5", format="eqff-store")
