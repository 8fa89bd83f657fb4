"""Isolated atoms are recognised, and their energies are the reference energies of their elements."""

from typing import Any

import numpy as np
import pytest

from eqff.data.frame import Frame
from eqff.data.frame_list import FrameList
from eqff.data.isolated import is_isolated, isolated_atoms, isolated_rows
from eqff.data.statistics import statistics
from eqff.errors import DataError


def atom(z: int = 29, energy: float | None = 3.5, box: float = 0.0, **info: Any) -> Frame:
    cell, pbc = box * np.eye(3), np.full(3, box > 0.0)
    return Frame(atomic_numbers=np.array([z]), positions=np.zeros((1, 3)), cell=cell, pbc=pbc, energy=energy, info=info)


def dimer(first: int, second: int, energy: float) -> Frame:
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    return Frame(atomic_numbers=np.array([first, second]), positions=positions, energy=energy)


@pytest.mark.parametrize("word", ["IsolatedAtom", "isolated_atom", "ISOLATEDATOM", "Isolated-Atom", "isolated atom"])
def test_the_mark_in_any_spelling(word: str) -> None:
    assert is_isolated(atom(box=3.0, config_type=word))
    assert is_isolated(atom(box=3.0, Config_Type=word))
    assert not is_isolated(Frame(**vars(dimer(29, 29, 0.0)) | {"info": {"config_type": word}}))


@pytest.mark.parametrize(("box", "isolated"), [(0.0, True), (12.0, True), (8.1, True), (7.9, False), (2.5, False)])
def test_without_a_mark_the_distance_of_the_images_decides(box: float, isolated: bool) -> None:
    assert is_isolated(atom(box=box, config_type="bulk")) == isolated


def test_rows() -> None:
    frames = FrameList([dimer(29, 29, 1.0), atom(), atom(box=3.0), atom(z=79)])
    assert isolated_rows(frames).tolist() == [1, 3]


def test_two_energies_of_one_element_are_refused() -> None:
    isolated_atoms([atom(energy=3.5), atom(energy=3.505), atom(z=79, energy=1.0), atom(energy=None)]).check()
    for energies in ((3.5, 2.0), (2.0, 3.5)):
        found = isolated_atoms([atom(energy=energy) for energy in energies])
        assert found.energies == {29: 2.0}
        with pytest.raises(DataError, match=r"EQ3884.*Cu.*2\.000000 to 3\.500000 eV"):
            found.check()


def test_reference_energies_are_those_of_isolated_atoms_and_the_others_are_fitted() -> None:
    frames = [atom(z=8, energy=-5.0), dimer(8, 1, -9.0), dimer(8, 1, -11.0), dimer(1, 1, -10.0), atom(z=79, energy=7.0)]
    found = statistics(frames, None, 4.0)
    assert found.species == ("H", "O", "Au")
    assert found.isolated_atoms == {"O": -5.0, "Au": 7.0}
    # E - E_O of the frames with H: -4, -6 (one H), -10 (two H); least squares: (-4 - 6 - 20) / (1 + 1 + 4)
    assert found.reference_energies == pytest.approx((-5.0, -5.0, 7.0), abs=1e-12)
    assert found.reference_rank == 3
    assert found.avg_num_neighbors == 1.0  # of dimers: isolated atoms do not count
    assert (found.n_frames, found.n_atoms) == (5, 8)
    assert "O -5.0000 (isolated atom)" in found.report
    assert "rank" not in found.report


def test_isolated_atoms_alone_have_statistics_too() -> None:
    found = statistics([atom()], None, 4.0)
    assert found.reference_energies == (3.5,)
    assert "Cu 3.5000 (isolated atom)" in found.report
