"""One pass over all frames: distances in units of bond lengths, and a fingerprint that finds copies of a structure.

The fingerprint is the sum over pairs of the splines of `pair_model`, projected at random to a few numbers.
It is invariant under rotation, translation and renumbering of equal atoms.  Its response to small displacements is
measured, so that the distance between two fingerprints can be read as a displacement in Å.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eqff.data.forensics.pair_model import N_SPLINES, frame_pairs
from eqff.data.frame import Frame
from eqff.elements import COVALENT_RADII

N_PROJECTED = 24
JOLT = 0.01  # Å, standard deviation of each coordinate in the calibration
N_JOLTED = 24  # frames of the calibration
BONDED = 1.3  # longest bond, in sums of covalent radii


@dataclass(frozen=True)
class Survey:
    """Measurements of one pass over the frames."""

    fingerprint: np.ndarray  # [n_frames, N_PROJECTED], in Å: a distance between two is a root mean square displacement
    scale: float  # factor from the raw fingerprint to Å
    closest: np.ndarray  # [n_frames] shortest distance over the sum of covalent radii; inf without pairs
    closest_pair: np.ndarray  # [n_frames, 2] the two atoms
    closest_distance: np.ndarray  # [n_frames] Å
    bond: np.ndarray  # [n_frames] median over atoms of the nearest neighbour's distance over the sum of covalent radii
    coordination: list[np.ndarray]  # per frame [n_atoms], number of bonded neighbours


def survey(frames: Sequence[Frame], species: np.ndarray, scale: float | None = None) -> Survey:
    """Measure all frames.

    Args: frames; species: atomic numbers, ascending, of all frames that are to be compared; scale: that of another
          survey whose fingerprints are compared with these, measured here if None
    """
    n_columns = len(species) * (len(species) + 1) // 2 * N_SPLINES
    random = np.random.default_rng(0)
    projection = random.standard_normal((n_columns, N_PROJECTED)) / np.sqrt(N_PROJECTED)
    raw = np.zeros((len(frames), N_PROJECTED))
    closest, bond = np.full(len(frames), np.inf), np.full(len(frames), np.nan)
    pair, shortest = np.full((len(frames), 2), -1), np.full(len(frames), np.inf)
    coordination = []
    for i, frame in enumerate(frames):
        pairs = frame_pairs(frame, species)
        raw[i] = _projected(pairs.column, pairs.value, projection)
        n_atoms = len(frame.atomic_numbers)
        if len(pairs.length) == 0:
            coordination.append(np.zeros(n_atoms, dtype=int))
            continue
        radius = COVALENT_RADII[frame.atomic_numbers]
        ratio = pairs.length / (radius[pairs.receivers] + radius[pairs.senders])
        edge = int(ratio.argmin())
        closest[i], shortest[i] = ratio[edge], pairs.length[edge]
        pair[i] = sorted((int(pairs.receivers[edge]), int(pairs.senders[edge])))
        nearest = np.full(n_atoms, np.inf)
        np.minimum.at(nearest, pairs.receivers, ratio)
        bond[i] = np.median(nearest)
        coordination.append(np.bincount(pairs.receivers[ratio < BONDED], minlength=n_atoms))
    scale = _scale(frames, species, projection) if scale is None else scale
    return Survey(raw * scale, scale, closest, pair, shortest, bond, coordination)


def _projected(column: np.ndarray, value: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """Half the sum over directed pairs, [N_PROJECTED]."""
    sums = np.bincount(column.ravel(), weights=value.ravel(), minlength=len(projection))
    return 0.5 * sums @ projection


def _scale(frames: Sequence[Frame], species: np.ndarray, projection: np.ndarray) -> float:
    """Å per unit of the raw fingerprint, measured by random displacements of known size."""
    random = np.random.default_rng(1)
    shifts = []
    for i in np.unique(np.linspace(0, len(frames) - 1, N_JOLTED).astype(int)):
        frame = frames[i]
        moved = frame.positions + random.normal(scale=JOLT, size=frame.positions.shape)
        before, after = (
            frame_pairs(Frame(**{**vars(frame), "positions": x}), species) for x in (frame.positions, moved)
        )
        change = _projected(after.column, after.value, projection) - _projected(before.column, before.value, projection)
        shifts.append(np.linalg.norm(change))
    typical = float(np.median(shifts)) if shifts else 0.0
    return np.sqrt(3.0) * JOLT / typical if typical > 0 else 1.0
