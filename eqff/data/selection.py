"""Few frames that stand for many: farthest points, and what is left without near-duplicates."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eqff.errors import ConfigError

ROWS = 65536  # of vectors looked at together


class Selection(NamedTuple):
    """Chosen frames."""

    indices: np.ndarray  # [n] in the order of choice
    distance: np.ndarray  # [n] of each to those chosen before, when it was chosen; the first: to the mean of all
    radius: float  # largest distance of any frame to the chosen ones


def farthest_points(
    vectors: NDArray[np.floating], n_chosen: int, near: NDArray[np.floating] | None = None, progress: object = None
) -> Selection:
    """Each frame in turn is the one farthest from all that were chosen; within a factor 2 no set of n covers better.

    Args:    vectors [n_frames, size]; n_chosen; near [n, size]: vectors of frames one has already, to stay away from;
             progress: called with (done, n_chosen)
    Returns: Selection
    Raises:  ConfigError EQ1952 if there are fewer frames than asked for
    Source:  Gonzalez, Theor. Comput. Sci. 38, 293 (1985)
    """
    n_frames = len(vectors)
    if not 1 <= n_chosen <= n_frames:
        raise ConfigError("EQ1952", f"n={n_chosen}: there are {n_frames} frames; choose from 1 to {n_frames}")
    nearest = np.full(n_frames, np.inf)
    for vector in near if near is not None else ():
        np.minimum(nearest, _distances(vectors, vector), out=nearest)
    if near is None or not len(near):
        start = _distances(vectors, vectors.mean(axis=0, dtype=np.float64))
    else:
        start = nearest
    chosen, distance = [int(np.argmax(start))], [float(start.max())]
    np.minimum(nearest, _distances(vectors, vectors[chosen[0]]), out=nearest)
    while len(chosen) < n_chosen:
        following = int(np.argmax(nearest))
        if nearest[following] == 0.0:  # all others repeat a chosen one
            break
        chosen.append(following)
        distance.append(float(nearest[following]))
        np.minimum(nearest, _distances(vectors, vectors[following]), out=nearest)
        if callable(progress):
            progress(len(chosen), n_chosen)
    return Selection(np.array(chosen), np.array(distance), float(nearest.max()))


def distinct(vectors: NDArray[np.floating], tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Frames that are farther than `tolerance` from every one kept before them.

    They are compared only with those whose projection on the direction of largest spread is that close.

    Args:    vectors [n_frames, size]; tolerance >= 0
    Returns: (kept [n] ascending, original [n_frames] the kept frame that each one is or repeats)
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    covariance = np.cov((vectors[:: max(1, len(vectors) // 10000)] - mean).T) if len(vectors) > 1 else np.zeros((1, 1))
    direction = np.linalg.eigh(np.atleast_2d(covariance))[1][:, -1]
    line = (vectors - mean) @ direction if len(direction) == vectors.shape[1] else np.zeros(len(vectors))
    order = np.argsort(line, kind="stable")
    sorted_line = line[order]
    low = np.searchsorted(sorted_line, line - tolerance, side="left")
    high = np.searchsorted(sorted_line, line + tolerance, side="right")
    original, is_kept = np.arange(len(vectors)), np.zeros(len(vectors), dtype=bool)
    for i in range(len(vectors)):
        close = order[low[i] : high[i]]
        close = np.sort(close[is_kept[close]])
        if len(close):
            same = close[_distances(vectors[close], vectors[i]) <= tolerance]
            if len(same):
                original[i] = same[0]
                continue
        is_kept[i] = True
    return np.flatnonzero(is_kept), original


def _distances(vectors: np.ndarray, vector: np.ndarray) -> np.ndarray:
    found = np.empty(len(vectors))
    for start in range(0, len(vectors), ROWS):
        difference = vectors[start : start + ROWS] - vector
        found[start : start + ROWS] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return found
