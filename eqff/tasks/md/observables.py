"""Observables collected during a simulation: pair distances, vibrational spectrum; drift.

Velocities are kept in memory at a separate, small interval, because frames of a trajectory are too rare for the fastest
vibrations; the autocorrelation is averaged over blocks, so memory does not grow with the run.
"""

from collections.abc import Mapping
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
from ase import Atoms

from eqff.graph import edge_vectors_numpy
from eqff.neighbors import neighbor_list

SAMPLING = 2.0  # fs at most between velocities: frequencies up to 1 / (2 * 2 fs) = 8339 cm-1
BLOCK = 2048  # samples, 4 ps at 2 fs; lags up to half of it
PADDING = 4
MIN_SAMPLES = 64
MAX_ATOMS = 300  # whose velocities are kept, evenly spaced
RDF_RANGE, RDF_RANGE_LARGE, LARGE = 8.0, 6.0, 1000  # Å; Å for more atoms than that
RDF_BINS = 160
CM_PER_FS = 2.99792458e-5


class PairDistances(NamedTuple):
    """Radial distribution of each pair of elements."""

    radius: np.ndarray  # [n_bins] Å, centres
    curves: dict[str, np.ndarray]  # "C-H" -> [n_bins]
    normalised: bool  # g(r), 1 at random; False: pairs per Å (without a cell there is no density to normalise by)


class Spectrum(NamedTuple):
    """Velocity autocorrelation and its Fourier transform, mass-weighted, by element."""

    lag_fs: np.ndarray  # [n_lags]
    autocorrelation: np.ndarray  # [n_lags], all atoms, 1 at lag 0
    wavenumber: np.ndarray  # [n_points] cm-1
    density: dict[str, np.ndarray]  # element -> [n_points], the sum over elements integrates to 1 over wavenumbers
    resolution: float  # cm-1, full width at half maximum of a sharp line
    nyquist: float  # cm-1


