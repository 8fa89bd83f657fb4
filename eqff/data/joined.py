"""Frames of two sources, one after the other."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from eqff.data.frame import Frame
from eqff.data.frame_list import Frames


class Joined(Sequence[Frame]):
    """The frames of two sources, those of the second numbered after those of the first."""

    def __init__(self, first: Frames, second: Frames) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: Any) -> Any:
        """The frame with this number.  Raises: IndexError"""
        index, n_first = int(index), len(self.first)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return self.first[index] if index < n_first else self.second[index - n_first]

    def __iter__(self) -> Iterator[Frame]:
        yield from self.first
        yield from self.second

    @property
    def species(self) -> list[int]:
        """Atomic numbers that occur, ascending."""
        return sorted({*self.first.species, *self.second.species})

    @property
    def n_atoms(self) -> np.ndarray:
        """[n_frames] number of atoms of every frame."""
        return np.concatenate([self.first.n_atoms, self.second.n_atoms])

    def has(self, label: str) -> np.ndarray:
        """[n_frames] bool: whether a frame has an energy, forces or a stress."""
        return np.concatenate([self.first.has(label), self.second.has(label)])

    def frames_at(self, rows: Sequence[int]) -> list[Frame]:
        """Frames with these numbers, in this order, each source read together.  Raises: IndexError"""
        n_first = len(self.first)
        of_first = iter(self.first.frames_at([row for row in rows if row < n_first]))
        of_second = iter(self.second.frames_at([row - n_first for row in rows if row >= n_first]))
        return [next(of_first if row < n_first else of_second) for row in rows]
