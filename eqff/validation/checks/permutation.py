"""The order of atoms and of edges does not matter."""

from collections.abc import Iterator

import numpy as np
import torch

from eqff.validation.finding import Measured, check, difference, same, statement
from eqff.validation.random_structures import permuted
from eqff.validation.subject import EdgeSubject, Subject, edges_of


@check("results depend on the order of atoms")
def permutation(subject: Subject) -> Iterator[Measured]:
    random = np.random.default_rng(5)
    for structure in subject.structures:
        other, order = permuted(structure, random)
        still = subject.evaluate(structure)
        energies = still.energies[order] if len(still.energies) else still.energies
        expected = still._replace(energies=energies, forces=still.forces[order])
        yield from same(subject, subject.evaluate(other), expected, f"{len(order)} atoms in another order")


@check("results depend on the order of edges")
def permutation_of_edges(subject: EdgeSubject) -> Iterator[Measured]:
    """Lists come sorted, and kernels may rely on that; the model itself does not."""
    species, senders, receivers, edge_vector = edges_of(subject.clusters[0])
    weight = torch.ones(len(species), dtype=torch.float64)
    place = receivers * len(species) + senders
    yield statement(bool((place[1:] >= place[:-1]).all()), "edges are not sorted by (receiver, sender)")
    order = torch.randperm(len(senders), generator=torch.Generator().manual_seed(1))
    got, _ = subject.evaluator(species, senders[order], receivers[order], edge_vector[order], weight)
    expected, _ = subject.evaluator(species, senders, receivers, edge_vector, weight)
    yield difference("energy eV", got, expected, subject.limits.energy, "edges shuffled")
