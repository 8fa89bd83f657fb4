"""Stress against energy: between two strained copies of a crystal, dE = V sigma : d strain.

The check of stress against forces uses the virial of a pair model fitted to forces alone.
"""

from collections.abc import Sequence

import numpy as np

from eqff.data.forensics.work import MIN_PAIRS, Work
from eqff.data.frame import Frame
from eqff.units import VOIGT

MOST_STRAIN, LEAST_STRAIN = 0.15, 1e-6
MOST_PAIRS = 3000  # most pairs that are evaluated
SAME_SITE = 0.1  # Å, largest displacement of a site relative to the strained lattice


def strain_work(frames: Sequence[Frame]) -> Work | None:
    """V sigma : d strain (trapezoidal rule) against dE of frames that differ by a strain; None for too few pairs."""
    rows = [row for row, f in enumerate(frames) if f.energy is not None and f.stress is not None and f.pbc.all()]
    rows_of_work = []
    for a, b in _strained(frames, rows):
        moved = _moved(frames[a], frames[b])
        if moved is None:
            continue
        step = frames[b].cell - frames[a].cell
        strains = [_voigt(np.linalg.solve(frames[i].cell, step)) for i in (a, b)]  # relative to either cell
        work = sum(
            0.5 * volume(frames[i]) * float(np.asarray(frames[i].stress) @ strain)
            for i, strain in zip((a, b), strains, strict=True)
        )
        for i in (a, b):  # displacements relative to the lattice
            if frames[i].forces is not None:
                work -= 0.5 * float((np.asarray(frames[i].forces) * (moved @ frames[i].cell)).sum())
        change = float(frames[b].energy or 0.0) - float(frames[a].energy or 0.0)
        rows_of_work.append((work, change, a, b, float(np.abs(strains[0]).max())))
    if len(rows_of_work) < MIN_PAIRS:
        return None
    work_, change_, first, second, size = (np.array(column) for column in zip(*rows_of_work, strict=True))
    return Work(work_, change_, first, second, size, True) if (work_ @ work_) > 0 else None


def volume(frame: Frame) -> float:
    """Volume of the cell in Å^3."""
    return abs(float(np.linalg.det(frame.cell)))


def _strained(frames: Sequence[Frame], rows: list[int]) -> list[tuple[int, int]]:
    """Pairs of frames, a < b, whose cells differ by a moderate strain."""
    if len(rows) < 2:
        return []
    cells = np.array([frames[row].cell for row in rows])
    gradient = np.linalg.inv(cells)[:, None] @ cells[None, :] - np.eye(3)  # [n, n, 3, 3]
    size = np.abs(gradient).max(axis=(2, 3))
    pairs = np.argwhere(np.triu((size > LEAST_STRAIN) & (size < MOST_STRAIN), k=1))
    chosen = pairs[np.linspace(0, len(pairs) - 1, min(len(pairs), MOST_PAIRS)).astype(int)]
    return [(rows[a], rows[b]) for a, b in chosen]


def _moved(one: Frame, other: Frame) -> np.ndarray | None:
    """[n_atoms, 3] change of fractional coordinates; None if atoms differ or move further than SAME_SITE."""
    if len(one.atomic_numbers) != len(other.atomic_numbers) or not (one.atomic_numbers == other.atomic_numbers).all():
        return None
    moved = other.positions @ np.linalg.inv(other.cell) - one.positions @ np.linalg.inv(one.cell)
    moved -= np.round(moved)
    moved -= moved.mean(axis=0)
    return moved if np.abs(moved @ one.cell).max() < SAME_SITE else None


def _voigt(gradient: np.ndarray) -> np.ndarray:
    """[6] symmetric part in Voigt order, shears doubled."""
    symmetric = 0.5 * (gradient + gradient.T)
    return np.array([symmetric[a, b] * (1.0 if a == b else 2.0) for a, b in VOIGT])
