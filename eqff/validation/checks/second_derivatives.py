"""Derivatives of forces, on which Hessians and training rest."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from eqff.graph import Structure, batch_structures
from eqff.potential import GradientEvaluator, energy_forces_stress
from eqff.validation.finding import Measured, check, difference, statement
from eqff.validation.slopes import STENCIL, slope
from eqff.validation.subject import ModelSubject, edges_of

STEP = 2e-4  # Å


@check("derivatives are singular where vectors vanish by symmetry")
def symmetric_sites(subject: ModelSubject) -> Iterator[Measured]:
    """Forces are zero there, and derivatives of every order finite.

    The middle of a linear molecule, of a square and of an octahedron, and a lone atom in the same batch.
    """
    axes = np.eye(3)
    frames = []
    for n in (1, 2, 3):
        points = 0.6 * subject.r_max * np.vstack([np.zeros((1, 3)), axes[:n], -axes[:n]])
        frames.append(subject.structure(points, [0] + [1] * (2 * n)))
    whole = batch_structures([*frames, subject.structure(np.zeros((1, 3)), [1])])
    middle = [0, 3, 8, 15]
    positions = whole.positions.clone().requires_grad_(True)
    forces = differentiable_forces(subject, whole._replace(positions=positions))
    zero = torch.zeros(4, 3, dtype=torch.float64)
    yield difference("force eV/Å", forces[middle], zero, 1e-10, "atoms in the middle")
    direction = torch.sin(1.0 + torch.arange(positions.numel(), dtype=torch.float64)).view_as(positions)
    weights = [weight for weight in subject.model.parameters() if weight.requires_grad]
    derivatives = torch.autograd.grad((forces * direction).sum(), [positions, *weights], allow_unused=True)
    finite = all(d is None or bool(torch.isfinite(d).all()) for d in derivatives)
    yield statement(finite, "a second derivative is not finite")

    def shifted(n: float) -> Tensor:
        return subject.evaluate(whole._replace(positions=whole.positions + n * direction)).forces

    expected = slope(shifted, STEP)
    got = torch.autograd.functional.jvp(
        lambda x: differentiable_forces(subject, whole._replace(positions=x)), whole.positions, direction
    )[1]
    limit = 1e-5 * max(1.0, float(expected.abs().max()))
    yield difference("curvature eV/Å^2", got, expected, limit, "change of forces about symmetric sites")


@check("second derivatives with respect to edge vectors are wrong")
def second_derivatives(subject: ModelSubject) -> Iterator[Measured]:
    """gradcheck and gradgradcheck on a directed list: some edges have no reverse, as between owned and ghost atoms."""
    structure = subject.clusters[0]
    few = subject.structure(structure.positions[:4], structure.species[:4])
    species, senders, receivers, edge_vector = edges_of(few)
    keep = torch.arange(len(senders)) % 3 != 0
    senders, receivers, edge_vector = senders[keep], receivers[keep], edge_vector[keep].requires_grad_(True)
    weight = torch.tensor([1.0, -0.5, 2.0, 0.7], dtype=torch.float64)

    def energy(vectors: Tensor) -> Tensor:
        return torch.dot(subject.model(species, senders, receivers, vectors), weight)

    try:
        torch.autograd.gradcheck(energy, [edge_vector], atol=1e-7)
        torch.autograd.gradgradcheck(energy, [edge_vector], atol=1e-6)
    except RuntimeError as error:  # GradcheckError, and operations without a second derivative
        yield statement(False, f"torch says: {str(error)[:300]}")


@check("forces cannot be trained on")
def gradient_of_forces_by_weights(subject: ModelSubject) -> Iterator[Measured]:
    """d(F . v)/d weights along a random direction; every weight takes part."""
    structure = subject.clusters[1]
    direction = torch.cos(torch.arange(structure.positions.numel(), dtype=torch.float64)).view_as(structure.positions)
    weights = [weight for weight in subject.model.parameters() if weight.requires_grad]
    generator = torch.Generator().manual_seed(3)
    changes = [torch.randn(w.shape, generator=generator, dtype=w.dtype) * w.square().mean().sqrt() for w in weights]

    def loss(create_graph: bool) -> Tensor:
        result = energy_forces_stress(GradientEvaluator(subject.model, create_graph), structure)
        return (result.forces * direction).sum() + result.energy.sum()

    try:
        gradients = torch.autograd.grad(loss(True), weights)
    except RuntimeError as error:
        unused = f"; without part: {', '.join(_unused(subject, loss(True)))}" if "have been used" in str(error) else ""
        yield statement(False, f"torch says: {str(error)[:200]}{unused}")
        return
    exact = sum(float((g * c).sum().detach()) for g, c in zip(gradients, changes, strict=True))
    originals = [w.detach().clone() for w in weights]
    step, total = 1e-4, 0.0
    try:
        for n, factor in STENCIL:
            with torch.no_grad():
                for weight, original, change in zip(weights, originals, changes, strict=True):
                    weight.copy_(original + n * step * change)
            total += factor * float(loss(False).detach())
    finally:
        with torch.no_grad():
            for weight, original in zip(weights, originals, strict=True):
                weight.copy_(original)
    limit = 1e-6 * max(1.0, abs(exact))
    yield difference("derivative eV/Å", exact, total / (12 * step), limit, "forces by weights")


def differentiable_forces(subject: ModelSubject, structure: Structure) -> Tensor:
    return energy_forces_stress(GradientEvaluator(subject.model, True), structure).forces


def _unused(subject: ModelSubject, value: Tensor) -> list[str]:
    """Names of weights that take no part: training with compile = true stops at them."""
    named = [(name, weight) for name, weight in subject.model.named_parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(value, [weight for _, weight in named], allow_unused=True)
    return [name for (name, _), gradient in zip(named, gradients, strict=True) if gradient is None]
