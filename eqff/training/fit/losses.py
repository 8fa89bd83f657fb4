"""Loss and metrics of energies, forces and stress."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from eqff.graph import Structure
from eqff.potential import GradientEvaluator, Model, energy_forces_stress
from eqff.training.config import LossConfig
from eqff.units import VOIGT

TINY = 1e-24  # eV^2/Å^2: so that the length of a force error has a gradient where the error is 0


class Labels(NamedTuple):
    """What a batch is compared with; a frame without a label has 0 there, and 0 in `weight`."""

    energy: Tensor  # [n_graphs] eV
    forces: Tensor  # [n_atoms, 3] eV/Å
    stress: Tensor | None  # [n_graphs, 6] eV/Å^3, Voigt order xx yy zz yz xz xy, ASE sign; None: not trained on
    weight: Tensor  # [n_graphs, 3] of energy, forces, stress
    n_labels: Tensor  # [3] atoms with forces, frames with energy, with stress, over which means are taken; >= 1


class Errors(NamedTuple):
    """Predicted minus reference."""

    energy: Tensor  # [n_graphs] eV
    forces: Tensor  # [n_atoms, 3] eV/Å
    n_atoms: Tensor  # [n_graphs]
    virial: Tensor | None = None  # [n_graphs, 6] eV: stress times volume; None where it is not trained


def present(batch: Any) -> Tensor:
    """Which labels the frames of a batch have: [n_graphs, 3] bool, energy, forces, stress."""
    return torch.stack([batch.has_energy, batch.has_forces, batch.has_stress], 1)


def counts(batch: Any) -> Tensor:
    """[3] atoms with forces, frames with energy, frames with stress; float64."""
    has = present(batch)
    return torch.stack([has[:, 1][batch.batch].sum(), has[:, 0].sum(), has[:, 2].sum()]).to(torch.float64)


def labels_of(batch: Any, stress: bool) -> Labels:
    """The labels of a batch of a loader.

    Args: batch: of `eqff.data.loader`; stress: whether stress is trained on
    """
    weight = batch.label_weights * present(batch)
    return Labels(batch.energy, batch.forces, batch.stress if stress else None, weight, counts(batch).clamp(min=1.0))


def complete(energy: Tensor, forces: Tensor, stress: Tensor | None = None) -> Labels:
    """Labels of frames that all have energy and forces (and a stress), each of weight 1.

    Args: energy [n_graphs] eV; forces [n_atoms, 3] eV/Å; stress [n_graphs, 6] eV/Å^3
    """
    count = energy.new_tensor([len(forces), len(energy), len(energy)])
    return Labels(energy, forces, stress, energy.new_ones(len(energy), 3), count)


def errors(model: Model, structure: Structure, labels: Labels, create_graph: bool) -> Errors:
    """Evaluate a batch against its labels; where a label is absent, the number is without meaning.

    Args: create_graph: keep the result differentiable, for training
    """
    predicted = energy_forces_stress(GradientEvaluator(model, create_graph=create_graph), structure)
    ones = torch.ones_like(labels.forces[:, 0])
    n_atoms = labels.energy.new_zeros(structure.n_graphs).index_add(0, structure.batch, ones)
    virial = None
    if labels.stress is not None:
        volume = torch.linalg.det(structure.cell).abs().unsqueeze(1)
        components = predicted.strain_gradient.reshape(-1, 9)[:, [3 * i + j for i, j in VOIGT]]
        virial = components - labels.stress * volume
    return Errors(predicted.energy - labels.energy, predicted.forces - labels.forces, n_atoms, virial)


def loss_weights(config: LossConfig, progress: float) -> Tensor:
    """(w_F, w_E, w_S) at a fraction of the run from 0 to 1; [3] float64."""
    final = config.energy_per_atom if config.final_energy_per_atom is None else config.final_energy_per_atom
    energy = config.energy_per_atom
    if final != energy:
        energy *= (final / energy) ** progress
    return torch.tensor([config.forces, energy, config.stress or 0.0], dtype=torch.float64)


def loss(difference: Errors, structure: Structure, labels: Labels, weights: Tensor, config: LossConfig) -> Tensor:
    """w_F times the mean penalty of forces + w_E times that of energies + w_S times that of virials; a scalar.

    Args: weights [3]: see `loss_weights`
    """
    return torch.dot(weights, loss_sums(difference, structure, labels, config) / labels.n_labels)


def loss_sums(difference: Errors, structure: Structure, labels: Labels, config: LossConfig) -> Tensor:
    """Weighted sums of penalties: [3] of forces over atoms (means of components), energies and virials over frames."""
    if config.kind == "l2":
        of_atom = (difference.forces.square().sum(1) + TINY).sqrt()
    else:
        of_atom = penalty(difference.forces, config).mean(1)
    n_atoms = difference.n_atoms
    energy = penalty(difference.energy / n_atoms if config.energy == "per_atom" else difference.energy, config)
    virial = torch.zeros_like(energy)
    if difference.virial is not None:
        virial = penalty(difference.virial / n_atoms.unsqueeze(1), config).mean(1)
    forces = (of_atom * labels.weight[:, 1].index_select(0, structure.batch)).sum()
    return torch.stack([forces, (energy * labels.weight[:, 0]).sum(), (virial * labels.weight[:, 2]).sum()])


def penalty(difference: Tensor, config: LossConfig) -> Tensor:
    """Elementwise: d^2, |d|, or Huber's function divided by delta, so that far out it is |d| - delta/2."""
    if config.kind == "mse":
        return difference.square()
    if config.kind in ("mae", "l2"):
        return difference.abs()
    size = difference.abs()
    inside = size.clamp(max=config.huber_delta)
    return inside * (size - 0.5 * inside) / config.huber_delta
