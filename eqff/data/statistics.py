"""Numbers of a data set that a model's configuration needs: mean degree, force scale, reference energies."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eqff.data.frame import Frame, hill_formula
from eqff.data.isolated import IsolatedAtoms, is_isolated
from eqff.elements import SYMBOLS, atomic_number, species_index
from eqff.errors import ConfigError, DataError
from eqff.graph import edge_vectors_numpy
from eqff.neighbors import Edges, neighbor_list


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Statistics of labelled frames; tuples are in the order of `species`, NaN for a species that does not occur.

    Isolated atoms count for n_frames, n_atoms and reference energies only.
    """

    species: tuple[str, ...]
    r_max: float  # Å
    n_frames: int
    n_atoms: int  # over all frames
    avg_num_neighbors: float  # mean number of edges that end at an atom
    avg_num_neighbors_per_species: tuple[float, ...]
    min_distance: float | None  # Å, None if no two atoms are within r_max
    force_rms: float | None  # eV/Å, over components; None without forces
    force_rms_per_species: tuple[float, ...]
    max_neighbors: int  # edges that end at the most crowded atom
    largest_force: float | None  # eV/Å, length of the longest force
    energy_range: tuple[float, float] | None  # eV, of whole frames
    reference_energies: tuple[float, ...]  # eV per atom, 0 for a species that does not occur or without energies
    reference_rank: int  # number of independent compositions, n_species if all references are determined
    energy_residual_std: float | None  # eV/atom, spread of energies after the references are taken off
    isolated_atoms: dict[str, float]  # symbol -> eV, reference energies that are those of isolated atoms
    weight_range: tuple[float, float]  # smallest and largest weight of a label in the loss

    @property
    def report(self) -> str:
        """The numbers in a few lines, and a warning where they cannot determine the energy of each element."""
        degrees = dict(zip(self.species, self.avg_num_neighbors_per_species, strict=True))
        n_occurring = sum(np.isfinite(degree) or s in self.isolated_atoms for s, degree in degrees.items())
        degree = f"mean degree {self.avg_num_neighbors:.3f}, largest {self.max_neighbors}, within {self.r_max} Å"
        lines = [f"{self.n_frames} frames, {self.n_atoms} atoms; {degree}"]
        if self.min_distance is not None:
            lines.append(f"shortest distance {self.min_distance:.3f} Å")
        if self.force_rms is not None:
            lines.append(f"force RMS {self.force_rms:.4f} eV/Å, longest force {self.largest_force:.4f} eV/Å")
        residual = self.energy_residual_std
        if residual is not None or self.isolated_atoms:
            references = zip(self.species, self.reference_energies, strict=True)
            values = ", ".join(self._reference(symbol, energy) for symbol, energy in references)
            spread = "" if residual is None else f"; residual {residual:.5f} eV/atom"
            lines.append(f"reference energies (eV): {values}{spread}")
            if self.reference_rank < n_occurring:
                what = "the sum over one composition" if self.reference_rank == 1 else f"{self.reference_rank} sums"
                lines.append(
                    f"rank {self.reference_rank} of {n_occurring}: these frames fix only {what}, not the energy of "
                    "each element; differences between compositions are not predicted"
                )
        return "\n".join(lines)

    def _reference(self, symbol: str, energy: float) -> str:
        return f"{symbol} {energy:.4f}{' (isolated atom)' if symbol in self.isolated_atoms else ''}"


def statistics(frames: Iterable[Frame], species: Sequence[str] | None, r_max: float) -> Statistics:
    """Count neighbours, forces and energies of frames, which are taken one after the other.

    Args:    frames: eV, Å; species: symbols, None for those that occur, by atomic number; r_max Å
    Returns: Statistics
    Raises:  DataError EQ3922 without frames; GraphError for an element not in species; ConfigError EQ1937 if r_max <= 0
    """
    if not r_max > 0.0:
        raise ConfigError("EQ1937", f"r_max={r_max} Å: must be > 0; give the cut-off of the model")
    return statistics_with_edges(_with_edges(frames, species, r_max), species, r_max)


