"""Receptive field in units of r_max: how far along a chain of atoms the energy of the first depends on edges."""

from collections.abc import Iterator

import torch

from eqff.potential import Evaluator
from eqff.validation.finding import Measured, check, statement
from eqff.validation.subject import EdgeSubject, ModelSubject

MAX_HOPS = 8


@check("the energy of an atom depends on edges farther away")
def n_hops(subject: EdgeSubject) -> Iterator[Measured]:
    """The promised number of hops is not exceeded."""
    stated = subject.n_hops
    longest = max(MAX_HOPS, stated or 0)
    hops = measure_n_hops(subject.evaluator, longest, subject.r_max, subject.n_species)
    limit = longest if stated is None else stated
    yield Measured("hops", hops, limit, f"on a chain of atoms, {hops} hops or more")


@check("n_hops is stated larger than it is")
def n_hops_is_reached(subject: ModelSubject) -> Iterator[Measured]:
    """Engines would exchange more ghost atoms than the model needs."""
    hops = measure_n_hops(subject.evaluator, subject.n_hops, subject.r_max, subject.n_species)
    yield statement(hops >= subject.n_hops, f"n_hops={subject.n_hops}, but on a chain of atoms {hops} are measured")


def measure_n_hops(evaluator: Evaluator, n_max: int, r_max: float, n_species: int) -> int:
    """The largest of several chains: a derivative may vanish by chance.

    Args:    evaluator: with weights in float64; r_max: Å; n_max: chains have n_max + 1 edges
    Returns: hops; n_max + 1 stands for any larger number
    """
    return max(_measure_n_hops(evaluator, n_max, r_max, n_species, first) for first in range(min(n_species, 3)))


def _measure_n_hops(evaluator: Evaluator, n_max: int, r_max: float, n_species: int, first: int) -> int:
    """Along one chain whose first atom is of species `first`."""
    n_atoms = n_max + 2
    index = torch.arange(n_atoms)
    turn = 0.5 * torch.sin(1.0 + 2.0 * index.double())  # no symmetry that would make a derivative vanish
    step = 0.7 * r_max * torch.stack([torch.cos(turn), torch.sin(turn), 0.3 * torch.cos(3 * turn)], 1)[:-1]
    forward, backward = (index[:-1], index[1:]), (index[1:], index[:-1])  # (receivers, senders), 1.3 r_max to the next
    receivers, senders = torch.cat([forward[0], backward[0]]), torch.cat([forward[1], backward[1]])
    edge_vector = torch.cat([step, -step])
    order = torch.argsort(receivers * n_atoms + senders)
    node_weight = torch.zeros(n_atoms, dtype=torch.float64)
    node_weight[0] = 1.0
    species = (index + first) % n_species
    _, edge_gradient = evaluator(species, senders[order], receivers[order], edge_vector[order], node_weight)
    reached = receivers[order][edge_gradient.abs().sum(1) > 0]
    return int(reached.max()) + 1 if reached.numel() else 0
