"""What statistics, loaders and training ask of labelled frames, whether they are in memory or in a file."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol, overload

import numpy as np

from eqff.data.frame import Frame

READ_TOGETHER = 256  # frames


class Frames(Protocol):
    """Labelled frames, read as needed: a `FrameList`, a `Store`, or `Differences`."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Frame]: ...

    def __getitem__(self, index: Any, /) -> Any:
        """The frame with this number, counted from 0.  Raises: IndexError"""

    @property
    def species(self) -> list[int]:
        """Atomic numbers that occur, ascending."""

    @property
    def n_atoms(self) -> np.ndarray:
        """[n_frames] number of atoms of every frame."""

    def has(self, label: str, /) -> np.ndarray:
        """[n_frames] bool: whether a frame has an energy, forces or a stress."""

    def frames_at(self, rows: Sequence[int], /) -> list[Frame]:
        """Frames with these numbers, in this order, read together."""


class FrameList(Sequence[Frame]):
    """Frames in memory that answer the questions of `Frames`.

    Args: frames: eV, Å
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...

    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        """A frame, or several for a slice.  Raises: IndexError"""
        return self.frames[index]

    @cached_property
    def species(self) -> list[int]:
        """Atomic numbers that occur, ascending."""
        compositions = {np.asarray(frame.atomic_numbers, dtype=np.int64).tobytes() for frame in self.frames}
        return sorted({int(z) for numbers in compositions for z in np.frombuffer(numbers, dtype=np.int64)})

    @cached_property
    def n_atoms(self) -> np.ndarray:
        """[n_frames] number of atoms of every frame."""
        return np.array([len(frame.atomic_numbers) for frame in self.frames], dtype=np.int64)

    def has(self, label: str) -> np.ndarray:
        """[n_frames] bool: whether a frame has an energy, forces or a stress."""
        return np.array([getattr(frame, label) is not None for frame in self.frames], dtype=bool)

    def frames_at(self, rows: Sequence[int]) -> list[Frame]:
        """Frames with these numbers, in this order.  Raises: IndexError"""
        return [self.frames[row] for row in rows]


def read_in_groups(frames: Frames, rows: np.ndarray) -> Iterator[tuple[int, Frame]]:
    """Frame numbers and frames, read a few hundred at a time.

    Args: rows [n] frame numbers, in the order in which frames are returned
    """
    for start in range(0, len(rows), READ_TOGETHER):
        group = rows[start : start + READ_TOGETHER].tolist()
        yield from zip(group, frames.frames_at(group), strict=True)
