"""Forces and stress against finite differences of the energy."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from eqff.graph import Structure
from eqff.units import VOIGT
from eqff.validation.finding import Measured, check, difference, statement
from eqff.validation.slopes import slope
from eqff.validation.subject import EdgeSubject, Subject
from eqff.validation.turns import AXES, tilt

N_DIRECTIONS = 4


@check("forces are not the gradient of the energy")
def gradient(subject: Subject) -> Iterator[Measured]:
    """F . d = -dE/dx along random directions, to which every component adds.

    Edges stay the same while atoms move, where the subject takes edges: a jump at the cut-off does not disturb.
    """
    limits = subject.limits
    generator = torch.Generator().manual_seed(0)
    for structure in subject.structures:
        shape = (N_DIRECTIONS, len(structure.positions), 3)
        directions = 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
        expected = -slopes(subject, [structure] * N_DIRECTIONS, directions)
        forces = torch.einsum("ai,dai->d", subject.evaluate(structure).forces, directions)
        yield difference("force eV/Å", forces, expected, limits.slope, f"{len(structure.positions)} atoms")


@check("forces are not the gradient of the energy where an edge lies along an axis")
def gradient_at_the_poles(subject: EdgeSubject) -> Iterator[Measured]:
    """An edge on each axis, and 1e-9, 1e-7 and 1e-4 radians off it, along three directions each."""
    frames, places = [], []
    for axis in AXES:
        for angle in (0.0, 1e-9, 1e-7, 1e-4):
            ends = 0.45 * subject.r_max * np.array([[0, 0, 0], tilt(axis, angle) @ axis])
            third = 0.45 * subject.r_max * np.array([0.5, 0.62, -0.6]) * (1 - 2 * abs(axis))
            frames.append(subject.structure(np.vstack([ends, third]), [0, 1, 1]))
            places.append(f"an edge {angle:g} rad off axis {axis}")
    expected = torch.zeros(len(frames), 3, dtype=torch.float64)
    for k in range(3):
        direction = torch.zeros(3, 3, dtype=torch.float64)
        direction[1, k] = 1.0  # of the atom at the end of the edge
        expected[:, k] = -slopes(subject, frames, direction.expand(len(frames), 3, 3))
    results = subject.evaluate_all(frames)
    for result, force, place in zip(results, expected, places, strict=True):
        yield difference("force eV/Å", result.forces[1], force, subject.limits.slope, place)


@check("stress is not the derivative of the energy with respect to strain")
def stress(subject: Subject) -> Iterator[Measured]:
    """Six components of a triclinic cell, by the sign of ASE: tension is positive."""
    structure = subject.crystal
    virial = subject.evaluate(structure).strain_gradient
    if not len(virial):  # a calculator without stress
        return
    eye = torch.eye(3, dtype=torch.float64)
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for i, j in VOIGT:
        strain = torch.zeros(3, 3, dtype=torch.float64)
        strain[i, j] += 0.5
        strain[j, i] += 0.5

        def energy(n: float, strain: Tensor = strain) -> Tensor:
            deformation = eye + n * strain
            deformed = structure._replace(
                positions=structure.positions @ deformation, cell=structure.cell @ deformation
            )
            return subject.evaluate(deformed).energy[0]

        expected[i, j] = expected[j, i] = slope(energy, subject.limits.step)
    volume = float(structure.cell[0].det().abs())
    got, largest = virial[0] / volume, float(virial.abs().max()) / volume
    yield statement(float(virial.abs().min()) > 0.0, "a component of the stress is exactly zero")
    limit = subject.limits.slope * (0.1 + largest)
    yield difference("stress eV/Å^3", got, expected / volume, limit, "a crystal under strain")


def slopes(subject: Subject, structures: Sequence[Structure], directions: Tensor) -> Tensor:
    """Change of each energy with a displacement along directions [n_structures, n_atoms, 3], eV/Å."""

    def energies(n: float) -> Tensor:
        moved = [s._replace(positions=s.positions + n * d) for s, d in zip(structures, directions, strict=True)]
        return torch.cat([result.energy for result in subject.evaluate_all(moved)])

    return slope(energies, subject.limits.step)