def statistics_with_edges(
    frames: Iterable[tuple[Frame, Edges]], species: Sequence[str] | None, r_max: float, isolated: bool = True
) -> Statistics:
    """`statistics` of frames whose neighbour lists exist already.

    Reference energies e are those of isolated atoms; the others minimise |N e - E| (N: atoms of each species per
    frame). Where N leaves a choice, the shortest e is taken and `reference_rank` says so.

    Args:    frames: eV, Å, each with its edges shorter than r_max; species: symbols, None for those that occur;
             r_max Å; isolated: whether isolated atoms fix reference energies, or count as any frame
    Returns: Statistics
    Raises:  DataError EQ3922 without frames
    """
    sums = _Sums(isolated)
    for frame, edges in frames:
        sums.add(frame, edges)
    if sums.n_frames == 0:
        raise DataError("EQ3922", "statistics: there are no frames; give at least one training frame")
    if species is None:
        species = [SYMBOLS[z] for z in sorted({*np.flatnonzero(sums.atoms).tolist(), *sums.isolated_kinds})]
    chosen = np.array([atomic_number(symbol) for symbol in species], dtype=np.int64)
    atoms, squares, components = sums.atoms[chosen], sums.squares[chosen], sums.components[chosen]
    fixed = {z: energy for z, energy in sorted(sums.isolated.energies.items()) if z in chosen}
    references, rank, residual = sums.energies.fit(chosen, fixed)
    return Statistics(
        species=tuple(species),
        r_max=float(r_max),
        n_frames=sums.n_frames,
        n_atoms=int(atoms.sum()) + sums.n_isolated,
        avg_num_neighbors=float(sums.edges.sum() / max(atoms.sum(), 1)),
        avg_num_neighbors_per_species=_ratio(sums.edges[chosen], atoms),
        min_distance=sums.min_distance if np.isfinite(sums.min_distance) else None,
        force_rms=float(np.sqrt(squares.sum() / components.sum())) if components.any() else None,
        force_rms_per_species=tuple(float(np.sqrt(x)) for x in _ratio(squares, components)),
        max_neighbors=sums.max_neighbors,
        largest_force=float(np.sqrt(sums.largest_force)) if components.any() else None,
        energy_range=sums.energies.range,
        reference_energies=tuple(float(e) for e in references),
        reference_rank=rank,
        energy_residual_std=residual,
        isolated_atoms={SYMBOLS[z]: energy for z, energy in fixed.items()},
        weight_range=sums.weight_range if sums.weight_range[0] <= sums.weight_range[1] else (1.0, 1.0),
    )


def _with_edges(frames: Iterable[Frame], species: Sequence[str] | None, r_max: float) -> Iterator[tuple[Frame, Edges]]:
    for index, frame in enumerate(frames):
        if species is not None:
            species_index(frame.atomic_numbers, species)
        yield frame, neighbor_list(frame.positions, frame.cell, frame.pbc, r_max, where=f"frame {index}")


class _Sums:
    """Sums over frames, by atomic number."""

    def __init__(self, isolated: bool) -> None:
        self.recognises_isolated = isolated
        self.n_frames = self.n_isolated = self.max_neighbors = 0
        self.isolated, self.isolated_kinds = IsolatedAtoms(), set[int]()
        self.weight_range = np.inf, -np.inf
        self.atoms, self.edges, self.components = (np.zeros(len(SYMBOLS), dtype=np.int64) for _ in range(3))
        self.squares = np.zeros(len(SYMBOLS))
        self.min_distance, self.largest_force = np.inf, 0.0
        self.energies = CompositionEnergies()

    def add(self, frame: Frame, edges: Edges) -> None:
        """Add one frame."""
        numbers, n_kinds = frame.atomic_numbers, len(SYMBOLS)
        self.n_frames += 1
        if self.recognises_isolated and is_isolated(frame):
            self.n_isolated += 1
            self.isolated_kinds.add(int(numbers[0]))
            self.isolated.add(frame)
            return
        weights = frame.label_weights
        self.weight_range = min(*weights, self.weight_range[0]), max(*weights, self.weight_range[1])
        senders, receivers, shift = edges
        count = np.bincount(numbers, minlength=n_kinds)
        self.atoms += count
        self.edges += np.bincount(numbers[receivers], minlength=n_kinds)
        if len(senders):
            vector = edge_vectors_numpy(frame.positions, senders, receivers, shift, frame.cell)
            self.min_distance = min(self.min_distance, float(np.sqrt((vector**2).sum(axis=1).min())))
            self.max_neighbors = max(self.max_neighbors, int(np.bincount(receivers).max()))
        if frame.forces is not None:
            square = (frame.forces**2).sum(axis=1)
            self.squares += np.bincount(numbers, weights=square, minlength=n_kinds)
            self.components += 3 * count
            self.largest_force = max(self.largest_force, float(square.max()))
        if frame.energy is not None:
            self.energies.add(count, frame.energy)


