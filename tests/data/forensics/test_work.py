import numpy as np
import pytest

from eqff.data.forensics.pair_model import Prediction
from eqff.data.forensics.work import consecutive_work, displacements, neighbour_work
from eqff.data.frame import Frame

NUMBERS = np.array([6, 1, 8, 1])
SPRINGS = np.array([[3.0, 1.0, 2.0], [1.0, 4.0, 1.0], [2.0, 2.0, 5.0], [1.0, 1.0, 1.0]])


def harmonic(positions: np.ndarray, **more) -> Frame:
    """Atoms on springs to the origin: E = 1/2 sum k x^2, not invariant, exact for the trapezoidal rule."""
    energy = 0.5 * float((SPRINGS * positions**2).sum())
    return Frame(atomic_numbers=NUMBERS, positions=positions, energy=energy, forces=-SPRINGS * positions, **more)


def steps(size: float, n_frames: int = 30) -> list[Frame]:
    random = np.random.default_rng(0)
    start = random.uniform(0.0, 3.0, (4, 3))
    return [harmonic(start + size * i * np.sin(np.arange(12).reshape(4, 3) + i)) for i in range(n_frames)]


def test_the_trapezoidal_rule_is_exact_for_springs():
    found = consecutive_work(steps(0.001))
    assert found.complete
    assert found.n_pairs == 29
    assert found.change == pytest.approx(found.work, abs=1e-12)
    assert found.slope == pytest.approx(1.0, abs=1e-9)
    assert found.correlation == pytest.approx(1.0, abs=1e-12)


def test_large_steps_are_not_consecutive():
    assert consecutive_work(steps(0.2)) is None


def test_a_few_consecutive_frames_among_many_are_not_a_trajectory():
    frames = [frame for pair in zip(steps(0.001)[:12:2], steps(0.001)[1:13:2], strict=True) for frame in pair]
    random = np.random.default_rng(1)
    apart = [harmonic(random.uniform(0.0, 3.0, (4, 3))) for _ in range(40)]
    found = consecutive_work([*frames, *apart])
    assert found is not None
    assert not found.complete


def test_steps_cross_periodic_borders():
    cell = np.diag([4.0, 5.0, 6.0])
    periodic = {"cell": cell, "pbc": np.ones(3, dtype=bool)}
    free = steps(0.001)
    # frames moved by whole lattice vectors, at random: the work is the same
    random = np.random.default_rng(2)
    moved = [
        Frame(**{**vars(f), **periodic, "positions": f.positions + random.integers(-2, 3, (4, 3)) @ cell}) for f in free
    ]
    assert consecutive_work(moved).work == pytest.approx(consecutive_work(free).work, abs=1e-9)


def test_other_labels_and_cells_are_left_out():
    frames = steps(0.001)
    half = [Frame(**{**vars(f), "energy": None}) if i % 2 else f for i, f in enumerate(frames)]
    assert consecutive_work(half) is None


def dipole(positions: np.ndarray) -> tuple[float, np.ndarray]:
    """A many-body energy that turns with the molecule: squared size of sum z_i (x_i - centre)."""
    weight = np.array([1.0, -1.0, 2.0, -2.0])
    total = weight @ positions
    return 0.3 * float(total @ total), -0.6 * weight[:, None] * total


def test_molecules_are_superposed():
    """Turned at random; no model at all is needed for a quadratic energy."""
    random = np.random.default_rng(3)
    start = random.uniform(0.0, 2.0, (4, 3))
    frames, nothing = [], []
    for _ in range(60):
        turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
        turn *= np.sign(np.linalg.det(turn))
        positions = (start + random.normal(scale=0.1, size=(4, 3))) @ turn + random.normal(size=3)
        energy, forces = dipole(positions)
        frames.append(Frame(atomic_numbers=NUMBERS, positions=positions, energy=energy, forces=forces))
        nothing.append(Prediction(0.0, np.zeros((4, 3)), np.zeros(6), 0.0))
    found = neighbour_work(frames, nothing)
    assert found.slope == pytest.approx(1.0, abs=1e-6)
    assert found.residual == pytest.approx(np.zeros(found.n_pairs), abs=1e-9)
    assert len({*found.first, *found.second}) > 20


def test_one_absurd_pair_does_not_decide():
    found = consecutive_work([*steps(0.001, 60)])
    spoilt = found._replace(change=np.where(np.arange(59) == 30, 1e4, found.change))
    assert spoilt.slope == pytest.approx(1.0, abs=1e-6)
    assert np.argmax(np.abs(spoilt.residual)) == 30


def test_displacements():
    random = np.random.default_rng(4)
    one = harmonic(random.uniform(0.0, 3.0, (4, 3)))
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    assert displacements(one, harmonic(one.positions @ turn + 4.0)) == pytest.approx(np.zeros((4, 3)), abs=1e-9)
    other = Frame(atomic_numbers=NUMBERS[::-1], positions=one.positions)
    assert displacements(one, other) is None
