"""Small structures in units of the cut-off, the same at every call."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from ase.data import covalent_radii

from eqff.elements import atomic_number
from eqff.graph import Structure
from eqff.neighbors import build_structure


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
    """Positions [3, 3] Å, species and a triclinic cell smaller than r_max: atoms see their own images."""
    cell = r_max * np.array([[0.95, 0.0, 0.0], [0.3, 0.9, 0.0], [-0.2, 0.25, 1.05]])
    return np.array([[0.02, 0.0, 0.07], [0.55, 0.46, 0.4], [0.11, 0.43, 0.81]]) @ cell, np.array([0, 1, 1]), cell


def example_structures(species: Sequence[str], r_max: float) -> list[Structure]:
    """One atom without edges, a molecule, and a crystal smaller than r_max whose atoms see their own images.

    The molecule contains every species. With large atoms it is wider: where they overlap, forces of thousands of eV/Å
    prove nothing in float32.

    Args: species: symbols; r_max Å
    """
    generator = torch.Generator().manual_seed(0)
    n_species = len(species)
    n_atoms = max(8, n_species)
    diameter = 2.0 * max(covalent_radii[atomic_number(symbol)] for symbol in species)
    spacing = min(max(0.35 * r_max, diameter), 0.55 * r_max)
    side = math.ceil(n_atoms ** (1 / 3))
    grid = torch.cartesian_prod(*[torch.arange(side, dtype=torch.float64)] * 3)[:n_atoms]
    molecule = spacing * (grid + 0.3 * torch.rand(n_atoms, 3, generator=generator, dtype=torch.float64))
    cell = r_max * torch.tensor([[0.8, 0.0, 0.0], [0.2, 0.9, 0.0], [-0.1, 0.3, 1.1]], dtype=torch.float64)
    fractional = torch.tensor([[0.0, 0.0, 0.0], [0.45, 0.55, 0.4]], dtype=torch.float64)
    cases = [
        (torch.zeros(1, 3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64), False),
        (molecule, torch.zeros(3, 3, dtype=torch.float64), False),
        (fractional @ cell, cell, True),
    ]
    structures = []
    for positions, lattice, periodic in cases:
        index, pbc = torch.arange(len(positions)) % n_species, torch.tensor([periodic] * 3)
        structures.append(build_structure(positions.numpy(), index.numpy(), lattice.numpy(), pbc.numpy(), r_max))
    return structures
