"""Work against energy: -F.dx between two frames that are close must be the difference of their energies.

Along a trajectory the trapezoidal rule is accurate enough.  Nearest neighbours among randomly drawn frames are 0.1 to
0.3 Å apart (after superposition), too far for the rule alone; a fitted pair model takes the curved part:

    dE = dE_model - 1/2 (F_a - F_a,model + F_b - F_b,model) . (x_b - x_a)

Both are linear in the labels F, so the slope of dE against them is 1 exactly when energies, forces and positions have
the right units and sign, and the correlation vanishes when labels belong to other frames.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from eqff.data.forensics.pair_model import Prediction
from eqff.data.frame import Frame

STEP = 0.1  # Å, largest displacement of an atom between consecutive frames
SAME = 1e-6  # Å, frames with smaller displacements are the same
MIN_PAIRS = 5
FAR = 12.0  # times the median: pairs beyond are left out of the fit
FARTHEST = 0.7  # Å, largest distance between neighbours
MIN_NEAREST = 20  # at least this many pairs are kept, if there are


class Work(NamedTuple):
    """Pairs of frames: the change of energy according to the forces, and according to the energies."""

    work: np.ndarray  # [n_pairs] eV, -F.dx or its refinement
    change: np.ndarray  # [n_pairs] eV
    first: np.ndarray  # [n_pairs] rows of the frames
    second: np.ndarray
    distance: np.ndarray  # [n_pairs] Å, root mean square over atoms of |dx|
    complete: bool  # whether most consecutive frames of the file are close enough

    @property
    def core(self) -> np.ndarray:
        """[n_pairs] bool, False for the few pairs whose work or change is far larger than the median."""
        inside = np.ones(self.n_pairs, dtype=bool)
        for values in (np.abs(self.work), np.abs(self.change)):
            inside &= values <= FAR * np.median(values) + 1e-12
        return inside if inside.sum() > 0.9 * self.n_pairs else np.ones(self.n_pairs, dtype=bool)

    @property
    def slope(self) -> float:
        """Slope of change against work through the origin, of the core."""
        work, change = self.work[self.core], self.change[self.core]
        return float(change @ work / (work @ work))

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return len(self.work)

    @property
    def residual(self) -> np.ndarray:
        """[n_pairs] eV, change minus slope times work."""
        return self.change - self.slope * self.work

    @property
    def correlation(self) -> float:
        """Correlation of change and work of the core about zero, as pairs have no preferred direction."""
        work, change = self.work[self.core], self.change[self.core]
        norm = np.sqrt((change @ change) * (work @ work))
        return float(change @ work / norm) if norm > 0 else 0.0


def consecutive_work(frames: Sequence[Frame]) -> Work | None:
    """Trapezoidal work between frames i and i + 1 that are close (STEP); None for fewer than MIN_PAIRS."""
    rows, n_neighbours = [], 0
    for i, (one, other) in enumerate(pairwise(frames)):
        if not _comparable(one, other):
            continue
        n_neighbours += 1
        step = other.positions - one.positions
        if one.pbc.any():
            step = _least_image(step, one)
        largest = float(np.sqrt((step**2).sum(axis=1).max()))
        if SAME < largest < STEP:
            force = 0.5 * (np.asarray(one.forces) + np.asarray(other.forces))
            rows.append((-float((force * step).sum()), _change(one, other), i, i + 1, _rms(step)))
    return _collected(rows, len(rows) > 0.5 * n_neighbours) if len(rows) >= MIN_PAIRS else None


def neighbour_work(frames: Sequence[Frame], predictions: Sequence[Prediction]) -> Work | None:
    """Refined work between frames and their nearest neighbours with the same atoms and cell: the nearer half."""
    rows: list[tuple[float, float, int, int, float]] = []
    for group in _groups(frames):
        positions = np.stack([frames[i].positions for i in group])
        forces = np.stack([np.asarray(frames[i].forces, dtype=float) for i in group])
        rest = forces - np.stack([predictions[i].forces for i in group])
        for a, b, step, rotation in _nearest(positions, frames[group[0]]):
            one, other = group[a], group[b]
            residual = 0.5 * (rest[a] + rest[b] @ rotation.T)
            curved = predictions[other].energy - predictions[one].energy
            work = curved - float((residual * step).sum())
            rows.append((work, _change(frames[one], frames[other]), one, other, _rms(step)))
    # the nearer two frames are, the less depends on the model; those beyond FARTHEST are useless
    rows = sorted((row for row in rows if row[-1] < FARTHEST), key=lambda row: row[-1])
    rows = rows[: max(MIN_NEAREST, len(rows) // 2)]
    return _collected(rows, True) if len(rows) >= MIN_PAIRS else None


def _collected(rows: list[tuple[float, float, int, int, float]], complete: bool) -> Work | None:
    work, change, first, second, distance = (np.array(column) for column in zip(*rows, strict=True))
    return Work(work, change, first, second, distance, complete) if (work @ work) > 0 else None


def _comparable(one: Frame, other: Frame) -> bool:
    labelled = all(f.energy is not None and f.forces is not None for f in (one, other))
    return labelled and np.array_equal(one.atomic_numbers, other.atomic_numbers) and _same_box(one, other)


def _same_box(one: Frame, other: Frame) -> bool:
    return bool((one.pbc == other.pbc).all() and np.allclose(one.cell, other.cell, rtol=0.0, atol=1e-4))


def _change(one: Frame, other: Frame) -> float:
    assert one.energy is not None
    assert other.energy is not None
    return other.energy - one.energy


def _rms(step: np.ndarray) -> float:
    return float(np.sqrt((step**2).sum(axis=1).mean()))


def _groups(frames: Sequence[Frame]) -> list[list[int]]:
    """Groups of at least three labelled frames with the same atoms in the same order and the same cell."""
    groups: dict[tuple[bytes, bytes, bytes], list[int]] = {}
    for row, frame in enumerate(frames):
        if frame.energy is None or frame.forces is None or len(frame.atomic_numbers) < 2:
            continue
        key = (frame.atomic_numbers.tobytes(), frame.pbc.tobytes(), np.round(frame.cell, 4).tobytes())
        groups.setdefault(key, []).append(row)
    return [rows for rows in groups.values() if len(rows) >= 3]


def _nearest(positions: np.ndarray, frame: Frame) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Pairs of nearest neighbours: (row, row, step [n_atoms, 3] Å, rotation [3, 3] of the second).

    Molecules are superposed; periodic structures are compared by nearest images.  No pair is repeated, and copies are
    no neighbours.
    """
    periodic = bool(frame.pbc.any())
    centred = positions if periodic else positions - positions.mean(axis=1, keepdims=True)
    seen: set[tuple[int, int]] = set()
    for a in range(len(centred)):
        if periodic:
            rotation = np.broadcast_to(np.eye(3), (len(centred), 3, 3))
            steps = _least_image(centred - centred[a], frame)
            steps = steps - steps.mean(axis=1, keepdims=True)
        else:
            rotation = _superposition(centred[a], centred)
            steps = np.einsum("nab,nib->nia", rotation, centred) - centred[a]
        distance = (steps**2).sum(axis=(1, 2))
        distance[distance < len(centred[a]) * SAME**2] = np.inf  # itself, and copies
        b = int(distance.argmin())
        pair = (min(a, b), max(a, b))
        if np.isfinite(distance[b]) and pair not in seen:
            seen.add(pair)
            yield a, b, steps[b], rotation[b]


def _superposition(target: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Rotations [n, 3, 3] that bring `moved` [n, n_atoms, 3] closest to `target`.  Source: Kabsch (1976)."""
    left, _, right = np.linalg.svd(np.einsum("ia,nib->nab", target, moved))
    left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    return left @ right


def _least_image(step: np.ndarray, frame: Frame) -> np.ndarray:
    """Displacements [..., 3] to the nearest image."""
    cell = np.where(frame.pbc[:, None], frame.cell, np.eye(3) * 1e6)
    shift = np.round(step @ np.linalg.inv(cell))
    return step - shift @ cell


def displacements(one: Frame, other: Frame) -> np.ndarray | None:
    """[n_atoms, 3] Å from one frame to the other, superposed or to nearest images; None if atoms or cells differ."""
    if not np.array_equal(one.atomic_numbers, other.atomic_numbers) or not _same_box(one, other):
        return None
    if one.pbc.any():
        step = _least_image(other.positions - one.positions, one)
        return step - step.mean(axis=0)
    a, b = one.positions - one.positions.mean(axis=0), other.positions - other.positions.mean(axis=0)
    return b @ _superposition(a, b[None])[0].T - a
