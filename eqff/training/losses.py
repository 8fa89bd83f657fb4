"""Loss and metrics of energies and forces."""

from typing import NamedTuple

import torch
from torch import Tensor

from eqff.graph import Structure
from eqff.potential import GradientEvaluator, Model, energy_forces_stress
from eqff.training.config import LossConfig


class Errors(NamedTuple):
    """Predicted minus reference."""

    energy: Tensor  # [n_graphs] eV
    forces: Tensor  # [n_atoms, 3] eV/Å
    n_atoms: Tensor  # [n_graphs]


def errors(model: Model, structure: Structure, energy: Tensor, forces: Tensor, create_graph: bool) -> Errors:
    """Evaluate a batch against its labels.

    Args: energy [n_graphs] eV; forces [n_atoms, 3] eV/Å; create_graph: keep it differentiable for training
    """
    predicted = energy_forces_stress(GradientEvaluator(model, create_graph=create_graph), structure)
    n_atoms = energy.new_zeros(structure.n_graphs).index_add(0, structure.batch, torch.ones_like(forces[:, 0]))
    return Errors(predicted.energy - energy, predicted.forces - forces, n_atoms)


def loss_weights(config: LossConfig, progress: float) -> Tensor:
    """(w_F, w_E) at a fraction of the run from 0 to 1; [2] float64."""
    final = config.energy_per_atom if config.final_energy_per_atom is None else config.final_energy_per_atom
    energy = config.energy_per_atom
    if final != energy:
        energy *= (final / energy) ** progress
    return torch.tensor([config.forces, energy], dtype=torch.float64)


def loss(difference: Errors, weights: Tensor, config: LossConfig) -> Tensor:
    """w_F times the mean penalty of force components + w_E times that of per-atom energies; a scalar.

    Args: weights [2]: see `loss_weights`
    """
    forces = penalty(difference.forces, config).mean()
    energy = penalty(difference.energy / difference.n_atoms, config).mean()
    return torch.dot(weights, torch.stack([forces, energy]))


def penalty(difference: Tensor, config: LossConfig) -> Tensor:
    """Elementwise: d^2, or Huber's function divided by delta, so that far out it is |d| - delta/2."""
    if config.kind == "mse":
        return difference.square()
    size = difference.abs()
    inside = size.clamp(max=config.huber_delta)
    return inside * (size - 0.5 * inside) / config.huber_delta
