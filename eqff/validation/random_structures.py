"""Random structures of given elements, and the same structures moved, reordered or turned: what models are tried on."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from ase.data import covalent_radii
from torch import Tensor

from eqff.elements import atomic_number
from eqff.graph import Structure
from eqff.neighbors import build_structure

N_STRUCTURES = 4


def random_structures(species: Sequence[str], r_max: float, random: np.random.Generator) -> list[Structure]:
    """Clusters with plausible distances, every species among them, and one crystal smaller than r_max."""
    radius = np.array([covalent_radii[atomic_number(symbol)] for symbol in species])
    radius = radius * min(1.0, 0.25 * r_max / radius.max())  # neighbours must lie within r_max
    n_atoms = min(max(8, len(species)), 24)
    n_structures = max(N_STRUCTURES, math.ceil(len(species) / n_atoms))
    structures = []
    for k in range(n_structures):
        kinds = (k * n_atoms + np.arange(n_atoms)) % len(species)
        random.shuffle(kinds)
        points = np.zeros((1, 3))
        while len(points) < n_atoms:
            new = len(points)
            anchor = random.integers(new)
            reach = (radius[kinds[anchor]] + radius[kinds[new]]) * random.uniform(1.0, 1.4)
            point = points[anchor] + reach * unit_vector(random)
            distance = np.linalg.norm(points - point, axis=1)
            if (distance > 0.9 * (radius[kinds[:new]] + radius[kinds[new]])).all():
                points = np.vstack([points, point])
        structures.append(build_structure(points, kinds, np.zeros((3, 3)), np.zeros(3, bool), r_max))
    kinds = np.arange(2) % len(species)
    side = max(0.8 * r_max, 2.2 * (radius[kinds].sum()))
    cell = side * np.array([[1.0, 0.0, 0.0], [0.2, 0.9, 0.0], [-0.1, 0.3, 1.1]])
    points = np.array([[0.0, 0.0, 0.0], [0.45, 0.55, 0.4]]) @ cell
    structures.append(build_structure(points, kinds, cell, np.ones(3, bool), r_max))
    return structures


def permuted(structure: Structure, random: np.random.Generator) -> tuple[Structure, Tensor]:
    """Atoms in another order, edges sorted again."""
    order = torch.tensor(random.permutation(structure.positions.shape[0]))
    place = torch.argsort(order)
    senders, receivers = place[structure.senders], place[structure.receivers]
    edges = torch.argsort(receivers * len(order) + senders, stable=True)
    permuted = structure._replace(
        positions=structure.positions[order],
        species=structure.species[order],
        senders=senders[edges],
        receivers=receivers[edges],
        edge_shift=structure.edge_shift[edges],
    )
    return permuted, order


def unit_vector(random: np.random.Generator) -> np.ndarray:
    vector = random.normal(size=3)
    return vector / np.linalg.norm(vector)
