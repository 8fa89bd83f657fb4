"""Isolated atoms among labelled frames: their energies are the reference energies of their elements."""

from collections.abc import Iterable

import numpy as np

from eqff.data.frame import Frame
from eqff.data.frame_list import Frames, read_in_groups
from eqff.elements import SYMBOLS
from eqff.errors import DataError
from eqff.neighbors import neighbor_list

FAR = 8.0  # Å: an atom whose periodic images are farther away counts as isolated
MARK = "isolatedatom"  # config_type=IsolatedAtom, as MACE writes it, or isolated_atom
SAME = 0.01  # eV by which the energies of isolated atoms of one element may differ


def is_isolated(frame: Frame) -> bool:
    """Whether a frame is a single atom that its config_type or its surroundings say is isolated."""
    if len(frame.atomic_numbers) != 1:
        return False
    if "".join(filter(str.isalpha, (frame.config_type or "").casefold())) == MARK or not frame.pbc.any():
        return True
    senders, _, _ = neighbor_list(frame.positions, frame.cell, frame.pbc, FAR, where="isolated atom")
    return len(senders) == 0


def isolated_rows(frames: Frames) -> np.ndarray:
    """[n] numbers of the frames that are isolated atoms, ascending."""
    single = np.flatnonzero(frames.n_atoms == 1)
    return np.array([row for row, frame in read_in_groups(frames, single) if is_isolated(frame)], dtype=np.int64)


class IsolatedAtoms:
    """Energies of isolated atoms by element; of several for an element, the lowest counts."""

    def __init__(self) -> None:
        self.energies: dict[int, float] = {}  # atomic number -> eV
        self.spread: dict[int, float] = {}  # atomic number -> eV, by which energies of the element differ

    def add(self, frame: Frame) -> None:
        """Count a frame that is an isolated atom."""
        if frame.energy is None:
            return
        number, energy = int(frame.atomic_numbers[0]), float(frame.energy)
        before = self.energies.get(number, energy)
        self.energies[number] = min(before, energy)
        self.spread[number] = max(self.spread.get(number, 0.0) + before - self.energies[number], energy - before)

    def check(self) -> None:
        """Raises: DataError EQ3884 if two isolated atoms of an element have different energies."""
        for number, spread in self.spread.items():
            if spread > SAME:
                low = self.energies[number]
                raise DataError(
                    "EQ3884",
                    f"isolated atoms of {SYMBOLS[number]} have energies from {low:.6f} to {low + spread:.6f} eV, "
                    "expected one energy for an element; keep the frame of the ground state and remove the others",
                )


def isolated_atoms(frames: Iterable[Frame]) -> IsolatedAtoms:
    """The energies of frames that are isolated atoms."""
    found = IsolatedAtoms()
    for frame in frames:
        found.add(frame)
    return found
