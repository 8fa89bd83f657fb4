"""Energy differences along a path are the work of the forces: what energy conservation in dynamics rests on."""

from collections.abc import Iterator

import numpy as np
import torch

from eqff.validation.finding import Measured, check, difference, statement
from eqff.validation.subject import Subject

N_STEPS = 80


@check("forces do not do the work that energies say")
def work(subject: Subject) -> Iterator[Measured]:
    """Edges come and go on the path, near and far neighbours change.

    Simpson's rule on steps of 0.01 Å: a jump or a kink, or a feature narrower than that, is far above its error.
    """
    structure = subject.clusters[1]
    positions = structure.positions.numpy()
    towards = np.random.default_rng(2).normal(size=positions.shape)
    towards *= 0.13 * subject.r_max / np.linalg.norm(towards, axis=1, keepdims=True)
    path = np.linspace(-1, 1, 2 * N_STEPS + 1)
    frames = [subject.structure(positions + t * towards, structure.species) for t in path]
    edges = {tuple(torch.stack([f.senders, f.receivers]).flatten().tolist()) for f in frames}
    yield statement(len(edges) > 3, "no edge comes or goes on this path")
    results = subject.evaluate_all(frames)
    energy = torch.cat([result.energy for result in results])
    forces = torch.stack([result.forces for result in results]).flatten(1)
    power = (forces @ torch.tensor(towards).flatten()) * (2.0 / N_STEPS)
    expected = -(power[:-2:2] + 4 * power[1::2] + power[2::2]) / 6
    limit = 3e-5 * subject.limits.scale + 10 * subject.limits.energy
    yield difference("energy eV", energy[2::2] - energy[:-2:2], expected, limit, "energy and work on a path")
