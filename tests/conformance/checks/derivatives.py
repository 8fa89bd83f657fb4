"""Forces, stress and second derivatives against finite differences of the energy."""

import numpy as np
import torch

from eqff.graph import Structure, batch_structures
from eqff.potential import GradientEvaluator, energy_forces_stress, voigt_stress

from ..exam import Exam, close, cluster, crystal, edges_of
from .symmetry import AXES, tilt

STENCIL = ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0))  # fourth order, over 12 steps
STEP = 2e-4  # Å


def forces(exam: Exam) -> None:
    """F = -dE/dx: every component in a cluster and in a crystal."""
    points, species, cell = crystal(exam.r_max)
    for frame in (exam.structure(*cluster(exam.r_max, 6, seed=6)), exam.structure(points, species, cell)):
        n_atoms = len(frame.positions)
        directions = torch.eye(3 * n_atoms, dtype=torch.float64).view(-1, n_atoms, 3)
        expected = -slopes(exam, frame, directions).view(n_atoms, 3)
        close(exam.evaluate(frame).forces, expected, 1e-7, "forces and finite differences, eV/Å")


def forces_at_the_poles(exam: Exam) -> None:
    """F = -dE/dx with an edge on each axis, and 1e-9, 1e-7 and 1e-4 radians off it, along three directions each."""
    frames = []
    for axis in AXES:
        for angle in (0.0, 1e-9, 1e-7, 1e-4):
            ends = 0.45 * exam.r_max * np.array([[0, 0, 0], tilt(axis, angle) @ axis])
            third = 0.45 * exam.r_max * np.array([0.5, 0.62, -0.6]) * (1 - 2 * abs(axis))
            frames.append(exam.structure(np.vstack([ends, third]), [0, 1, 1]))
    batch = batch_structures(frames)
    directions = torch.zeros(3, len(frames), 3, 3, dtype=torch.float64)
    for k in range(3):
        directions[k, :, 1, k] = 1.0  # the atom at the end of the edge, with all its copies at once
    result = exam.evaluate(batch)
    for k in range(3):
        slope = sum(
            weight * exam.evaluate(moved(batch, n * STEP * directions[k].view(-1, 3))).energy for n, weight in STENCIL
        ) / (12 * STEP)
        close(result.forces[1::3, k], -slope, 1e-7, f"forces on an atom near an axis, component {k}, eV/Å")


def stress(exam: Exam) -> None:
    """dE/d strain over the volume: six components, triclinic cell, ASE's order and sign."""
    positions, species, cell = crystal(exam.r_max)
    frame = exam.structure(positions, species, cell)
    numeric = []
    for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        strain = torch.zeros(3, 3, dtype=torch.float64)
        strain[i, j] += 0.5 * STEP
        strain[j, i] += 0.5 * STEP

        def energy(n: int, strain: torch.Tensor = strain) -> torch.Tensor:
            deformation = torch.eye(3, dtype=torch.float64) + n * strain
            return exam.evaluate(
                frame._replace(positions=frame.positions @ deformation, cell=frame.cell @ deformation)
            ).energy

        numeric.append(sum(weight * energy(n) for n, weight in STENCIL) / (12 * STEP))
    expected = torch.cat(numeric) / abs(np.linalg.det(cell))
    got = voigt_stress(exam.evaluate(frame).strain_gradient[0], frame.cell[0])
    assert float(got.abs().min()) > 1e-6, f"stress {got} is too small to say anything"
    close(got, expected, 1e-8 + 1e-7 * float(got.abs().max()), "stress and finite differences, eV/Å^3")


