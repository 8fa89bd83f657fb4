"""The simplest potential that can be fitted to forces: one smooth function of distance per pair of elements.

    E = sum_{i<j} phi_{Z_i Z_j}(r_ij),    phi = envelope(r) * sum_k c_k B_k(r),    B_k cubic splines

It is linear in c, so a least-squares fit to forces takes a second.  As the fit uses forces only, its energies, stress
and temperature are independent of the labels of energy and stress.  An error of ten percent does not matter where the
question is a factor of two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse

from eqff.data.frame import Frame
from eqff.graph import edge_vectors_numpy
from eqff.neighbors import neighbor_list
from eqff.units import BOLTZMANN, VOIGT

R_MAX = 5.0  # Å
SPACING = 0.2  # Å, of the knots
FEW_ATOMS = 64  # molecules of at most this size use all pairs instead of a neighbour list
N_SPLINES = round(R_MAX / SPACING) + 3
SMOOTHNESS = 1e-3  # weight of second differences of c, relative to the mean curvature of the fit
SMALLNESS = 1e-5


class Pairs(NamedTuple):
    """Directed pairs of one frame, and for each pair the four splines that are not zero."""

    senders: np.ndarray  # [n_edges]
    receivers: np.ndarray  # [n_edges]
    edge_vector: np.ndarray  # [n_edges, 3] Å, from receiver to sender
    length: np.ndarray  # [n_edges] Å
    column: np.ndarray  # [n_edges, 4] which coefficients
    value: np.ndarray  # [n_edges, 4] phi, envelope included
    slope: np.ndarray  # [n_edges, 4] d phi / dr
    curvature: np.ndarray  # [n_edges, 4] d2 phi / dr2


class Prediction(NamedTuple):
    """Prediction of the model for one frame."""

    energy: float  # eV, up to a constant per composition
    forces: np.ndarray  # [n_atoms, 3] eV/Å
    virial: np.ndarray  # [6] eV, dE / d strain = stress * volume, Voigt
    laplacian: float  # eV/Å^2, sum of d2E / dx2 over all coordinates


@dataclass(frozen=True)
class PairModel:
    """Fitted coefficients, and how much of the forces they explain."""

    species: np.ndarray  # [n_species] atomic numbers, ascending
    coefficients: np.ndarray  # [n_columns]
    force_r2: float  # on the frames of the fit

    def predict(self, frame: Frame) -> Prediction:
        """Energy, forces, virial and Laplacian of a frame; its elements must be among `species`."""
        pairs = frame_pairs(frame, self.species)
        weight = self.coefficients[pairs.column]
        value, slope, curvature = ((part * weight).sum(axis=1) for part in pairs[5:])
        pull = slope[:, None] * pairs.edge_vector / pairs.length[:, None]  # on the receiver
        forces = np.zeros_like(frame.positions)
        np.add.at(forces, pairs.receivers, pull)
        virial = [0.5 * (pull[:, a] * pairs.edge_vector[:, b]).sum() for a, b in VOIGT]
        laplacian = (curvature + 2.0 * slope / pairs.length).sum()
        return Prediction(float(0.5 * value.sum()), forces, np.array(virial), float(laplacian))


def fit_pair_model(frames: Sequence[Frame]) -> PairModel | None:
    """Least squares on the forces of frames; None if no frame has forces and two atoms within R_MAX."""
    labelled = [frame for frame in frames if frame.forces is not None]
    if not labelled:
        return None
    species = np.unique(np.concatenate([frame.atomic_numbers for frame in labelled]))
    n_columns = _n_pairs(len(species)) * N_SPLINES
    normal, right = np.zeros((n_columns, n_columns)), np.zeros(n_columns)
    squares = 0.0
    for frame in labelled:
        forces = np.asarray(frame.forces, dtype=float).ravel()
        rows = _force_rows(frame_pairs(frame, species), forces.size, n_columns)
        normal += (rows.T @ rows).toarray()
        right += rows.T @ forces
        squares += float(forces @ forces)
    seen = np.diag(normal) > 0
    if not seen.any() or squares == 0.0:
        return None
    scale = np.trace(normal) / seen.sum()
    penalty = scale * (SMOOTHNESS * _second_differences(n_columns) + SMALLNESS * np.eye(n_columns))
    coefficients = np.linalg.solve(normal + penalty, right)
    left = squares - 2.0 * coefficients @ right + coefficients @ normal @ coefficients
    return PairModel(species, coefficients, float(1.0 - left / squares))


def temperature(frames: Sequence[Frame], predictions: Sequence[Prediction]) -> float | None:
    r"""The temperature in K of the ensemble from which forces and positions were sampled.

        k T = <F . F_model> / <laplacian of E_model>

    This holds for every smooth model, however poor, if frames are drawn from exp(-E/kT) (hypervirial theorem); a good
    model reduces the noise of the average.  The result is negative if forces have the wrong sign, and is multiplied by
    the factor of a wrong unit.
    """
    pull = sum(float((f.forces * p.forces).sum()) for f, p in zip(frames, predictions, strict=True))
    laplacian = sum(p.laplacian for p in predictions)
    return pull / laplacian / BOLTZMANN if laplacian else None


def frame_pairs(frame: Frame, species: np.ndarray) -> Pairs:
    """Pairs of atoms within R_MAX, and the splines that are not zero for them."""
    if len(frame.positions) <= FEW_ATOMS and not frame.pbc.any():
        senders, receivers = np.nonzero(~np.eye(len(frame.positions), dtype=bool))
        edge_vector = frame.positions[senders] - frame.positions[receivers]
    else:
        senders, receivers, shift = neighbor_list(frame.positions, frame.cell, frame.pbc, R_MAX)
        edge_vector = edge_vectors_numpy(frame.positions, senders, receivers, shift, frame.cell)
    length = np.sqrt((edge_vector**2).sum(axis=1))
    inside = (length > 1e-3) & (length < R_MAX)
    senders, receivers, edge_vector, length = senders[inside], receivers[inside], edge_vector[inside], length[inside]
    index = np.searchsorted(species, frame.atomic_numbers)
    low = np.minimum(index[senders], index[receivers])
    high = np.maximum(index[senders], index[receivers])
    pair = high * (high + 1) // 2 + low
    first, value, slope, curvature = _splines(length)
    column = (pair * N_SPLINES + first)[:, None] + np.arange(4)
    return Pairs(senders, receivers, edge_vector, length, column, value, slope, curvature)


def _n_pairs(n_species: int) -> int:
    return n_species * (n_species + 1) // 2


def _splines(length: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """First spline that is not zero [n]; value, slope and curvature of four splines [n, 4], with the envelope."""
    place = length / SPACING
    first = np.floor(place).astype(np.int64)
    t = place - first
    b = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    db = np.stack([-((1 - t) ** 2), 3 * t**2 - 4 * t, -3 * t**2 + 2 * t + 1, t**2], axis=1) / (2 * SPACING)
    ddb = np.stack([1 - t, 3 * t - 2, 1 - 3 * t, t], axis=1) / SPACING**2
    u = (length / R_MAX)[:, None]
    e = (1 - u**2) ** 3
    de = -6 * u * (1 - u**2) ** 2 / R_MAX
    dde = (-6 * (1 - u**2) ** 2 + 24 * u**2 * (1 - u**2)) / R_MAX**2
    return first, b * e, db * e + b * de, ddb * e + 2 * db * de + b * dde


def _force_rows(pairs: Pairs, n_rows: int, n_columns: int) -> sparse.csr_array:
    """Matrix that takes coefficients to force components [n_rows, n_columns]."""
    unit = pairs.edge_vector / pairs.length[:, None]
    entries = pairs.slope[:, None, :] * unit[:, :, None]  # [n_edges, 3, 4]
    row = np.broadcast_to((3 * pairs.receivers[:, None] + np.arange(3))[:, :, None], entries.shape)
    column = np.broadcast_to(pairs.column[:, None, :], entries.shape)
    return sparse.csr_array((entries.ravel(), (row.ravel(), column.ravel())), shape=(n_rows, n_columns))


def _second_differences(n_columns: int) -> np.ndarray:
    """D^T D for the second differences within each pair's coefficients."""
    one = np.diff(np.eye(N_SPLINES), n=2, axis=0)
    return np.kron(np.eye(n_columns // N_SPLINES), one.T @ one)
