import numpy as np
import pytest

from eqff.data.forensics.strain import strain_work, volume
from eqff.data.frame import Frame

STIFFNESS = np.diag([1.0, 1.1, 1.2, 0.5, 0.4, 0.3])  # eV/Å^3
CELL = np.array([[4.0, 0.0, 0.0], [0.5, 4.2, 0.0], [0.2, 0.3, 4.5]])
SITES = np.array([[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]])


def strained(gradient: np.ndarray, energy: float, stress: np.ndarray, sites: np.ndarray = SITES) -> Frame:
    cell = CELL @ (np.eye(3) + gradient)
    return Frame(
        atomic_numbers=np.array([14, 14]), positions=sites @ cell, cell=cell, pbc=np.ones(3, dtype=bool),
        energy=energy, forces=np.zeros((2, 3)), stress=stress,
    )  # fmt: skip


def elastic(n_frames: int, size: float) -> list[Frame]:
    """Small strains of a linear solid: E = V/2 e C e, stress C e; with random rotations, which change neither."""
    random = np.random.default_rng(0)
    frames = []
    for _ in range(n_frames):
        e = random.uniform(-size, size, 6)
        gradient = np.array([[e[0], e[5] / 2, e[4] / 2], [e[5] / 2, e[1], e[3] / 2], [e[4] / 2, e[3] / 2, e[2]]])
        energy = 0.5 * abs(np.linalg.det(CELL)) * e @ STIFFNESS @ e
        frames.append(strained(gradient, energy, STIFFNESS @ e))
    return frames


def test_small_strains_of_a_linear_solid():
    found = strain_work(elastic(12, 0.002))
    assert found.n_pairs == 66
    assert found.slope == pytest.approx(1.0, abs=0.01)
    assert found.correlation > 0.9999


def test_frames_that_differ_in_more_are_left_out():
    frames = elastic(12, 0.002)
    moved = [strained(np.eye(3) * 0.001 * i, 0.0, np.ones(6), SITES + 0.2 * i * np.eye(3)[:2]) for i in range(8)]
    assert strain_work(moved) is None
    assert strain_work(frames[:1] * 8) is None  # not strained
    without = [Frame(**{**vars(f), "stress": None}) for f in frames]
    assert strain_work(without) is None


def test_volume():
    assert volume(strained(np.zeros((3, 3)), 0.0, np.zeros(6))) == pytest.approx(4.0 * 4.2 * 4.5)
