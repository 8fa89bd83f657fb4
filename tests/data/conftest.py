"""Where the data files of these tests are, and a few frames made by hand."""

from pathlib import Path

import numpy as np
import pytest

from eqff.data.frame import Frame

FILES = Path(__file__).parent / "files"
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def ethanol_file() -> Path:
    """20 frames of ethanol, GFN2-xTB, sGDML layout with units stated (kcal/mol, Å)."""
    return FILES / "ethanol_gfn2_20frames.npz"


@pytest.fixture(scope="session")
def water_file() -> Path:
    """5 consecutive frames (2 fs) of 16 periodic H2O, GFN1-xTB, with stress, extended XYZ."""
    return FILES / "water16_gfn1_5frames.extxyz"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Published data sets beside the checkout; they are not part of the project."""
    if not SHARED.is_dir():
        pytest.skip(f"published data sets are not at {SHARED}")
    return SHARED


@pytest.fixture
def mixed_frames() -> list[Frame]:
    """Four frames that differ in everything a frame can differ in: sizes, labels, cell, pbc, info."""
    random = np.random.default_rng(5)

    def coordinates(n_atoms: int) -> np.ndarray:
        return np.arange(n_atoms)[:, None] * np.array([1.1, 0.3, 0.0]) + random.normal(scale=0.05, size=(n_atoms, 3))

    cell = np.array([[6.0, 0.0, 0.0], [1.5, 7.0, 0.0], [0.3, 0.2, 8.0]])
    forces = random.normal(size=(4, 3))
    return [
        Frame(atomic_numbers=np.array([8, 1, 1]), positions=coordinates(3), energy=-2041.123456789012345),
        Frame(
            atomic_numbers=np.array([6, 8, 1, 1]),
            positions=coordinates(4),
            cell=cell,
            pbc=np.array([True, True, True]),
            energy=-1.5,
            forces=forces - forces.mean(axis=0),
            stress=random.normal(size=6),
            info={"config_type": "bulk", "temperature": 300.0},
        ),
        Frame(atomic_numbers=np.array([1]), positions=np.zeros((1, 3)), forces=np.zeros((1, 3))),
        Frame(atomic_numbers=np.array([1, 1]), positions=coordinates(2), cell=cell, pbc=np.array([True, False, False])),
    ]


def same(one: Frame, other: Frame, tolerance: float = 0.0) -> bool:
    """Whether two frames hold the same numbers and the same labels."""
    for name in ("atomic_numbers", "positions", "cell", "pbc", "energy", "forces", "stress"):
        a, b = getattr(one, name), getattr(other, name)
        if (a is None) != (b is None):
            return False
        if a is not None and not np.allclose(
            np.asarray(a, dtype=float), np.asarray(b, dtype=float), rtol=0.0, atol=tolerance
        ):
            return False
    return True


@pytest.fixture(scope="session")
def same_frame():
    """The comparison above, as a fixture (test modules cannot import each other)."""
    return same
