"""Numbers of a data set that a model's configuration needs: mean degree, force scale, reference energies."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from eqff.data.frame import Frame
from eqff.elements import species_index
from eqff.errors import ConfigError, DataError
from eqff.neighbors import neighbor_list


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Statistics of labelled frames; tuples are in the order of `species`, NaN for a species that does not occur."""

    species: tuple[str, ...]
    r_max: float  # Å
    n_frames: int
    n_atoms: int  # over all frames
    avg_num_neighbors: float  # mean number of edges that end at an atom
    avg_num_neighbors_per_species: tuple[float, ...]
    min_distance: float | None  # Å, None if no two atoms are within r_max
    force_rms: float | None  # eV/Å, over components; None without forces
    force_rms_per_species: tuple[float, ...]
    reference_energies: tuple[float, ...]  # eV per atom, 0 for a species that does not occur or without energies
    reference_rank: int  # number of independent compositions, n_species if all references are determined
    energy_residual_std: float | None  # eV/atom, spread of energies after the references are taken off

    @property
    def report(self) -> str:
        """What the numbers say, and what they cannot say, in a few lines."""
        n_occurring = int(np.isfinite(self.avg_num_neighbors_per_species).sum())
        degree = f"mean degree {self.avg_num_neighbors:.3f} within {self.r_max} Å"
        lines = [f"{self.n_frames} frames, {self.n_atoms} atoms; {degree}"]
        if self.min_distance is not None:
            lines.append(f"shortest distance {self.min_distance:.3f} Å")
        if self.force_rms is not None:
            lines.append(f"force RMS {self.force_rms:.4f} eV/Å")
        if self.energy_residual_std is not None:
            values = ", ".join(f"{s} {e:.4f}" for s, e in zip(self.species, self.reference_energies, strict=True))
            lines.append(f"reference energies (eV): {values}; residual {self.energy_residual_std:.5f} eV/atom")
            if self.reference_rank < n_occurring:
                what = "the sum over one composition" if self.reference_rank == 1 else f"{self.reference_rank} sums"
                lines.append(
                    f"rank {self.reference_rank} of {n_occurring}: these frames fix only {what}, not the energy of "
                    "each element; differences between compositions are not predicted"
                )
        return "\n".join(lines)


def statistics(frames: Iterable[Frame], species: Sequence[str], r_max: float) -> Statistics:
    """Count neighbours, forces and energies of frames.

    Reference energies e minimise |N e - E| (N: atoms of each species per frame); where N leaves a choice, the
    shortest e is taken and `reference_rank` says so.

    Args:    frames: eV, Å; species: symbols; r_max Å
    Returns: Statistics
    Raises:  DataError EQ3025 without frames; GraphError for an element not in species; ConfigError EQ1032 if r_max <= 0
    """
    if not r_max > 0.0:
        raise ConfigError("EQ1032", f"r_max={r_max} Å: must be > 0")
    n_species = len(species)
    atoms_of, edges_to = np.zeros(n_species, dtype=np.int64), np.zeros(n_species, dtype=np.int64)
    squares, components = np.zeros(n_species), np.zeros(n_species, dtype=np.int64)
    compositions, energies = [], []
    min_distance = np.inf
    n_frames = 0
    for frame in frames:
        n_frames += 1
        index = species_index(frame.atomic_numbers, species)
        count = np.bincount(index, minlength=n_species)
        atoms_of += count
        senders, receivers, shift = neighbor_list(
            frame.positions, frame.cell, frame.pbc, r_max, where=f"frame {n_frames - 1}"
        )
        edges_to += np.bincount(index[receivers], minlength=n_species)
        if len(senders):
            vector = frame.positions[senders] - frame.positions[receivers] + shift @ frame.cell
            min_distance = min(min_distance, float(np.sqrt((vector**2).sum(axis=1).min())))
        if frame.forces is not None:
            squares += np.bincount(index, weights=(frame.forces**2).sum(axis=1), minlength=n_species)
            components += 3 * count
        if frame.energy is not None:
            compositions.append(count)
            energies.append(frame.energy)
    if n_frames == 0:
        raise DataError("EQ3025", "statistics: there are no frames")
    references, rank, residual = reference_energies(np.array(compositions), np.array(energies), n_species)
    return Statistics(
        species=tuple(species),
        r_max=float(r_max),
        n_frames=n_frames,
        n_atoms=int(atoms_of.sum()),
        avg_num_neighbors=float(edges_to.sum() / atoms_of.sum()),
        avg_num_neighbors_per_species=_ratio(edges_to, atoms_of),
        min_distance=min_distance if np.isfinite(min_distance) else None,
        force_rms=float(np.sqrt(squares.sum() / components.sum())) if components.any() else None,
        force_rms_per_species=tuple(float(np.sqrt(x)) for x in _ratio(squares, components)),
        reference_energies=tuple(float(e) for e in references),
        reference_rank=rank,
        energy_residual_std=residual,
    )


def reference_energies(
    compositions: np.ndarray, energies: np.ndarray, n_species: int
) -> tuple[np.ndarray, int, float | None]:
    """Least squares, minimum norm.

    Args:    compositions [n_frames, n_species] atoms of each species; energies [n_frames] eV
    Returns: (references [n_species] eV, rank, standard deviation of the residual in eV/atom, None without energies)
    """
    if len(energies) == 0:
        return np.zeros(n_species), 0, None
    distinct, member = np.unique(compositions, axis=0, return_inverse=True)
    # frames of one composition enter by their mean, weighted: the same minimum, and no sums over 1e5 equal rows
    member = member.reshape(-1)
    weight = np.bincount(member).astype(np.float64)
    mean = np.bincount(member, weights=energies) / weight
    root = np.sqrt(weight)
    references, _, rank, _ = np.linalg.lstsq(distinct * root[:, None], mean * root, rcond=None)
    residual = (energies - compositions @ references) / compositions.sum(axis=1)
    return references, int(rank), float(residual.std())


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> tuple[float, ...]:
    return tuple(float(n / d) if d else float("nan") for n, d in zip(numerator, denominator, strict=True))
