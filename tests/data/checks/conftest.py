"""Data sets whose labels are right: a crystal and a trajectory of Lennard-Jones atoms, and ethanol (GFN2-xTB)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from eqff.data.forensics.examination import Report, check_frames
from eqff.data.frame import Frame
from eqff.data.reading.read import read_frames

ETHANOL = Path(__file__).parents[3] / "examples" / "data" / "ethanol_gfn2_500K_400frames.npz"


def labelled(atoms) -> Frame:
    return Frame(
        atomic_numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.copy(),
        cell=atoms.cell.array.copy(),
        pbc=atoms.pbc.copy(),
        energy=float(atoms.get_potential_energy()),
        forces=atoms.get_forces().copy(),
        stress=atoms.get_stress().copy(),
    )


def copper_like():
    """Nearest neighbours at 2.55 Å, as stiff as copper."""
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.calc = LennardJones(sigma=2.3, epsilon=0.35, rc=5.5, smooth=True)
    return atoms


@pytest.fixture(scope="session")
def crystal() -> list[Frame]:
    """30 frames of 32 atoms, shaken and strained at random."""
    random = np.random.default_rng(2)
    perfect, frames = copper_like(), []
    for _ in range(30):
        atoms = copper_like()
        strain = random.uniform(-0.04, 0.04, (3, 3))
        atoms.set_cell(perfect.cell.array @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
        atoms.positions += random.normal(scale=0.08, size=atoms.positions.shape)
        frames.append(labelled(atoms))
    return frames


@pytest.fixture(scope="session")
def perfect_crystals() -> list[Frame]:
    """12 frames of 32 atoms, strained at random, every atom at its site."""
    random = np.random.default_rng(4)
    frames = []
    for _ in range(12):
        atoms = copper_like()
        strain = random.uniform(-0.008, 0.008, (3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
        atoms.positions += random.normal(scale=0.001, size=atoms.positions.shape)
        frames.append(labelled(atoms))
    return frames


@pytest.fixture(scope="session")
def trajectory() -> list[Frame]:
    """40 steps of 2 fs."""
    atoms = copper_like()
    thermalize_momenta(atoms, temperature_K=600, rng=np.random.default_rng(1))
    dynamics = VelocityVerlet(atoms, 2.0 * units.fs)
    dynamics.run(10)
    frames = []
    dynamics.attach(lambda: frames.append(labelled(atoms)))
    dynamics.run(39)
    return frames


@pytest.fixture(scope="session")
def ethanol() -> list[Frame]:
    """60 frames, 10 fs and more apart."""
    return read_frames(ETHANOL, energy_unit="kcal/mol")[::6][:60]


@pytest.fixture(scope="session")
def changed():
    """Frames with some fields as functions of the frame."""

    def change(frames: list[Frame], **fields) -> list[Frame]:
        return [replace(frame, **{name: field(frame) for name, field in fields.items()}) for frame in frames]

    return change


@pytest.fixture(scope="session")
def examine():
    """Run single checks, as `check_frames` does."""
    from eqff import registry
    from eqff.data.forensics.examination import Subject

    def run(check: str, frames: list[Frame], against: list[Frame] | None = None):
        other = None if against is None else Subject("training", against)
        return list(registry.load("data.checks", check).check(Subject("file", frames, other)))

    return run


@pytest.fixture(scope="session")
def whole():
    """All checks."""

    def run(frames: list[Frame], against: list[Frame] | None = None) -> Report:
        return check_frames(frames, against, name="file")

    return run
