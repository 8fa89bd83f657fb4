"""Directed lists, as parallel engines hold them: senders may be ghosts, whose energies are somebody else's."""

from collections.abc import Iterator

import numpy as np
import torch

from eqff.graph import Structure, edge_vectors
from eqff.neighbors import build_structure
from eqff.validation.finding import Measured, check, difference
from eqff.validation.subject import EdgeSubject, ModelSubject, edges_of


@check("an edge changes its sender's energy: wrong where lists are directed (ghost atoms), right in ASE")
def direction(subject: EdgeSubject) -> Iterator[Measured]:
    """Two separate edges, 0 <- 1 and 2 <- 3; the first becomes longer, which only atom 0 may notice."""
    vector = subject.r_max * torch.tensor([[0.5, 0.0, 0.1], [0.0, 0.6, 0.0]], dtype=torch.float64)
    longer = vector * torch.tensor([[1.1], [1.0]], dtype=torch.float64)
    species, senders, receivers = torch.arange(4) % subject.n_species, torch.tensor([1, 3]), torch.tensor([0, 2])
    weight = torch.ones(4, dtype=torch.float64)
    before, after = (subject.evaluator(species, senders, receivers, v, weight)[0] for v in (vector, longer))
    change = torch.nan_to_num(after - before)  # without edges energies may be NaN: that is for `isolated` to say
    yield difference("energy eV", change[1:], torch.zeros(3).double(), subject.limits.isolated, "atoms without part")


@check("results with ghost atoms are not those of the crystal")
def ghosts(subject: ModelSubject) -> Iterator[Measured]:
    """One cell of a crystal with ghost atoms around it: energies, forces, virial.

    Ghosts nearer than (n_hops - 1) r_max have their edges, those behind have none: the list is directed.
    """
    whole = subject.evaluate(subject.crystal)
    n = len(subject.crystal.positions)
    frame, parents = _with_ghosts(subject.crystal, subject.n_hops * subject.r_max, subject.r_max)
    weight = torch.zeros(len(parents), dtype=torch.float64)
    weight[:n] = 1.0
    vector = edge_vectors(frame)
    energies, gradient = subject.evaluator(frame.species, frame.senders, frame.receivers, vector, weight)
    forces = torch.zeros(n, 3, dtype=torch.float64)
    forces.index_add_(0, parents[frame.receivers], gradient).index_add_(0, parents[frame.senders], -gradient)
    virial = vector.T @ gradient
    limits = subject.limits
    yield difference("energy eV", energies[:n], whole.energies, limits.energy, "owned atoms")
    yield difference("force eV/Å", forces, whole.forces, limits.force, "forces, those on ghosts given back")
    yield difference("virial eV", (virial + virial.T) / 2, whole.strain_gradient[0], limits.virial, "with ghosts")


@check("the gradient is not linear in the weights of atoms")
def node_weight(subject: EdgeSubject) -> Iterator[Measured]:
    """The sum over single atoms is the gradient of all."""
    structure = subject.clusters[0]
    inputs, n_atoms, limit = edges_of(structure), len(structure.positions), subject.limits.force
    single = torch.stack([subject.evaluator(*inputs, weight)[1] for weight in torch.eye(n_atoms).double()])
    mixed = torch.tensor([0.3, -1.0, 0.0, 2.0, 0.0], dtype=torch.float64).repeat(n_atoms)[:n_atoms]
    for weight in (torch.ones_like(mixed), mixed):
        combined = torch.einsum("a,aei->ei", weight, single)
        yield difference("force eV/Å", combined, subject.evaluator(*inputs, weight)[1], 2 * limit, "atom by atom")
    nothing = subject.evaluator(*inputs, torch.zeros_like(mixed))[1]
    yield difference("force eV/Å", nothing, torch.zeros_like(nothing), 0.0, "all atoms of weight 0")


def _with_ghosts(crystal: Structure, halo: float, r_max: float) -> tuple[Structure, torch.Tensor]:
    """The atoms of a cell, their images within `halo`, all edges that owned atoms depend on; parents of all atoms."""
    positions, cell, n = crystal.positions.numpy(), crystal.cell[0].numpy(), len(crystal.positions)
    steps = 2 + int(halo * np.linalg.norm(np.linalg.inv(cell), axis=0).max())
    grid = np.stack(np.meshgrid(*[np.arange(-steps, steps + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    grid = grid[np.argsort(np.abs(grid).sum(1), kind="stable")]  # the cell itself comes first
    points = (positions + (grid @ cell)[:, None]).reshape(-1, 3)
    distance = np.min([np.linalg.norm(points - p, axis=1) for p in positions], axis=0)
    kept = distance < halo
    parents = np.tile(np.arange(n), len(grid))[kept]
    kinds = crystal.species.numpy()[parents]
    frame = build_structure(points[kept], kinds, np.zeros((3, 3)), np.zeros(3, bool), r_max)
    inner = torch.tensor(distance[kept] < halo - r_max)[frame.receivers]
    edges = {name: getattr(frame, name)[inner] for name in ("senders", "receivers", "edge_shift")}
    return frame._replace(**edges), torch.tensor(parents)
