"""Ranges of the numbers in a data file, collected frame by frame in constant memory."""

import math
from dataclasses import dataclass, replace

import numpy as np

from eqff.data.frame import Frame


@dataclass
class Span:
    """Smallest, largest, mean and standard deviation of numbers that are added one by one (Welford)."""

    n: int = 0
    smallest: float = math.inf
    largest: float = -math.inf
    mean: float = 0.0
    _squares: float = 0.0

    def add(self, value: float) -> None:
        """Add a number."""
        self.n += 1
        self.smallest, self.largest = min(self.smallest, value), max(self.largest, value)
        difference = value - self.mean
        self.mean += difference / self.n
        self._squares += difference * (value - self.mean)

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return math.sqrt(self._squares / self.n) if self.n else math.nan

    def plain(self) -> dict[str, float] | None:
        """For JSON; None where there were no numbers."""
        if not self.n:
            return None
        return {"min": self.smallest, "max": self.largest, "mean": self.mean, "std": self.deviation}


class Ranges:
    """Spans of atoms, energies, forces, stress and cells of frames, and an even sample of the frames.

    Args: n_sample: frames kept, evenly spaced over all of them
    """

    def __init__(self, n_sample: int = 1000) -> None:
        self.n_atoms, self.energy, self.energy_per_atom = Span(), Span(), Span()
        self.force, self.net_force, self.volume, self.pressure = Span(), Span(), Span(), Span()
        self.elements: set[int] = set()
        self.sample: list[Frame] = []
        self._n_sample, self._stride, self._n_frames = n_sample, 1, 0

    def add(self, frame: Frame) -> None:
        """Add a frame."""
        n_atoms = len(frame.atomic_numbers)
        self.n_atoms.add(n_atoms)
        self.elements.update(np.unique(frame.atomic_numbers).tolist())
        if frame.energy is not None:
            self.energy.add(frame.energy)
            self.energy_per_atom.add(frame.energy / n_atoms)
        if frame.forces is not None:
            self.force.add(float(np.abs(frame.forces).max()))
            self.net_force.add(float(np.abs(frame.forces.sum(axis=0)).max()))
        if frame.pbc.all():
            self.volume.add(abs(float(np.linalg.det(frame.cell))) / n_atoms)
        if frame.stress is not None:
            self.pressure.add(-float(frame.stress[:3].mean()))
        self._keep(frame)

    def _keep(self, frame: Frame) -> None:
        """Keep every frame at first; when the sample is full, drop every second of it and double the stride."""
        if self._n_frames % self._stride == 0:
            if len(self.sample) == self._n_sample:
                self.sample = self.sample[::2]
                self._stride *= 2
            if self._n_frames % self._stride == 0:
                self.sample.append(_copy(frame))
        self._n_frames += 1


def _copy(frame: Frame) -> Frame:
    """A copy with its own arrays: those of the frame may be views of a block of thousands of frames."""
    forces = None if frame.forces is None else frame.forces.copy()
    return replace(frame, positions=frame.positions.copy(), forces=forces)
