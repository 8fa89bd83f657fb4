"""Trajectories of CP2K and i-PI: their comment lines say energies, cells and units."""

from pathlib import Path

import numpy as np
import pytest
from ase.geometry import cellpar_to_cell
from ase.units import Bohr, Hartree

from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Stream, read_frames
from eqff.errors import DataError

ATOMS = " O  0.0 0.0 0.1\n H 0.0 0.76 -0.47\n H 0.0 -0.76 -0.47\n"


def file(folder: Path, *comments: str, name: str = "water.xyz") -> Path:
    path = folder / name
    path.write_text("".join(f"3\n{comment}\n{ATOMS}" for comment in comments))
    return path


def test_energies_of_cp2k_are_in_hartree(tmp_path: Path) -> None:
    comments = [f" i = {k:8d}, time = {0.5 * k:12.3f}, E = {-17.2 - 0.01 * k:20.10f}" for k in range(3)]
    stream = Stream(file(tmp_path, *comments, name="w-pos-1.xyz"), ReadOptions())
    frames = list(stream)
    np.testing.assert_allclose([frame.energy for frame in frames], [Hartree * (-17.2 - 0.01 * k) for k in range(3)])
    np.testing.assert_allclose(frames[0].positions[1], [0.0, 0.76, -0.47])
    assert frames[2].info["step"] == 2
    (without,) = read_frames(file(tmp_path, " i = 4, time = 2.0"))
    assert without.energy is None


@pytest.mark.parametrize(
    ("units", "positions", "cell"),
    [
        ("positions{angstrom}  cell{angstrom}", 1.0, 1.0),
        ("positions{angstrom}  cell{atomic_unit}", 1.0, Bohr),
        ("positions{atomic_unit} cell{atomic_unit}", Bohr, Bohr),
        ("", Bohr, Bohr),
    ],
)
def test_cells_and_units_of_i_pi(units: str, positions: float, cell: float, tmp_path: Path) -> None:
    comment = f"# CELL(abcABC):   18.0   19.0  20.0  90.0 80.0 70.0  Step:  0  Bead: 0 {units}"
    (frame,) = read_frames(file(tmp_path, comment))
    np.testing.assert_allclose(frame.positions[1], np.array([0.0, 0.76, -0.47]) * positions)
    np.testing.assert_allclose(frame.cell, cellpar_to_cell([18.0, 19.0, 20.0, 90.0, 80.0, 70.0]) * cell)
    assert frame.pbc.all()


def test_other_files_of_i_pi_are_refused(tmp_path: Path) -> None:
    comment = "# CELL(abcABC): 18.0 18.0 18.0 90.0 90.0 90.0 Step: 0 Bead: 0 forces{atomic_unit} cell{atomic_unit}"
    with pytest.raises(DataError, match=r"EQ3030.*forces there, no positions"):
        read_frames(file(tmp_path, comment))
    with pytest.raises(DataError, match=r"EQ3030.*parsec"):
        read_frames(file(tmp_path, comment.replace("forces{atomic_unit}", "positions{parsec}")))