class CompositionEnergies:
    """Energies grouped by composition (number, mean, sum of squares about the mean): a million frames fit in memory."""

    def __init__(self) -> None:
        self._groups: dict[bytes, list[float]] = {}
        self.range: tuple[float, float] | None = None  # eV

    def add(self, count: np.ndarray, energy: float) -> None:
        """Add one frame: count [n] atoms of each kind; energy eV."""
        group = self._groups.setdefault(np.asarray(count, dtype=np.int64).tobytes(), [0.0, 0.0, 0.0])
        group[0] += 1.0
        difference = energy - group[1]
        group[1] += difference / group[0]
        group[2] += difference * (energy - group[1])  # Welford
        low, high = self.range or (energy, energy)
        self.range = min(low, energy), max(high, energy)

    def fit(self, chosen: np.ndarray, fixed: Mapping[int, float] | None = None) -> tuple[np.ndarray, int, float | None]:
        """Least squares, minimum norm.

        Args:    chosen [n_species] which kinds, all that occur among them; fixed: kind -> eV, references that are known
        Returns: (references [n_species] eV, rank with the fixed ones, standard deviation of the residual in eV/atom,
                 None without energies)
        """
        fixed = fixed or {}
        free = np.array([kind not in fixed for kind in chosen.tolist()], dtype=bool)
        references = np.array([fixed.get(kind, 0.0) for kind in chosen.tolist()])
        n_fixed = int((~free).sum())
        if not self._groups:
            return references, n_fixed, None
        counts = np.array([np.frombuffer(key, dtype=np.int64)[chosen] for key in self._groups])
        weight, mean, squares = np.array(list(self._groups.values())).T
        # frames of one composition enter by their mean, weighted: the same minimum
        root = np.sqrt(weight)
        fitted = counts[:, free] * root[:, None]
        known = counts[:, ~free] @ references[~free] if n_fixed else 0.0
        references[free], _, rank, _ = np.linalg.lstsq(fitted, (mean - known) * root, rcond=None)
        size = counts.sum(axis=1)
        residual = (mean - counts @ references) / size
        offset = weight @ residual / weight.sum()
        variance = (weight @ (residual - offset) ** 2 + (squares / size**2).sum()) / weight.sum()
        return references, n_fixed + int(rank), float(np.sqrt(variance))


def reference_energies(
    compositions: np.ndarray, energies: np.ndarray, n_species: int
) -> tuple[np.ndarray, int, float | None]:
    """`CompositionEnergies.fit` of arrays.

    Args:    compositions [n_frames, n_species] atoms of each species; energies [n_frames] eV
    Returns: (references [n_species] eV, rank, standard deviation of the residual in eV/atom, None without energies)
    """
    gathered = CompositionEnergies()
    for count, energy in zip(compositions, np.asarray(energies).tolist(), strict=True):
        gathered.add(count, energy)
    return gathered.fit(np.arange(n_species))


def spanning_formulas(frames: Iterable[Frame]) -> list[str]:
    """Formulas of the frames whose compositions are linearly independent and span all others, in order of appearance.

    Args: frames: labelled or not; only their atoms count
    """
    distinct: dict[str, np.ndarray] = {}
    for frame in frames:
        counts = np.bincount(frame.atomic_numbers, minlength=len(SYMBOLS))
        distinct.setdefault(hill_formula(frame.atomic_numbers), counts)
    chosen: list[str] = []
    for formula in distinct:
        rows = np.array([distinct[name] for name in (*chosen, formula)])
        if np.linalg.matrix_rank(rows) == len(rows):
            chosen.append(formula)
    return chosen


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> tuple[float, ...]:
    return tuple(float(n / d) if d else float("nan") for n, d in zip(numerator, denominator, strict=True))
