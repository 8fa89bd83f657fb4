"""Copies of structures: equal in all distances, whatever the origin, orientation and order of atoms."""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from eqff.data.forensics.pair_model import N_SPLINES, frame_pairs
from eqff.data.frame import Frame

EQUAL = 1e-4  # Å, largest difference of a distance between copies
NEAR = 0.005  # Å, between near copies
MAX_CANDIDATES = 20_000  # most pairs whose distances are compared


class Copies(NamedTuple):
    """Pairs of frames that are copies or almost copies."""

    pairs: np.ndarray  # [n_pairs, 2] row in the first set, row in the second set
    difference: np.ndarray  # [n_pairs] Å, largest difference of a distance
    truncated: bool  # whether there were more candidates than MAX_CANDIDATES

    @property
    def equal(self) -> np.ndarray:
        """[n, 2] pairs that are equal up to rounding."""
        return self.pairs[self.difference < EQUAL]

    @property
    def near(self) -> np.ndarray:
        """[n, 2] pairs that are almost equal."""
        return self.pairs[(self.difference >= EQUAL) & (self.difference < NEAR)]


def copies(
    frames: list[Frame],
    fingerprint: np.ndarray,
    species: np.ndarray,
    others: tuple[list[Frame], np.ndarray] | None = None,
) -> Copies:
    """Find copies among frames, or between these frames and others.

    Args:    frames; fingerprint [n_frames, n]: from `eqff.data.forensics.survey`; species: atomic numbers of all
             frames, ascending; others: (frames, fingerprint) of a second set
    Returns: pairs of copies and almost copies
    """
    if others is None:
        candidates = cKDTree(fingerprint).query_pairs(NEAR, output_type="ndarray")
        second = frames
    else:
        second = others[0]
        lists = cKDTree(fingerprint).query_ball_tree(cKDTree(others[1]), NEAR)
        candidates = np.array([(i, j) for i, near in enumerate(lists) for j in near], dtype=np.int64).reshape(-1, 2)
    other_prints = fingerprint if others is None else others[1]
    gap = np.linalg.norm(fingerprint[candidates[:, 0]] - other_prints[candidates[:, 1]], axis=1)
    order = np.argsort(gap, kind="stable")
    truncated = len(order) > MAX_CANDIDATES
    candidates = candidates[order[:MAX_CANDIDATES]]
    sorted_distances: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def distances(side: int, row: int) -> tuple[np.ndarray, np.ndarray]:
        key = (side if others is not None else 0, row)
        if key not in sorted_distances:
            sorted_distances[key] = _sorted_distances(frames[row] if side == 0 else second[row], species)
        return sorted_distances[key]

    difference = np.array([_difference(distances(0, int(i)), distances(1, int(j))) for i, j in candidates])
    return Copies(candidates, difference.reshape(-1), truncated)


def _sorted_distances(frame: Frame, species: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pairs = frame_pairs(frame, species)
    kind = pairs.column[:, 0] // N_SPLINES
    order = np.lexsort((pairs.length, kind))
    counts = np.bincount(np.searchsorted(species, frame.atomic_numbers), minlength=len(species))
    return np.concatenate([counts, kind[order]]), pairs.length[order]


def _difference(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    """Largest difference of distances; infinite if atoms, or the numbers of pairs within reach, differ."""
    if not np.array_equal(one[0], other[0]):
        return np.inf
    return float(np.abs(one[1] - other[1]).max(initial=0.0))
