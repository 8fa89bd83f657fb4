"""The guard of a simulation: stops it, naming the atoms, when it leaves the range of the potential.

It checks every step, only compares numbers, and never changes a force.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from eqff.errors import ConfigError, RunError
from eqff.neighbors import neighbor_list

COVALENT_FRACTION = 0.5  # of the sum of two covalent radii: nearer than any bond at ordinary pressure
TRAINED_FRACTION = 0.8  # of the shortest distance in the training data
SKIN = 0.6  # Å, pairs this much farther than the limit are watched between searches
HEATING, MIN_HEATED = 10.0, 300.0  # times the set temperature, or times 300 K if that is larger
MAX_CHANGE = 1.0  # eV/atom, of the conserved energy since the start; a sound integration stays below 1e-3


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits that no sound simulation exceeds; None: derived from structure, temperature and potential."""

    min_distance: float | None = None  # Å, between any two atoms; None: see `pair_limits`
    max_force: float = 100.0  # eV/Å, on any atom
    max_temperature: float | None = None  # K; None: 10 + 90 / n_free times the set temperature
    max_jump: float = 0.5  # eV/atom, of the total energy in one step

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None and not (value > 0 and not math.isnan(value)):
                raise ConfigError("EQ1262", f"{entry.name}={value} is no limit; give a number above 0, or --no-guard")


class Moment(NamedTuple):
    """A simulation after one step."""

    step: int
    positions: np.ndarray  # [n_atoms, 3] Å
    momenta: np.ndarray  # [n_atoms, 3] ASE units
    cell: np.ndarray  # [3, 3] Å
    energy: float  # eV, potential
    forces: np.ndarray  # [n_atoms, 3] eV/Å, without constraints
    stress: np.ndarray | None  # [6] eV/Å^3, npt only


class Guard:
    """Limits, resolved for one simulation.

    Args: limits: None: check only that numbers are finite; atoms: the start; temperature K, the highest set;
          n_free: degrees of freedom; conserved: name of what must stay constant, or "";
          trained_distance: shortest distance in the potential's training data, Å
    """

    def __init__(
        self,
        limits: Limits | None,
        atoms: Atoms,
        temperature: float,
        n_free: int,
        conserved: str = "",
        trained_distance: float | None = None,
    ) -> None:
        self.limits = limits
        self.symbols = list(atoms.symbols)
        self.conserved = conserved
        self.trained_distance = trained_distance
        self.max_temperature = math.inf
        self.max_force_seen = 0.0
        self._before: float | None = None  # eV, total energy one step ago
        self.first = math.nan  # eV, conserved energy at the start
        self._pairs: ClosePairs | None = None
        if limits is None:
            return
        factor = HEATING + 90.0 / max(n_free, 1)  # few degrees of freedom fluctuate more
        self.max_temperature = limits.max_temperature or factor * max(temperature, MIN_HEATED)
        self._pairs = ClosePairs(atoms, pair_limits(atoms.numbers, limits.min_distance, trained_distance))

    def __str__(self) -> str:
        if self.limits is None or self._pairs is None:
            return "guard: off; only numbers that are not finite stop the run"
        low, high = self._pairs.range
        distance = f"{low:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f} Å by element"
        unit = " Å" if high - low < 0.005 else ""
        return (
            f"guard: stops at distances < {distance}{unit}, forces > {self.limits.max_force:g} eV/Å, temperature > "
            f"{self.max_temperature:.0f} K, energy jumps > {self.limits.max_jump:g} eV/atom in a step"
        )

    def restore(self, first: float, before: float, max_force: float) -> None:
        """Continue a run: conserved energy at its start, total energy one step ago (eV), largest force (eV/Å)."""
        self.first, self._before, self.max_force_seen = first, before, max_force

    def check(self, moment: Moment, kinetic: float, temperature: float, conserved: float) -> None:
        """Check one step.

        Args:   kinetic, conserved eV; temperature K
        Raises: RunError EQ5102, EQ5103 not finite, EQ5104 force, EQ5105 conserved energy, EQ5106 temperature,
                EQ5110 distance, EQ5111 energy jump
        """
        force = self._check_finite(moment)
        n_atoms, total = len(moment.positions), moment.energy + kinetic
        limits = self.limits
        if limits is not None and self._pairs is not None:
            self._pairs.check(moment.positions, moment.cell)
            if force > limits.max_force:
                atom = self._hardest_hit(moment)
                raise RunError(
                    "EQ5104",
                    f"force on {self._name(atom)} is {force:.4g} eV/Å, above {limits.max_force:g} eV/Å; "
                    "raise max_force if such forces are meant",
                )
            if self._before is not None and abs(total - self._before) > limits.max_jump * n_atoms:
                raise RunError(
                    "EQ5111",
                    f"the total energy jumped by {(total - self._before) / n_atoms:+.3g} eV/atom in one step, limit "
                    f"{limits.max_jump:g} eV/atom; the largest force is on {self._name(self._hardest_hit(moment))}",
                )
            if self.conserved and not math.isnan(self.first):
                change = (conserved - self.first) / n_atoms
                if not abs(change) <= MAX_CHANGE:
                    raise RunError(
                        "EQ5105",
                        f"the {self.conserved} has changed by {change:+.3g} eV/atom since the start, but should be "
                        f"conserved (limit {MAX_CHANGE:g}); the largest force is on "
                        f"{self._name(self._hardest_hit(moment))}",
                    )
            if not temperature <= self.max_temperature:
                atom = int((moment.momenta**2).sum(1).argmax())
                raise RunError(
                    "EQ5106",
                    f"the temperature is {temperature:.0f} K, above {self.max_temperature:.0f} K; {self._name(atom)} "
                    "has the largest momentum",
                )
        self.max_force_seen = max(self.max_force_seen, force)
        self._before = total
        if math.isnan(self.first):
            self.first = conserved

    def _check_finite(self, moment: Moment) -> float:
        """Largest force, eV/Å."""
        squares = moment.forces * moment.forces
        force = math.sqrt(squares.sum(1).max()) if len(squares) else 0.0
        if not (math.isfinite(force) and math.isfinite(float(moment.positions.sum() + moment.momenta.sum()))):
            for name, rows in (("force", moment.forces), ("momentum", moment.momenta), ("position", moment.positions)):
                bad = np.flatnonzero(~np.isfinite(rows).all(1))
                if bad.size:
                    row = rows[bad[0]].tolist()
                    raise RunError(
                        "EQ5102",
                        f"{name} of {self._name(bad[0])} is {row}; look at the offending frame",
                    )
        if not math.isfinite(moment.energy):
            raise RunError(
                "EQ5103",
                f"potential energy is {moment.energy} eV; look at the offending frame",
            )
        return force

    def _hardest_hit(self, moment: Moment) -> int:
        return int((moment.forces * moment.forces).sum(1).argmax())

    def _name(self, atom: int) -> str:
        return f"atom {atom} ({self.symbols[atom]})"


