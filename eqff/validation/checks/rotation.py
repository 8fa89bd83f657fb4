"""E(R x) = E(x), F(R x) = R F(x), and the virial turns as a tensor."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from eqff.graph import Structure
from eqff.validation.finding import Measured, check, difference, same, statement
from eqff.validation.subject import ModelSubject, Subject, edges_of
from eqff.validation.turns import AXES, onto, rotation_matrix, tilt, turned, turned_results

NEARLY = (0.0, 1e-9, 1e-7, 1e-4)  # radians off an axis


@check("results depend on the orientation")
def rotation(subject: Subject) -> Iterator[Measured]:
    """Two random turns of every structure."""
    for seed in (1, 2):
        turn = torch.tensor(rotation_matrix(np.random.default_rng(seed)))
        for structure in subject.structures:
            got = subject.evaluate(turned(structure, turn))
            expected = turned_results(subject.evaluate(structure), turn)
            yield from same(subject, got, expected, f"{len(structure.positions)} atoms turned")


@check("results depend on the orientation where an edge lies along an axis")
def rotation_onto_axes(subject: Subject) -> Iterator[Measured]:
    """Turns that put an edge on each axis, and hardly off it: the poles of spherical coordinates are among them."""
    whole = subject.clusters[0]
    positions = whole.positions.numpy()
    centre = positions[0]
    edge = positions[1] - centre
    edge *= 0.5 * subject.r_max / np.linalg.norm(edge)
    others = 1.2 * (positions[1:] - centre)
    apart = np.minimum(np.linalg.norm(others, axis=1), np.linalg.norm(others - edge, axis=1)) > 0.3 * subject.r_max
    points = np.vstack([np.zeros(3), edge, others[apart]])
    kinds = np.arange(len(points))
    still = subject.evaluate(subject.structure(points, kinds))
    turns, structures, places = [], [], []
    for axis in AXES:
        for angle in NEARLY:
            turn = tilt(axis, angle) @ onto(edge, axis)
            moved = points @ turn.T
            if angle == 0.0:
                moved[1] = axis * np.linalg.norm(edge)  # exactly, not up to rounding
            turns.append(torch.tensor(turn.T))
            structures.append(subject.structure(moved, kinds))
            places.append(f"an edge {angle:g} rad off axis {axis}")
    for got, turn, place in zip(subject.evaluate_all(structures), turns, places, strict=True):
        yield from same(subject, got, turned_results(still, turn), place, more=10.0)


@check("features turn with the structure")
def invariant_features(subject: ModelSubject) -> Iterator[Measured]:
    """What `features` gives, from which uncertainties are computed, does not turn with the structure."""
    structure = subject.clusters[0]
    turn = torch.tensor(rotation_matrix(np.random.default_rng(3)))
    still, other = (features(subject, s) for s in (structure, turned(structure, turn)))
    size = float(still.abs().max())
    yield statement(still.shape[0] == len(structure.positions), f"{list(still.shape)} are not one row for each atom")
    yield statement(size > 0.0, "they are all zero")
    yield difference("feature -", other, still, subject.limits.energy * max(size, 1.0), "features turned")


def features(subject: ModelSubject, structure: Structure) -> Tensor:
    """Input of the model's last layer, [n_atoms, n_features]."""
    model, (species, senders, receivers, edge_vector) = subject.model, edges_of(structure)
    geometry = model.geometry(edge_vector)  # type: ignore[operator]
    h = model.embed(species, senders, receivers, geometry)  # type: ignore[operator]
    for k in range(subject.n_hops):
        h = model.interact(k, h, species, senders, receivers, geometry)  # type: ignore[operator]
    return model.features(h).detach()  # type: ignore[operator]
