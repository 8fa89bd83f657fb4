"""Energy, forces and their derivatives where an edge appears or vanishes.

The same positions with and without the edges of one pair just inside r_max: what the pair adds must fall to nothing.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from eqff.graph import Structure
from eqff.validation.finding import Measured, check, difference, same, statement
from eqff.validation.random_structures import unit_vector
from eqff.validation.subject import EdgeSubject, ModelSubject, Subject, edges_of

N_TRIALS = 4  # additional atoms, at least, beside each cluster
Crossing = tuple[Structure, Structure, str]  # with the edges of a pair, without them, what it is


@check("jumps when an atom crosses r_max: energy drifts in dynamics")
def cutoff(subject: EdgeSubject) -> Iterator[Measured]:
    """Energy and forces with and without the pair; nearer to the cut-off less is allowed."""
    yield from _jumps(subject, crossings)


@check("jumps when two atoms that are alone cross r_max")
def cutoff_of_a_pair(subject: EdgeSubject) -> Iterator[Measured]:
    """As `cutoff`, of atoms that have no other neighbours."""
    yield from _jumps(subject, pairs)


@check("second derivatives jump when an atom crosses r_max")
def cutoff_of_curvature(subject: ModelSubject) -> Iterator[Measured]:
    """They fall with the distance to the cut-off, a cosine's would not."""
    for inside, outside, where in (*crossings(subject, 1e-5), *pairs(subject, 1e-5)):
        yield difference("curvature eV/Å^2", curvature(subject, inside), curvature(subject, outside), 0.03, where)


@check("energy or forces change when an atom that leaves crosses r_max")
def path_through_the_cutoff(subject: Subject) -> Iterator[Measured]:
    """An atom walks away, its list made anew at every step: energy and forces change as little as the steps are."""
    nearness, energy, force = subject.limits.jumps[-1]
    structure = subject.clusters[1]
    positions, direction = structure.positions.numpy(), np.array([0.6, 0.0, -0.8])
    outermost = positions[np.argmax(positions @ direction)]  # every other atom stays out of reach
    walk = []
    for step in nearness * subject.r_max * np.array([-1.0, -1e-3, 1e-3, 1.0]):
        points = np.vstack([positions, outermost + (subject.r_max + step) * direction])
        walk.append(subject.evaluate(subject.structure(points, np.append(structure.species, 1))))
    for result in walk[:-1]:
        yield difference("energy eV", result.energy, walk[-1].energy, energy, "across the cut-off")
        yield difference("force eV/Å", result.forces, walk[-1].forces, force, "across the cut-off")
    still = torch.zeros(3, dtype=torch.float64)
    yield difference("force eV/Å", walk[-1].forces[-1], still, 0.1 * force, "the atom that left")


@check("edges beyond r_max count")
def beyond_the_cutoff(subject: EdgeSubject) -> Iterator[Measured]:
    """A list with a skin gives the same numbers; one with nothing inside the cut-off those of no list at all."""
    for structure in subject.structures:
        cell = structure.cell[0] if bool(structure.pbc.all()) else None
        reach = subject.r_max * (1.5 if cell is None else 1.15)
        wide = subject.structure(structure.positions, structure.species, cell, reach)
        yield from same(subject, subject.evaluate(wide), subject.evaluate(structure), "a list with a skin")
    structure = subject.clusters[0]
    far = subject.structure(10.0 * structure.positions, structure.species, reach=20.0 * subject.r_max)
    n_atoms = len(structure.positions)
    yield statement(len(far.senders) == n_atoms * (n_atoms - 1), "not all pairs are listed")
    got, alone = subject.evaluate(far), subject.evaluate(without(far, torch.ones(len(far.senders), dtype=torch.bool)))
    yield difference("energy eV", got.energies, alone.energies, 0.0, "edges that are all too long")
    yield difference("force eV/Å", got.forces, torch.zeros_like(got.forces), 0.0, "edges that are all too long")


def pairs(subject: Subject, nearness: float) -> Iterator[Crossing]:
    """Two atoms alone at (1 - nearness) r_max."""
    reach = (1.0 - nearness) * subject.r_max * np.array([0.48, 0.6, -0.64])
    for first in range(subject.n_species):
        pair = subject.structure(np.stack([np.zeros(3), reach]), [first, first + 1])
        yield pair, without(pair, torch.ones(len(pair.senders), dtype=torch.bool)), "two atoms alone"


def crossings(subject: Subject, nearness: float) -> Iterator[Crossing]:
    """An atom more at (1 - nearness) r_max from an atom of each cluster, in the surroundings of both."""
    random = np.random.default_rng(0)
    reach = (1.0 - nearness) * subject.r_max
    for structure in subject.clusters:
        positions, n_atoms = structure.positions.numpy(), len(structure.positions)
        if n_atoms < 3:
            continue  # no surroundings: `pairs`
        n_done = 0
        for _ in range(100):
            if n_done == max(N_TRIALS, math.ceil(subject.n_species / 2)):
                break
            center = int(random.integers(n_atoms))
            there = positions[center] + reach * unit_vector(random)
            distance = np.linalg.norm(np.delete(positions, center, 0) - there, axis=1)
            if not 0.3 * subject.r_max < distance.min() < 0.9 * subject.r_max:
                continue  # too near, or no other neighbour
            kinds = np.append(structure.species, random.integers(subject.n_species))
            inside = subject.structure(np.vstack([positions, there]), kinds)
            pair_edges = (inside.senders == n_atoms) & (inside.receivers == center)
            pair_edges |= (inside.receivers == n_atoms) & (inside.senders == center)
            n_done += 1
            yield inside, without(inside, pair_edges), f"an atom more beside {n_atoms}"


def _jumps(subject: EdgeSubject, made: Callable[[Subject, float], Iterator[Crossing]]) -> Iterator[Measured]:
    for nearness, energy, force in subject.limits.jumps:
        for inside, outside, where in made(subject, nearness):
            near, far = subject.evaluate(inside), subject.evaluate(outside)
            yield difference("energy eV", near.energy, far.energy, energy, where)
            yield difference("force eV/Å", near.forces, far.forces, force, where)


def without(structure: Structure, dropped: Tensor) -> Structure:
    """The structure without some of its edges, dropped [n_edges]."""
    edges = {name: getattr(structure, name)[~dropped] for name in ("senders", "receivers", "edge_shift")}
    return structure._replace(**edges)


def curvature(subject: ModelSubject, structure: Structure) -> Tensor:
    """Second derivative of the energy along one direction, as a force [n_atoms, 3]; the edges are kept."""
    positions = structure.positions.clone().requires_grad_(True)
    if len(structure.senders) == 0:
        return torch.zeros_like(structure.positions)
    energy = subject.model(*edges_of(structure._replace(positions=positions))).sum()
    (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    direction = torch.sin(torch.arange(positions.numel(), dtype=torch.float64)).view_as(positions)
    return torch.autograd.grad((gradient * direction).sum(), positions)[0]