def symmetric_sites(exam: Exam) -> None:
    """Where vectors vanish by symmetry: forces are zero there, and derivatives of every order finite.

    The middle of a linear molecule, of a square and of an octahedron, and a lone atom in the same batch.
    """
    axes = torch.eye(3, dtype=torch.float64).numpy()
    frames = []
    for n in (1, 2, 3):
        points = 0.6 * exam.r_max * np.vstack([np.zeros((1, 3)), axes[:n], -axes[:n]])
        frames.append(exam.structure(points, [0] + [1] * (2 * n)))
    batch = batch_structures([*frames, exam.structure(np.zeros((1, 3)), [1])])
    middle = [0, 3, 8, 15]
    positions = batch.positions.clone().requires_grad_(True)
    result = energy_forces_stress(GradientEvaluator(exam.model, True), batch._replace(positions=positions))
    close(result.forces[middle], torch.zeros(4, 3, dtype=torch.float64), 1e-10, "forces on atoms in the middle, eV/Å")
    direction = torch.sin(1.0 + torch.arange(positions.numel(), dtype=torch.float64)).view_as(positions)
    weights = [weight for weight in exam.model.parameters() if weight.requires_grad]
    derivatives = torch.autograd.grad((result.forces * direction).sum(), [positions, *weights], allow_unused=True)
    for derivative in derivatives:
        assert derivative is None or bool(torch.isfinite(derivative).all()), "a second derivative is not finite"
    slope = sum(weight * exam.evaluate(moved(batch, n * STEP * direction)).forces for n, weight in STENCIL) / (
        12 * STEP
    )
    got = torch.autograd.functional.jvp(
        lambda x: energy_forces_stress(GradientEvaluator(exam.model, True), batch._replace(positions=x)).forces,
        batch.positions,
        direction,
    )[1]
    close(got, slope, 1e-5 * max(1.0, float(slope.abs().max())), "change of forces about symmetric sites, eV/Å^2")


def second_derivatives(exam: Exam) -> None:
    """gradcheck and gradgradcheck on a directed list: some edges have no reverse, as between owned and ghost atoms."""
    species, senders, receivers, edge_vector = edges_of(exam.structure(*cluster(exam.r_max, 4, seed=4)))
    keep = torch.arange(len(senders)) % 3 != 0
    senders, receivers, edge_vector = senders[keep], receivers[keep], edge_vector[keep].requires_grad_(True)
    weight = torch.tensor([1.0, -0.5, 2.0, 0.7], dtype=torch.float64)

    def energy(vectors: torch.Tensor) -> torch.Tensor:
        return torch.dot(exam.model(species, senders, receivers, vectors), weight)

    try:
        torch.autograd.gradcheck(energy, [edge_vector], atol=1e-7)
        torch.autograd.gradgradcheck(energy, [edge_vector], atol=1e-6)
    except RuntimeError as error:  # GradcheckError, and operations without a second derivative
        raise AssertionError(f"derivatives with respect to edge vectors: {str(error)[:300]}") from error


def gradient_of_forces_by_weights(exam: Exam) -> None:
    """What training on forces needs: d(F . v)/d weights along a random direction; every weight takes part."""
    frame = exam.structure(*cluster(exam.r_max, 5, seed=8))
    direction = torch.cos(torch.arange(15, dtype=torch.float64)).view(5, 3)
    weights = [weight for weight in exam.model.parameters() if weight.requires_grad]
    generator = torch.Generator().manual_seed(3)
    changes = [torch.randn(w.shape, generator=generator, dtype=w.dtype) * w.square().mean().sqrt() for w in weights]

    def loss(create_graph: bool) -> torch.Tensor:
        result = energy_forces_stress(GradientEvaluator(exam.model, create_graph), frame)
        return (result.forces * direction).sum() + result.energy.sum()

    try:
        gradients = torch.autograd.grad(loss(True), weights)
    except RuntimeError as error:
        unused = f" ({', '.join(without_gradient(exam, loss(True)))})" if "not have been used" in str(error) else ""
        raise AssertionError(f"gradient of forces with respect to weights{unused}: {str(error)[:200]}") from error
    exact = sum(float((g * c).sum().detach()) for g, c in zip(gradients, changes, strict=True))
    originals = [w.detach().clone() for w in weights]
    total = 0.0
    step = 1e-4
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
    close(exact, total / (12 * step), 1e-6 * max(1.0, abs(exact)), "gradient of forces by weights")


def without_gradient(exam: Exam, value: torch.Tensor) -> list[str]:
    """Names of weights that take no part: training with compile = true stops at them."""
    named = [(name, weight) for name, weight in exam.model.named_parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(value, [weight for _, weight in named], allow_unused=True)
    return [name for (name, _), gradient in zip(named, gradients, strict=True) if gradient is None]


def slopes(exam: Exam, frame: Structure, directions: torch.Tensor) -> torch.Tensor:
    """dE along each of directions [n, n_atoms, 3], the edges kept: all displaced copies in one batch; [n]."""
    copies = [moved(frame, n * STEP * direction) for n, _ in STENCIL for direction in directions]
    energies = exam.model(*edges_of(batch_structures(copies))).detach().view(len(STENCIL), len(directions), -1).sum(2)
    return torch.tensor([weight for _, weight in STENCIL], dtype=torch.float64) @ energies / (12 * STEP)


def moved(frame: Structure, displacement: torch.Tensor) -> Structure:
    return frame._replace(positions=frame.positions + displacement)
