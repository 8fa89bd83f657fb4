"""Rotations and other orthogonal matrices, and what they do to structures and results."""

import numpy as np
from torch import Tensor

from eqff.graph import Structure
from eqff.potential import EnergyForces

AXES = [np.array(axis, dtype=float) for axis in ([1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1])]


def rotation_matrix(random: np.random.Generator) -> np.ndarray:
    """A proper rotation matrix."""
    q, r = np.linalg.qr(random.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] *= -1
    return q


def turned(structure: Structure, matrix: Tensor) -> Structure:
    """The structure with positions and cell times an orthogonal matrix [3, 3]."""
    return structure._replace(positions=structure.positions @ matrix, cell=structure.cell @ matrix)


def turned_results(result: EnergyForces, matrix: Tensor) -> EnergyForces:
    """What a structure times an orthogonal matrix must give."""
    virial = matrix.T @ result.strain_gradient @ matrix
    return result._replace(forces=result.forces @ matrix, strain_gradient=virial)


def tilt(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation by a small angle about a direction at right angles to `axis`, none of whose components is zero."""
    helper = np.array([0.6, -0.5, 0.62])
    normal = np.cross(axis, helper)
    return about(normal / np.linalg.norm(normal), angle)


def onto(vector: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Rotation that turns `vector` into the direction of `axis`."""
    unit = vector / np.linalg.norm(vector)
    normal = np.cross(unit, axis)
    return about(normal / np.linalg.norm(normal), np.arctan2(np.linalg.norm(normal), unit @ axis))


def about(unit: np.ndarray, angle: float) -> np.ndarray:
    """Rotation matrix, Rodrigues' formula."""
    K = np.array([[0, -unit[2], unit[1]], [unit[2], 0, -unit[0]], [-unit[1], unit[0], 0]])
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * (K @ K)
