"""Energy, forces and stress: the only place that takes the gradient of a model or assembles what follows from it.

E = sum_i e_i,   g_ij = dE / d r_ij   (one gradient, with respect to edge vectors)
F_k = sum_(receiver = k) g - sum_(sender = k) g
dE / d strain = sum_ij r_ij (x) g_ij,   stress = (dE / d strain) / V   (ASE sign: tension is positive)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from eqff.errors import PotentialError
from eqff.graph import Structure, edge_vectors


class Model(Protocol):
    """What families of models look like from here; see design: no forces, units, files, positions or cells inside."""

    def __call__(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        """Per-atom energies [n_atoms] eV, float64, from edge vectors [n_edges, 3] Å, float64."""
        ...


class Evaluator(Protocol):
    """What engines call: per-atom energies and the one gradient, for atoms weighted 1 (owned) or 0 (ghosts)."""

    def __call__(
        self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor, node_weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(node_energy [n_atoms] eV, edge_gradient [n_edges, 3] = d(sum node_weight * node_energy)/d edge_vector)."""
        ...


class EnergyForces(NamedTuple):
    """Results for a batch of structures, float64."""

    energy: Tensor  # [n_graphs] eV
    energies: Tensor  # [n_atoms] eV, sums to energy
    forces: Tensor  # [n_atoms, 3] eV/Å
    strain_gradient: Tensor  # [n_graphs, 3, 3] eV, symmetric dE/d strain = -virial


class GradientEvaluator:
    """Evaluator of an eager or TorchScript model by autograd.

    Args: model: as `Model`; create_graph: keep the results differentiable (training, Hessians)
    """

    def __init__(self, model: Model, create_graph: bool = False) -> None:
        self.model = model
        self.create_graph = create_graph

    def __call__(
        self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor, node_weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            if edge_vector.is_inference() or senders.is_inference():  # made under torch.inference_mode
                species, senders, receivers = species.clone(), senders.clone(), receivers.clone()
                edge_vector, node_weight = edge_vector.clone(), node_weight.clone()
            if not (self.create_graph and edge_vector.requires_grad):
                edge_vector = edge_vector.detach().requires_grad_(True)
            node_energy = self.model(species, senders, receivers, edge_vector)
            weighted = torch.dot(node_weight, node_energy)
            if edge_vector.shape[0] == 0:  # nothing to differentiate; the graph may not reach edge_vector
                edge_gradient = torch.zeros_like(edge_vector)
            else:
                (edge_gradient,) = torch.autograd.grad([weighted], [edge_vector], create_graph=self.create_graph)
        if not self.create_graph:
            node_energy, edge_gradient = node_energy.detach(), edge_gradient.detach()
        return node_energy, edge_gradient


def energy_forces_stress(evaluator: Evaluator, structure: Structure) -> EnergyForces:
    """Energies, forces and strain gradient of a batch of structures.

    Args:    evaluator: see `Evaluator`; structure: positions Å, float64, edges sorted by receiver
    Returns: EnergyForces, float64
    Source:  Knuth et al., Comput. Phys. Commun. 190, 33 (2015), eq. 29 for the strain derivative
    """
    edge_vector = edge_vectors(structure)
    node_weight = torch.ones(structure.positions.shape[0], dtype=torch.float64, device=structure.positions.device)
    node_energy, edge_gradient = evaluator(
        structure.species, structure.senders, structure.receivers, edge_vector, node_weight
    )
    return assemble(structure, edge_vector, node_energy, edge_gradient)


def assemble(structure: Structure, edge_vector: Tensor, node_energy: Tensor, edge_gradient: Tensor) -> EnergyForces:
    """Sum per-atom energies and edge gradients to totals (equations at the top of this file)."""
    forces = torch.zeros_like(structure.positions, dtype=edge_gradient.dtype)
    forces = forces.index_add(0, structure.receivers, edge_gradient).index_add(0, structure.senders, -edge_gradient)
    energy = node_energy.new_zeros(structure.n_graphs).index_add(0, structure.batch, node_energy)
    dyad = edge_vector.unsqueeze(2) * edge_gradient.unsqueeze(1)  # [n_edges, 3, 3]
    strain_gradient = dyad.new_zeros(structure.n_graphs, 3, 3).index_add(
        0, structure.batch.index_select(0, structure.receivers), dyad
    )
    strain_gradient = 0.5 * (strain_gradient + strain_gradient.transpose(1, 2))
    return EnergyForces(energy, node_energy, forces, strain_gradient)


def voigt_stress(strain_gradient: Tensor, cell: Tensor) -> Tensor:
    """Stress of one structure periodic in three directions.

    Args:    strain_gradient [3, 3] eV; cell [3, 3] Å, rows are lattice vectors
    Returns: [6] eV/Å^3 in Voigt order xx, yy, zz, yz, xz, xy; ASE sign
    Raises:  PotentialError for a cell without volume
    """
    volume = torch.linalg.det(cell).abs()
    if not float(volume) > 0.0:
        raise PotentialError("EQ4001", f"cell volume={float(volume)} Å^3: stress needs three lattice vectors")
    stress = strain_gradient / volume
    return torch.stack([stress[0, 0], stress[1, 1], stress[2, 2], stress[1, 2], stress[0, 2], stress[0, 1]])


@dataclass(frozen=True)
class Potential:
    """A loaded potential: an evaluator with what one must know to feed it.  Made by `eqff.load`, never by hand."""

    evaluator: Evaluator
    module: Any  # the torch.jit.ScriptModule or nn.Module behind the evaluator
    species: tuple[str, ...]  # symbols, in the order of species indices
    r_max: float  # Å
    n_hops: int  # receptive field in units of r_max
    dtype: torch.dtype  # of the weights
    device: torch.device
    header: Mapping[str, Any] = field(repr=False)
    path: Path | None = None

    def __call__(self, structure: Structure) -> EnergyForces:
        """Energies, forces and strain gradient of a batch; tensors must live on this potential's device."""
        return energy_forces_stress(self.evaluator, structure)
