"""Loss and metrics of energies, forces and stress."""

from typing import NamedTuple

import torch
from torch import Tensor

from eqff.graph import Structure
from eqff.potential import GradientEvaluator, Model, energy_forces_stress
from eqff.training.config import LossConfig
from eqff.units import VOIGT

TINY = 1e-24  # eV^2/Å^2: so that the length of a force error has a gradient where the error is 0


class Errors(NamedTuple):
    """Predicted minus reference."""

    energy: Tensor  # [n_graphs] eV
    forces: Tensor  # [n_atoms, 3] eV/Å
    n_atoms: Tensor  # [n_graphs]
    virial: Tensor | None = None  # [n_graphs, 6] eV: stress times volume; None where it is not trained


def errors(
    model: Model,
    structure: Structure,
    energy: Tensor,
    forces: Tensor,
    create_graph: bool,
    stress: Tensor | None = None,
) -> Errors:
    """Evaluate a batch against its labels.

    Args: energy [n_graphs] eV; forces [n_atoms, 3] eV/Å; create_graph: keep the result differentiable, for training;
          stress [n_graphs, 6] eV/Å^3, Voigt order xx yy zz yz xz xy, ASE sign; every cell needs a volume then
    """
    predicted = energy_forces_stress(GradientEvaluator(model, create_graph=create_graph), structure)
    n_atoms = energy.new_zeros(structure.n_graphs).index_add(0, structure.batch, torch.ones_like(forces[:, 0]))
    virial = None
    if stress is not None:
        volume = torch.linalg.det(structure.cell).abs().unsqueeze(1)
        components = predicted.strain_gradient.reshape(-1, 9)[:, [3 * i + j for i, j in VOIGT]]
        virial = components - stress * volume
    return Errors(predicted.energy - energy, predicted.forces - forces, n_atoms, virial)


def loss_weights(config: LossConfig, progress: float) -> Tensor:
    """(w_F, w_E, w_S) at a fraction of the run from 0 to 1; [3] float64."""
    final = config.energy_per_atom if config.final_energy_per_atom is None else config.final_energy_per_atom
    energy = config.energy_per_atom
    if final != energy:
        energy *= (final / energy) ** progress
    return torch.tensor([config.forces, energy, config.stress], dtype=torch.float64)


def loss(difference: Errors, weights: Tensor, config: LossConfig, share: Tensor | None = None) -> Tensor:
    """w_F times the mean penalty of forces + w_E times that of energies + w_S times that of virials; a scalar.

    Args: weights [3]: see `loss_weights`; share [2]: factors of means over atoms and over frames that make the mean
          over processes the mean over all their atoms and frames; None: 1
    """
    if config.kind == "l2":
        forces = (difference.forces.square().sum(1) + TINY).sqrt().mean()
    else:
        forces = penalty(difference.forces, config).mean()
    n_atoms = difference.n_atoms
    energy = penalty(difference.energy / n_atoms if config.energy == "per_atom" else difference.energy, config).mean()
    virial = torch.zeros_like(energy)
    if difference.virial is not None:
        virial = penalty(difference.virial / n_atoms.unsqueeze(1), config).mean()
    if share is not None:
        forces, energy, virial = forces * share[0], energy * share[1], virial * share[1]
    return torch.dot(weights, torch.stack([forces, energy, virial]))


def penalty(difference: Tensor, config: LossConfig) -> Tensor:
    """Elementwise: d^2, |d|, or Huber's function divided by delta, so that far out it is |d| - delta/2."""
    if config.kind == "mse":
        return difference.square()
    if config.kind in ("mae", "l2"):
        return difference.abs()
    size = difference.abs()
    inside = size.clamp(max=config.huber_delta)
    return inside * (size - 0.5 * inside) / config.huber_delta
