"""Small systems and short cuts that many tests share: `from toys import close` anywhere under tests/."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch import Tensor, nn

from eqff.artifact.potential import Potential
from eqff.config import to_mapping
from eqff.exporter import export
from eqff.graph import Structure
from eqff.models import nequip
from eqff.neighbors import build_structure
from eqff.potential import EnergyForces, GradientEvaluator, energy_forces_stress

FILES = Path(__file__).parent / "data" / "files"
SAMPLE = FILES / "ethanol_gfn2_20frames.npz"  # GFN2-xTB, sGDML layout, kcal/mol and Å
WATER = FILES / "water16_gfn1_5frames.extxyz"  # 16 periodic H2O, GFN1-xTB, with stress
SHARED = Path(__file__).resolve().parents[2] / "shared"  # published data and golden files, not part of the project
GOLDEN = SHARED / "golden"


def close(got: Any, expected: Any, tolerance: float, what: str = "numbers") -> None:
    """Raises: AssertionError with the largest difference of two arrays, also for NaN."""
    got, expected = torch.as_tensor(got).detach(), torch.as_tensor(expected).detach()
    assert got.shape == expected.shape, f"{what}: shapes {list(got.shape)} and {list(expected.shape)}"
    difference = float((got - expected).abs().max()) if got.numel() else 0.0
    assert difference <= tolerance, f"{what} differ by {difference:.1e}, allowed {tolerance:.0e}"


class Hops(nn.Module):
    """Pair sums passed on n_hops times: just enough to be a model."""

    def __init__(self, n_hops: int = 1, declared: int | None = None) -> None:
        super().__init__()
        self.n_hops = n_hops if declared is None else declared
        self.n_layers = n_hops
        self.weight = nn.Parameter(torch.tensor([0.7, 1.3]))

    def forward(self, species, senders, receivers, edge_vector):
        r = edge_vector.square().sum(1).sqrt()
        u = (1.0 - r / 3.0).clamp(min=0.0).pow(3).to(self.weight.dtype)
        h = self.weight.index_select(0, species)
        for _ in range(self.n_layers):
            h = h + 0.1 * torch.zeros_like(h).index_add(0, receivers, u * h.index_select(0, senders))
        return h.to(torch.float64)


class Bonds(nn.Module):
    """Lennard-Jones-like pairs that bind near 1.5 Å, smoothly zero at 4 Å; `alone` (eV) is the energy of an atom."""

    def __init__(self, alone: float = -7.0) -> None:
        super().__init__()
        self.alone = alone

    def forward(self, species, senders, receivers, edge_vector):
        square = (edge_vector**2).sum(1)
        inverse = (1.3**2 / square) ** 2
        pair = 0.4 * (inverse**2 - 2 * inverse) * (1 - square / 16.0).clamp(min=0) ** 3
        pair = pair * (1 + 0.1 * species[receivers]) * (1 + 0.1 * species[senders])
        return torch.full((len(species),), self.alone, dtype=torch.float64).index_add(0, receivers, pair)


class Repulsion(nn.Module):
    """Neighbours repel each other, smoothly less up to 4 Å; -7 eV for every atom."""

    def __init__(self, strength: float = 0.05, of_species: float = 0.3) -> None:
        super().__init__()
        self.strength, self.of_species = strength, of_species

    def forward(self, species, senders, receivers, edge_vector):
        square = (edge_vector**2).sum(1)
        pair = self.strength * (1 - square / 16.0).clamp(min=0) ** 3 * (1 + self.of_species * species[senders])
        return torch.full((len(species),), -7.0, dtype=torch.float64).index_add(0, receivers, pair)


class Counted(GradientEvaluator):
    """An evaluator that remembers the sizes of what it was called with."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.n_calls = 0
        self.n_atoms: list[int] = []
        self.n_edges: list[int] = []

    def __call__(self, species: Tensor, senders: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        self.n_calls += 1
        self.n_atoms.append(len(species))
        self.n_edges.append(len(senders))
        return super().__call__(species, senders, *others)


def potential_of(module: nn.Module, **changes: Any) -> Potential:
    """A potential in memory for H, C and O, 4 Å and one hop; its evaluator is `Counted`."""
    facts = {"species": ("H", "C", "O"), "r_max": 4.0, "n_hops": 1, "dtype": torch.float64, "header": {}}
    return Potential(evaluator=Counted(module), module=module, device=torch.device("cpu"), **(facts | changes))


def tiny_file(factory: pytest.TempPathFactory, **fields: Any) -> Iterator[Path]:
    """The potential file of an untrained NequIP for H, C and O, with a cache of its own while it is in use.

    Args: factory: the fixture tmp_path_factory; fields: of nequip.Config, where they are to differ
    """
    path = factory.mktemp("potential") / "tiny.eqff.pt"
    smallest = {"species": ("H", "C", "O"), "r_max": 4.0, "l_max": 1, "n_layers": 1, "n_channels": 4}
    config = nequip.Config(**(smallest | fields))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path.parent / "cache"))
        export(nequip.Model(config), "nequip", to_mapping(config), path)
        yield path


