"""Energy, forces and their derivatives where an edge appears or vanishes.

The same positions with and without the edges of one pair just inside r_max: what the pair adds must fall to nothing.
Everything is measured between two fragments whose atoms have other neighbours, and for two atoms alone.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eqff.graph import Structure, batch_structures, edge_vectors

from ..exam import Exam, close, cluster

NEAR = (1e-4, 1e-6)  # of r_max: how far inside the cut-off a pair is


class Local(NamedTuple):
    """Derivatives of the energy, in eV and Å."""

    energy: Tensor
    forces: Tensor
    curvature: Tensor  # second derivative along one direction, as a force


def jump_of_energy(exam: Exam) -> None:
    """0 to 1e-12 eV a millionth of r_max inside, and no more than the third power of the distance farther in."""
    for nearness, tolerance in zip(NEAR, (1e-8, 1e-12), strict=True):
        for with_pair, without in crossings(exam, nearness):
            close(with_pair.energy, without.energy, tolerance, "energy with and without a pair at the cut-off, eV")


def jump_of_forces(exam: Exam) -> None:
    """0 to 1e-8 eV/Å, where forces are about 1 eV/Å, and no more than the square of the distance farther in."""
    for nearness, tolerance in zip(NEAR, (1e-4, 1e-8), strict=True):
        for with_pair, without in crossings(exam, nearness):
            close(with_pair.forces, without.forces, tolerance, "forces with and without a pair at the cut-off, eV/Å")


def jump_of_curvature(exam: Exam) -> None:
    """Second derivatives are continuous: they fall with the distance to the cut-off, a cosine's would not."""
    for with_pair, without in crossings(exam, 1e-5):
        close(with_pair.curvature, without.curvature, 0.03, "curvature with and without a pair at the cut-off, eV/Å^2")


def path_through_the_cutoff(exam: Exam) -> None:
    """An atom walks away, its list made anew at every step: energy and forces change as little as the steps are."""
    positions, species = cluster(exam.r_max, 5, seed=3)
    direction = np.array([0.6, 0.0, -0.8])
    outermost = positions[np.argmax(positions @ direction)]  # every other atom stays out of reach
    steps = exam.r_max * np.array([-1e-6, -1e-9, 1e-9, 1e-6])
    walk = [
        exam.results(np.vstack([positions, outermost + (exam.r_max + step) * direction]), np.append(species, 1))
        for step in steps
    ]
    for result in walk[:-1]:
        close(result.energies, walk[-1].energies, 1e-12, "energies across the cut-off, eV")
        close(result.forces, walk[-1].forces, 1e-8, "forces across the cut-off, eV/Å")
    assert not bool(walk[-1].forces[-1].any()), "the atom feels a force beyond the cut-off"


def work(exam: Exam) -> None:
    """Energy differences along a path are the work of the forces; edges come and go, near and far neighbours change.

    Simpson's rule on steps of 0.01 Å: a jump or a kink, or a feature narrower than that, is far above its error.
    """
    positions, species = cluster(exam.r_max, 6, seed=6)
    towards = np.random.default_rng(2).normal(size=positions.shape)
    towards *= 0.13 * exam.r_max / np.linalg.norm(towards, axis=1, keepdims=True)
    n_steps = 80
    frames = [exam.structure(positions + t * towards, species) for t in np.linspace(-1, 1, 2 * n_steps + 1)]
    edges = {tuple(torch.stack([f.senders, f.receivers]).flatten().tolist()) for f in frames}
    assert len(edges) > 3, "no edge comes or goes on this path"
    result = exam.evaluate(batch_structures(frames))
    power = (result.forces.view(2 * n_steps + 1, -1) @ torch.tensor(towards).flatten()) * (2.0 / n_steps)
    expected = -(power[:-2:2] + 4 * power[1::2] + power[2::2]) / 6
    close(result.energy[2::2] - result.energy[:-2:2], expected, 3e-5, "energy and work on a path, eV")


def crossings(exam: Exam, nearness: float) -> list[tuple[Local, Local]]:
    """(with, without) a pair at (1 - nearness) r_max: between two fragments, and of two atoms alone."""
    one, other = cluster(exam.r_max, 4, seed=3), cluster(exam.r_max, 3, seed=4)
    direction = np.array([0.48, 0.6, -0.64])
    front, back = one[0][np.argmax(one[0] @ direction)], other[0][np.argmin(other[0] @ direction)]
    reach = (1.0 - nearness) * exam.r_max * direction
    frames = [
        exam.structure(np.vstack([one[0], other[0] + front - back + reach]), np.concatenate([one[1], other[1]])),
        exam.structure(np.vstack([np.zeros(3), reach]), [0, 1]),
    ]
    return [(local(exam, frame), local(exam, without_longest(frame, exam.r_max))) for frame in frames]


def without_longest(frame: Structure, r_max: float) -> Structure:
    """The structure without the one pair that is about r_max long."""
    shorter = edge_vectors(frame).norm(dim=1) < 0.9999 * r_max
    assert int((~shorter).sum()) == 2, "the structure was to have one pair at the cut-off"
    return frame._replace(
        senders=frame.senders[shorter], receivers=frame.receivers[shorter], edge_shift=frame.edge_shift[shorter]
    )


def local(exam: Exam, frame: Structure) -> Local:
    """Energy, forces and curvature along one direction, with the edges of this structure."""
    positions = frame.positions.clone().requires_grad_(True)
    if frame.senders.shape[0] == 0:
        energy = exam.model(frame.species, frame.senders, frame.receivers, torch.zeros(0, 3, dtype=torch.float64)).sum()
        return Local(energy.detach(), torch.zeros_like(positions), torch.zeros_like(positions))
    energy = exam.model(
        frame.species, frame.senders, frame.receivers, edge_vectors(frame._replace(positions=positions))
    ).sum()
    (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    direction = torch.sin(torch.arange(positions.numel(), dtype=torch.float64)).view_as(positions)
    (curvature,) = torch.autograd.grad((gradient * direction).sum(), positions)
    return Local(energy.detach(), -gradient.detach(), curvature)