class ClosePairs:
    """Finds pairs of atoms nearer than their limit; searches again only when a pair could have been missed.

    With the strain F that maps the cell of the last search on the present one, a vector between two atoms becomes
    d F + u_j - u_i, where u = x - x0 F; pairs beyond limit + skin stay beyond the limit while
    2 max |u| <= (limit + skin) s - limit, s the smallest singular value of F.

    Args: atoms; limits: [119, 119] Å by atomic numbers
    """

    def __init__(self, atoms: Atoms, limits: np.ndarray) -> None:
        self.symbols, self.numbers, self.pbc = list(atoms.symbols), atoms.numbers.copy(), atoms.pbc.copy()
        present = np.unique(self.numbers)
        self.limits = limits
        block = limits[np.ix_(present, present)]
        self.range = (float(block.min()), float(block.max()))
        self._positions: np.ndarray | None = None
        self._cell = np.zeros((3, 3))

    def check(self, positions: np.ndarray, cell: np.ndarray) -> None:
        """Positions [n_atoms, 3] and cell [3, 3] in Å.  Raises: RunError EQ5110 naming the closest pair"""
        if not self._covers(positions, cell):
            self._search(positions, cell)
        if not len(self._limit):
            return
        vector = positions[self._senders] - positions[self._receivers]
        if self._shifted:
            vector += self._shift @ cell
        missing = np.einsum("ij,ij->i", vector, vector) - self._limit_squared
        pair = int(missing.argmin())
        if missing[pair] < 0:
            i, j = sorted((int(self._receivers[pair]), int(self._senders[pair])))
            image = " (a periodic image)" if self._shift[pair].any() else ""
            raise RunError(
                "EQ5110",
                f"atoms {i} ({self.symbols[i]}) and {j} ({self.symbols[j]}){image} are "
                f"{np.linalg.norm(vector[pair]):.3f} Å apart, closer than {self._limit[pair]:.3f} Å; "
                "lower min_distance if this is meant",
            )

    def _covers(self, positions: np.ndarray, cell: np.ndarray) -> bool:
        if self._positions is None:
            return False
        reach = self.range[1]
        if (cell == self._cell).all():
            moved, stretch = positions - self._positions, 1.0
        elif self.pbc.all():
            strain = np.linalg.solve(self._cell, cell)
            moved = positions - self._positions @ strain
            stretch = float(np.linalg.svd(strain, compute_uv=False)[-1])
        else:
            return False
        farthest = math.sqrt(np.einsum("ij,ij->i", moved, moved).max())
        return 2.0 * farthest <= (reach + SKIN) * stretch - reach

    def _search(self, positions: np.ndarray, cell: np.ndarray) -> None:
        senders, receivers, shift = neighbor_list(positions, cell, self.pbc, self.range[1] + SKIN)
        once = senders >= receivers  # each pair comes twice; atoms and their own images are few
        self._senders, self._receivers, self._shift = senders[once], receivers[once], shift[once].astype(np.float64)
        self._shifted = bool(self._shift.any())
        self._limit = self.limits[self.numbers[self._receivers], self.numbers[self._senders]]
        self._limit_squared = self._limit**2
        self._positions, self._cell = positions.copy(), cell.copy()


def pair_limits(numbers: np.ndarray, given: float | None, trained: float | None) -> np.ndarray:
    """Smallest sound distance of each pair of elements.

    Args:    numbers: unused elements get limits too; given: Å, for all pairs; trained: shortest distance in the
             training data, Å, or None
    Returns: [119, 119] Å; without `given` the larger of half the sum of covalent radii and 0.8 times `trained`
    """
    if given is not None:
        return np.full((len(covalent_radii), len(covalent_radii)), float(given))
    limits = COVALENT_FRACTION * (covalent_radii[:, None] + covalent_radii[None, :])
    return np.maximum(limits, TRAINED_FRACTION * (trained or 0.0))


def trained_distance(calculator: Any) -> float | None:
    """Shortest distance in the training data of the calculator's potential, Å; None if not stated."""
    header = getattr(getattr(calculator, "potential", None), "header", None)
    data = header.get("training_data") if isinstance(header, Mapping) else None
    value = data.get("min_distance_A") if isinstance(data, Mapping) else None
    return float(value) if isinstance(value, int | float) and value > 0 else None
