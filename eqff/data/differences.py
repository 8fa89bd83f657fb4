"""Frames whose labels have those of another calculator subtracted, for delta learning."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from eqff.artifact.potential import Prediction
from eqff.data.frame import LABELS, Frame
from eqff.data.frame_list import Frames


class Differences(Sequence[Frame]):
    """Frames with labels minus the results of a baseline.

    The labels of frames without a result are NaN: frames that neither train nor validate are not evaluated.

    Args: frames: eV, Å; results: of the baseline, by frame number
    """

    def __init__(self, frames: Frames, results: Mapping[int, Prediction]) -> None:
        self.frames, self.results = frames, results

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: Any) -> Any:
        """The frame with this number.  Raises: IndexError"""
        return difference(self.frames[index], self.results.get(int(index)))

    def __iter__(self) -> Iterator[Frame]:
        for index, frame in enumerate(self.frames):
            yield difference(frame, self.results.get(index))

    @property
    def species(self) -> list[int]:
        """Atomic numbers that occur, ascending."""
        return self.frames.species

    @property
    def n_atoms(self) -> np.ndarray:
        """[n_frames] number of atoms of every frame."""
        return self.frames.n_atoms

    def has(self, label: str) -> np.ndarray:
        """[n_frames] bool: whether a frame has an energy, forces or a stress."""
        return self.frames.has(label)

    def frames_at(self, rows: Sequence[int]) -> list[Frame]:
        """Frames with these numbers, in this order, read together."""
        return [
            difference(frame, self.results.get(row))
            for row, frame in zip(rows, self.frames.frames_at(rows), strict=True)
        ]


def difference(frame: Frame, baseline: Prediction | None) -> Frame:
    """A frame with its labels minus the baseline's.

    Args:   frame: eV, Å; a label that it does not have stays absent; baseline: None makes all labels NaN
    """
    values: dict[str, Any] = {}
    for name in LABELS:
        label, subtracted = getattr(frame, name), None if baseline is None else getattr(baseline, name)
        if label is not None:
            values[name] = label - (np.nan if subtracted is None else subtracted)
    return replace(frame, **values)
