"""Energy differences along a path are the work of the forces: what energy conservation in dynamics rests on."""

from collections.abc import Iterator

import numpy as np
import torch

from eqff.graph import Structure
from eqff.validation.finding import Measured, check, difference
from eqff.validation.subject import Subject

N_STEPS = 80


@check("forces do not do the work that energies say")
def work(subject: Subject) -> Iterator[Measured]:
    """Near and far neighbours change on the path, in loose structures edges come and go.

    Simpson's rule on steps of 0.01 Å: a jump or a kink, or a feature narrower than that, is far above its error.
    """
    frames, towards = path(subject)
    results = subject.evaluate_all(frames)
    energy = torch.cat([result.energy for result in results])
    forces = torch.stack([result.forces for result in results]).flatten(1)
    power = (forces @ torch.tensor(towards).flatten()) * (2.0 / N_STEPS)
    expected = -(power[:-2:2] + 4 * power[1::2] + power[2::2]) / 6
    limit = 3e-5 * subject.limits.scale + 10 * subject.limits.energy
    yield difference("energy eV", energy[2::2] - energy[:-2:2], expected, limit, "energy and work on a path")


def path(subject: Subject) -> tuple[list[Structure], np.ndarray]:
    """Structures at t = -1 ... 1 on a straight path, and its direction [n_atoms, 3] Å."""
    structure = subject.clusters[1]
    positions = structure.positions.numpy()
    towards = np.random.default_rng(2).normal(size=positions.shape)
    towards *= 0.13 * subject.r_max / np.linalg.norm(towards, axis=1, keepdims=True)
    times = np.linspace(-1, 1, 2 * N_STEPS + 1)
    return [subject.structure(positions + t * towards, structure.species) for t in times], towards
