"""Energy, forces and stress: the only place that takes the gradient of a model and assembles forces and stress from it.

E = sum_i e_i,   g_ij = dE / d r_ij   (one gradient, with respect to edge vectors)
F_k = sum_(receiver = k) g - sum_(sender = k) g
dE / d strain = sum_ij r_ij (x) g_ij,   stress = (dE / d strain) / V   (ASE sign: tension is positive)
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from eqff.errors import PotentialError
from eqff.graph import Structure, edge_vectors
from eqff.units import VOIGT


class Model(Protocol):
    """A model as seen from here: per-atom energies of edges; it knows no forces, units, files, positions or cells."""

    def __call__(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        """Per-atom energies [n_atoms] eV, float64, from edge vectors [n_edges, 3] Å, float64."""
        ...


class Evaluator(Protocol):
    """The function that engines call: per-atom energies and the one gradient; an atom has weight 1, a ghost atom 0."""

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
        with torch.inference_mode(False), torch.enable_grad(), full_precision(edge_vector.device):
            if (
                edge_vector.is_inference() or senders.is_inference() or node_weight.is_inference()
            ):  # made under torch.inference_mode
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


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """A context without torch.autocast, which would round weights and features to 8 or 11 bits."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def energy_forces_stress(evaluator: Evaluator, structure: Structure, edge_vector: Tensor | None = None) -> EnergyForces:
    """Energies, forces and strain gradient of a batch of structures.

    Args:    evaluator: see `Evaluator`; structure: positions Å, float64, edges sorted by receiver;
             edge_vector [n_edges, 3] Å: of this structure, if it was computed before
    Returns: EnergyForces, float64
    Source:  Knuth et al., Comput. Phys. Commun. 190, 33 (2015), eq. 29 for the strain derivative
    """
    if edge_vector is None:
        edge_vector = edge_vectors(structure)
    node_weight = torch.ones(structure.positions.shape[0], dtype=torch.float64, device=structure.positions.device)
    node_energy, edge_gradient = evaluator(
        structure.species, structure.senders, structure.receivers, edge_vector, node_weight
    )
    return assemble(structure, edge_vector, node_energy, edge_gradient)


def assemble(structure: Structure, edge_vector: Tensor, node_energy: Tensor, edge_gradient: Tensor) -> EnergyForces:
    """Sum per-atom energies and edge gradients to totals (equations at the top of this file)."""
    forces = torch.zeros_like(structure.positions, dtype=edge_gradient.dtype)
    forces.index_add_(0, structure.receivers, edge_gradient).index_add_(0, structure.senders, -edge_gradient)
    if structure.n_graphs == 1:
        energy = node_energy.sum(0, keepdim=True)
        strain_gradient = (edge_vector.T @ edge_gradient).unsqueeze(0)
    else:
        energy = node_energy.new_zeros(structure.n_graphs).index_add(0, structure.batch, node_energy)
        dyad = edge_vector.unsqueeze(2) * edge_gradient.unsqueeze(1)  # [n_edges, 3, 3]
        strain_gradient = dyad.new_zeros(structure.n_graphs, 3, 3).index_add(
            0, structure.batch.index_select(0, structure.receivers), dyad
        )
    strain_gradient = 0.5 * (strain_gradient + strain_gradient.transpose(1, 2))
    return EnergyForces(energy, node_energy, forces, strain_gradient)


def hessian(
    module: Model,
    structure: Structure,
    atoms: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Second derivatives of the energy, d2E / dx dx', analytic: one backward pass for each row.

    Args:    module: that can be differentiated twice, e.g. `Potential.module` (a compiled program cannot);
             structure: of one graph; atoms: whose rows to compute, None for all;
             progress: called with the number of rows done
    Returns: [3 n_rows, 3 n_atoms] eV/Å^2, float64; the full matrix is symmetric up to rounding
    """
    with torch.inference_mode(False), torch.enable_grad(), full_precision(structure.positions.device):
        fields = structure._asdict().items()
        copies: dict[str, Any] = {name: field.clone() for name, field in fields if isinstance(field, Tensor)}
        structure = structure._replace(**copies)  # tensors made under torch.inference_mode cannot be differentiated
        positions = structure.positions.requires_grad_(True)
        evaluator = GradientEvaluator(module, create_graph=True)
        forces = energy_forces_stress(evaluator, structure._replace(positions=positions)).forces
        if atoms is not None:
            forces = forces[torch.tensor(atoms, dtype=torch.int64, device=forces.device)]
        rows = forces.new_zeros(forces.numel(), positions.numel())
        if forces.requires_grad:  # else there are no edges: atoms that feel nothing
            for row, force in enumerate(forces.reshape(-1)):
                (gradient,) = torch.autograd.grad(force, positions, retain_graph=True)
                rows[row] = -gradient.reshape(-1)
                if progress is not None:
                    progress(row + 1)
    return rows.detach()


def voigt_stress(strain_gradient: Tensor, cell: Tensor) -> Tensor:
    """Stress of one structure periodic in three directions.

    Args:    strain_gradient [3, 3] eV; cell [3, 3] Å, rows are lattice vectors
    Returns: [6] eV/Å^3 in Voigt order xx, yy, zz, yz, xz, xy; ASE sign
    Raises:  PotentialError for a cell without volume
    """
    volume = torch.dot(torch.linalg.cross(cell[0], cell[1]), cell[2]).abs()
    if not float(volume) > 0.0:
        raise PotentialError(
            "EQ4001",
            f"cell volume={float(volume)} Å^3: stress needs three lattice vectors; "
            "give a cell, or do not ask for the stress",
        )
    components = strain_gradient.reshape(9).unbind()
    return torch.stack([components[3 * i + j] for i, j in VOIGT]) / volume