class Observables:
    """Collects pair distances and velocities.

    Args: atoms: numbers, masses, pbc; timestep fs
    """

    def __init__(self, atoms: Atoms, timestep: float) -> None:
        self.numbers, self.pbc = atoms.numbers, atoms.pbc
        symbols = np.array(atoms.get_chemical_symbols())
        self.elements = list(dict.fromkeys(symbols))
        self.element_of = np.array([self.elements.index(symbol) for symbol in symbols])
        self.pairs = list(combinations_with_replacement(range(len(self.elements)), 2))
        self.r_max = RDF_RANGE if len(atoms) <= LARGE else RDF_RANGE_LARGE
        self._counts = np.zeros((len(self.pairs), RDF_BINS))
        self._n_frames = np.zeros(1)

        self.every = max(1, int(SAMPLING / timestep))  # steps between velocities
        self.interval = self.every * timestep  # fs
        self.chosen = np.unique(np.linspace(0, len(atoms) - 1, min(MAX_ATOMS, len(atoms))).astype(int))
        self._mass = atoms.get_masses()[self.chosen]
        self._block = np.zeros((BLOCK, len(self.chosen), 3), dtype=np.float32)
        self._filled = 0
        self._power = np.zeros((len(self.elements), BLOCK + 1))  # of full blocks
        self._n_blocks = np.zeros(1)

    def add_velocities(self, velocities: np.ndarray) -> None:
        """Every `every` steps.  Args: velocities [n_atoms, 3], any unit"""
        self._block[self._filled] = velocities[self.chosen]
        self._filled += 1
        if self._filled == BLOCK:
            self._power += self._power_of(self._block)
            self._n_blocks += 1
            self._filled = 0

    def add_distances(self, positions: np.ndarray, cell: np.ndarray) -> None:
        """Any frame.  Args: positions [n_atoms, 3], cell [3, 3], Å"""
        senders, receivers, shift = neighbor_list(positions, cell, self.pbc, self.r_max)
        length = np.linalg.norm(edge_vectors_numpy(positions, senders, receivers, shift, cell), axis=1)
        bins = np.minimum((length * (RDF_BINS / self.r_max)).astype(int), RDF_BINS - 1)
        volume = abs(np.linalg.det(cell)) if self.pbc.all() else 1.0
        first, second = self.element_of[receivers], self.element_of[senders]
        for index, (a, b) in enumerate(self.pairs):  # each pair comes twice, as (i, j) and (j, i)
            self._counts[index] += volume * np.bincount(bins[(first == a) & (second == b)], minlength=RDF_BINS)
        self._n_frames += 1

    def state(self) -> dict[str, np.ndarray]:
        """Copies of all collected data, for a checkpoint."""
        return {
            "counts": self._counts.copy(),
            "n_frames": self._n_frames.copy(),
            "block": self._block[: self._filled].copy(),
            "power": self._power.copy(),
            "n_blocks": self._n_blocks.copy(),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from `state`."""
        self._counts, self._n_frames = state["counts"].copy(), state["n_frames"].copy()
        self._power, self._n_blocks = state["power"].copy(), state["n_blocks"].copy()
        self._filled = len(state["block"])
        self._block[: self._filled] = state["block"]

    def pair_distances(self) -> PairDistances | None:
        """The radial distribution so far; None without frames or pairs."""
        n_frames = float(self._n_frames[0])
        if n_frames == 0 or not self._counts.any():
            return None
        edges = np.linspace(0.0, self.r_max, RDF_BINS + 1)
        width = edges[1]
        shell = 4.0 / 3.0 * np.pi * np.diff(edges**3)
        n_of = np.bincount(self.element_of)
        curves = {}
        for counts, (a, b) in zip(self._counts, self.pairs, strict=True):
            if not counts.any():
                continue
            if self.pbc.all():
                curve = counts / (n_frames * n_of[a] * n_of[b] * shell)
            else:
                curve = counts / (n_frames * width * (2.0 if a == b else 1.0))
            curves[f"{self.elements[a]}-{self.elements[b]}"] = curve
        return PairDistances(0.5 * (edges[1:] + edges[:-1]), curves, bool(self.pbc.all()))

    def spectrum(self) -> Spectrum | None:
        """The vibrational spectrum so far; None with fewer than 64 velocities, or when nothing moved."""
        n_samples = BLOCK if self._n_blocks[0] else self._filled
        if n_samples < MIN_SAMPLES:
            return None
        power = self._power if self._n_blocks[0] else self._power_of(self._block[:n_samples])
        power = power / max(self._n_blocks[0], 1)
        if not power.any():
            return None
        n_lags = n_samples // 2
        correlation = np.fft.irfft(power, n=2 * n_samples, axis=1)[:, :n_lags]
        correlation /= n_samples - np.arange(n_lags)  # [n_elements, n_lags], no bias from the zeros
        taper = 0.5 * (1.0 + np.cos(np.pi * np.arange(n_lags) / n_lags))
        tapered = correlation * taper
        tapered[:, 0] *= 0.5  # the transform of an even function, from its half
        n_points = PADDING * n_lags  # between the points of n_lags alone, interpolated
        density = np.fft.rfft(tapered, n=2 * n_points, axis=1).real[:, :n_points]
        wavenumber = np.arange(n_points) / (2 * n_points * self.interval) / CM_PER_FS
        density /= np.trapezoid(density.sum(0), wavenumber)
        total = correlation.sum(0)
        return Spectrum(
            lag_fs=np.arange(n_lags) * self.interval,
            autocorrelation=total / total[0],
            wavenumber=wavenumber,
            density=dict(zip(self.elements, density, strict=True)),
            resolution=1.0 / (n_lags * self.interval) / CM_PER_FS,
            nyquist=0.5 / self.interval / CM_PER_FS,
        )

    def _power_of(self, block: np.ndarray) -> np.ndarray:
        """[n_elements, n_samples + 1], mass-weighted squares of the Fourier transform of velocities, zeros appended."""
        n_samples = len(block)
        power = np.zeros((len(self.elements), n_samples + 1))
        for element in range(len(self.elements)):
            for column in np.flatnonzero(self.element_of[self.chosen] == element):  # one atom at a time: little memory
                transform = np.fft.rfft(block[:, column].astype(np.float64), n=2 * n_samples, axis=0)
                power[element] += self._mass[column] * (np.abs(transform) ** 2).sum(1)
        return power


def drift(time_ps: np.ndarray, energy: np.ndarray) -> tuple[float, float]:
    """Least-squares slope of energy against time and RMS deviation from that line.

    Args:    time_ps [n] ps; energy [n] in any unit, n >= 3
    Returns: (slope per ps, RMS deviation), in the unit of energy
    """
    centred = time_ps - time_ps.mean()
    slope = float(centred @ (energy - energy.mean()) / (centred @ centred))
    return slope, float(np.std(energy - energy.mean() - slope * centred))