def ethanol(size: float = 0.05, seed: int = 0) -> Atoms:
    """A molecule, its atoms displaced by about `size` Å."""
    atoms = molecule("CH3CH2OH")
    atoms.rattle(size, seed=seed)
    return atoms


def diamond(a: float = 3.2, size: float = 0.05, seed: int = 1) -> Atoms:
    """Two atoms of carbon in a cell smaller than most cut-offs, displaced by about `size` Å."""
    atoms = bulk("C", "diamond", a=a)
    atoms.rattle(size, seed=seed)
    return atoms


def cluster(n_atoms: int = 7, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """(positions [n_atoms, 3] Å, species 0 or 1 [n_atoms]) near the corners of a cube of 1.4 Å."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(2.0)] * 3), -1).reshape(-1, 3)[:n_atoms]
    return 1.4 * grid + rng.uniform(-0.3, 0.3, (n_atoms, 3)), rng.integers(0, 2, n_atoms)


def structure(positions: Any, species: Any, r_list: float = 3.0) -> Structure:
    """A molecule with its neighbours within r_list Å."""
    return build_structure(np.asarray(positions), np.asarray(species), np.zeros((3, 3)), np.zeros(3, bool), r_list)


def results(model: nn.Module, positions: Any, species: Any, r_list: float = 3.0) -> EnergyForces:
    """Energies and forces of a molecule."""
    return energy_forces_stress(GradientEvaluator(model), structure(positions, species, r_list))


def local_frame(direction: Tensor, reference: Tensor) -> Tensor:
    r"""A given frame, then the smallest rotation that corrects its error:  R u = e_y.

    R = Q R0,  v = R0 u,  Q the rotation of the quaternion (1 + v_y, -v_z, 0, v_x) / norm, which turns v to e_y. Where
    R0 is exact, Q is 1 and carries the derivative; singular only at v = -e_y.

    Args:    direction u [n_edges, 3], unit length; reference R0 [n_edges, 3, 3], rotations, used without derivative
    Returns: [n_edges, 3, 3], orthonormal, determinant 1
    """
    reference = reference.detach()
    v = torch.bmm(reference, direction.unsqueeze(2)).squeeze(2)
    # Rodrigues' formula about the axis v x e_y = (-v_z, 0, v_x)
    w = 1.0 / (1.0 + v[:, 1])
    one = torch.ones_like(w)
    rows = [
        torch.stack([one - v[:, 0] * v[:, 0] * w, -v[:, 0], -v[:, 0] * v[:, 2] * w], 1),
        v,
        torch.stack([-v[:, 0] * v[:, 2] * w, -v[:, 2], one - v[:, 2] * v[:, 2] * w], 1),
    ]
    return torch.bmm(torch.stack(rows, 1), reference)
