"""What is examined: the smallest model of a family, with weights as uneven as training leaves them."""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eqff import registry
from eqff.config import from_mapping, read_toml
from eqff.graph import Structure, edge_vectors
from eqff.neighbors import build_structure
from eqff.potential import EnergyForces, GradientEvaluator, energy_forces_stress

SMALLEST = Path(__file__).parent / "smallest"
UNEVEN = 0.2  # of its RMS: what is added to every weight


@dataclass(frozen=True)
class Exam:
    """A model in float64, without reference energies, whose forces are about 1 eV/Å: tolerances can be absolute."""

    name: str  # of the file in smallest/: a family or <family>-<variant>
    family: ModuleType
    config: Any  # as the file says; the model's energy_scale and reference_energies are other ones
    model: nn.Module

    @property
    def r_max(self) -> float:
        return float(self.config.r_max)

    def structure(self, positions: Any, species: Any, cell: Any = None, reach: float = 0.0) -> Structure:
        """Atoms with all edges below r_max, or below `reach`; periodic in three directions if there is a cell."""
        periodic = np.full(3, cell is not None)
        cell = np.zeros((3, 3)) if cell is None else np.asarray(cell)
        return build_structure(np.asarray(positions), np.asarray(species), cell, periodic, reach or self.r_max)

    def evaluate(self, structure: Structure) -> EnergyForces:
        return energy_forces_stress(GradientEvaluator(self.model), structure)

    def results(self, positions: Any, species: Any, cell: Any = None) -> EnergyForces:
        return self.evaluate(self.structure(positions, species, cell))


def names() -> list[str]:
    """Every family of the registry that has a file in smallest/."""
    return [name for name in registry.names("models") if (SMALLEST / f"{name}.toml").exists()]


def without_file() -> list[str]:
    """Families of the registry that cannot be examined."""
    return [name for name in registry.names("models") if name not in names()]


def variants() -> list[str]:
    """Files <family>-<variant>.toml: what differs from the family's smallest configuration."""
    return sorted(path.stem for path in SMALLEST.glob("*-*.toml"))


@functools.cache
def prepared(name: str) -> Exam:
    """The exam of a family, made once; checks leave its model as it is."""
    return prepare(name)


def prepare(name: str) -> Exam:
    """As `prepared`, made anew."""
    family, config = read(name)
    plain = dataclasses.replace(config, reference_energies=(), energy_scale=1.0)
    exam = Exam(name, family, config, uneven(family.Model(plain)))
    forces = exam.results(*cluster(exam.r_max)).forces
    rms = float(forces.square().mean().sqrt())
    assert 1e-6 < rms < 1e6, f"{name}: forces of {rms:.1e} eV/Å from energy_scale=1, nothing can be examined"
    return dataclasses.replace(exam, model=uneven(family.Model(dataclasses.replace(plain, energy_scale=1.0 / rms))))


def read(name: str) -> tuple[ModuleType, Any]:
    """(family, its Config) of a family or variant."""
    stem = name.split("-")[0]
    family = registry.load("models", stem)
    mapping = read_toml(SMALLEST / f"{stem}.toml")
    if name != stem:
        mapping |= read_toml(SMALLEST / f"{name}.toml")
    return family, from_mapping(family.Config, mapping, where=f"smallest/{name}.toml")


def uneven(model: nn.Module) -> nn.Module:
    """The model in float64; weights that start as zeros or ones, such as biases, no longer hide what they do."""
    generator = torch.Generator().manual_seed(7)
    model = model.to(torch.float64)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                size = float(weight.square().mean().sqrt()) or 1.0
                weight += UNEVEN * size * torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    return model


def cluster(r_max: float, n_atoms: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positions [n_atoms, 3] Å, no two closer than a quarter of r_max, and species 0 or 1."""
    rng = np.random.default_rng(seed)
    positions = np.zeros((0, 3))
    while len(positions) < n_atoms:
        trial = rng.uniform(0, 1.05 * r_max, 3)
        if all(np.linalg.norm(positions - trial, axis=1) > 0.26 * r_max):
            positions = np.vstack([positions, trial])
    return positions, (np.arange(n_atoms) + seed) % 2


def crystal(r_max: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, species and a triclinic cell smaller than r_max: atoms see their own images."""
    cell = r_max * np.array([[0.95, 0.0, 0.0], [0.3, 0.9, 0.0], [-0.2, 0.25, 1.05]])
    return np.array([[0.02, 0.0, 0.07], [0.55, 0.46, 0.4], [0.11, 0.43, 0.81]]) @ cell, np.array([0, 1, 1]), cell


def edges_of(frame: Structure) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `model.forward` takes."""
    return frame.species, frame.senders, frame.receivers, edge_vectors(frame)


def rotation_matrix(seed: int) -> np.ndarray:
    """A proper rotation."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return np.asarray(q * np.sign(np.linalg.det(q)))


def close(one: Any, other: Any, tolerance: float, what: str) -> None:
    """Raises: AssertionError with the largest difference, also for NaN."""
    one, other = torch.as_tensor(one).detach(), torch.as_tensor(other).detach()
    assert one.shape == other.shape, f"{what}: shapes {list(one.shape)} and {list(other.shape)}"
    difference = float((one - other).abs().max()) if one.numel() else 0.0
    assert difference <= tolerance, f"{what}: differ by {difference:.1e}, allowed {tolerance:.0e}"


def same(one: EnergyForces, other: EnergyForces, what: str, order: Sequence[int] | None = None) -> None:
    """Energies of atoms and forces agree to rounding; `other` may have its atoms in another order."""
    index = slice(None) if order is None else torch.as_tensor(order)
    close(one.energies, other.energies[index], 1e-11, f"energies of atoms, eV, {what}")
    close(one.forces, other.forces[index], 1e-11, f"forces, eV/Å, {what}")
