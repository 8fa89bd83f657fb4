"""What is eSCN's own: frames of edges, poles, truncated orders, symmetry; the general exam is in tests/conformance."""

import dataclasses

import numpy as np
import pytest
import torch
from toys import close, cluster, local_frame, results

from eqff.graph import batch_structures, edge_vectors
from eqff.models.escn import Config, Model
from eqff.neighbors import build_structure
from eqff.nn.edge_rotation import EdgeRotation
from eqff.o3.edge_frames import helper_axis_frame
from eqff.potential import GradientEvaluator

R_MAX = 3.0
SMALL = Config(
    species=("H", "C"), r_max=R_MAX, n_layers=2, n_channels=4, n_hidden=5, n_basis=6, radial_hidden=(8, 8),
    readout_hidden=(8,), avg_num_neighbors=4.0,
)  # fmt: skip


def make(**fields):
    return Model(dataclasses.replace(SMALL, **fields)).to(torch.float64)


def rotation(seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.linalg.det(q)


def poles(offset):
    """A bent molecule whose bonds lie along +y and -y, but for an offset."""
    return np.array([[0.0, 0, 0], [0.0, 1.1, offset], [offset, -1.3, 0.0], [1.0, 0.2, 0.9]]), np.array([1, 0, 0, 1])


@pytest.mark.parametrize("offset", [0.0, 1e-9, 1e-7, 1e-4])
def test_forces_at_the_poles_are_finite_differences(offset):
    model = make(l_max=3, m_max=2)
    positions, species = poles(offset)
    forces, step = results(model, positions, species).forces, 2e-3
    weights = {
        sign * k: sign * w for k, w in ((1, 4 / 5), (2, -1 / 5), (3, 4 / 105), (4, -1 / 280)) for sign in (1, -1)
    }
    moved = []
    for atom, axis in np.ndindex(3, 3):
        for shift in weights:  # error of order step^8
            moved.append(positions.copy())
            moved[-1][atom, axis] += shift * step
    no_cell = np.zeros((3, 3)), np.zeros(3, bool), R_MAX
    batch = batch_structures([build_structure(each, species, *no_cell) for each in moved])
    with torch.no_grad():
        energies = model(batch.species, batch.senders, batch.receivers, edge_vectors(batch)).view(3, 3, -1, 4).sum(3)
    slopes = -(energies * torch.tensor(list(weights.values())).double()).sum(2) / step
    assert float((slopes - forces[:3]).abs().max() / forces.abs().max()) < 1e-7


def test_no_direction_gives_nan():
    """A dimer in 10,000 directions, the axes and their neighbourhoods among them: one energy, forces along the bond."""
    model = make(n_layers=1, n_channels=2, n_hidden=2, radial_hidden=(4, 4))
    rng = np.random.default_rng(0)
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    close_by = np.concatenate([axes, *[axes + 10.0**-k * rng.normal(size=(6, 3)) for k in range(2, 17)]])
    directions = np.concatenate([close_by, rng.normal(size=(10_000 - len(close_by), 3))])
    directions = torch.tensor(directions / np.linalg.norm(directions, axis=1, keepdims=True))
    n = len(directions)
    senders = torch.arange(2 * n).view(-1, 2).flip(1).flatten()
    edge_vector = 1.2 * torch.stack([directions, -directions], 1).view(-1, 3)
    species, weight = torch.arange(2 * n) % 2, torch.ones(2 * n, dtype=torch.float64)
    energy, gradient = GradientEvaluator(model)(species, senders, torch.arange(2 * n), edge_vector, weight)
    assert bool(torch.isfinite(gradient).all())
    close(energy.view(-1, 2), energy[:2].expand(n, 2), 1e-12)
    along = (gradient * edge_vector).sum(1, keepdim=True) * edge_vector / 1.44
    close(gradient, along, 1e-11)
    assert float(gradient.abs().max()) > 1e-3


class Framed(torch.nn.Module):
    """The rotation of a model, with other frames."""

    def __init__(self, kind, config):
        super().__init__()
        self.rotation, self.kind = EdgeRotation(config.l_max, config.m_max), kind

    def forward(self, direction):
        frame = helper_axis_frame(direction)
        if self.kind == "local":
            frame = local_frame(direction, frame)
        elif self.kind == "rolled":
            angle = torch.arange(len(direction), dtype=torch.float64)
            zero, one = torch.zeros_like(angle), torch.ones_like(angle)
            rows = [angle.cos(), zero, angle.sin(), zero, one, zero, -angle.sin(), zero, angle.cos()]
            frame = torch.stack(rows, 1).view(-1, 3, 3) @ frame
        return self.rotation.rows(frame.detach() if self.kind == "detached" else frame)


@pytest.mark.parametrize("kind", ["local", "rolled"])
def test_the_roll_of_frames_changes_neither_energies_nor_forces(kind):
    model, (positions, species) = make(l_max=3), cluster()
    expected = results(model, positions, species)
    model.rotation = Framed(kind, dataclasses.replace(SMALL, l_max=3))
    found = results(model, positions, species)
    close(found.energies, expected.energies, 1e-12)
    close(found.forces, expected.forces, 1e-11)


def test_detached_frames_would_give_wrong_forces():
    """The mistake that the published code's frames invite: the derivative of directions is missing."""
    model, (positions, species) = make(), cluster()
    expected = results(model, positions, species)
    model.rotation = Framed("detached", SMALL)
    found = results(model, positions, species)
    close(found.energies, expected.energies, 1e-12)
    assert float((found.forces - expected.forces).abs().max()) > 0.01 * float(expected.forces.abs().max())


def test_orders_above_m_max_are_left_out():
    """l_max 3 cut at m = 1 against all orders with the weights of m > 1 set to zero."""
    whole, cut = make(l_max=3, m_max=3), make(l_max=3, m_max=1)
    state, more = cut.state_dict(), whole.state_dict()
    with torch.no_grad():
        for name, value in more.items():
            if name.endswith(
                ("linear_in.weights.2", "linear_in.weights.3", "linear_out.weights.2", "linear_out.weights.3")
            ):
                value.zero_()
            elif "rotation." not in name and ".radial.weights.2" not in name and ".radial.offset" not in name:
                value.copy_(state[name])
        for big, small in zip([whole.degree, *whole.layers], [cut.degree, *cut.layers], strict=True):
            n = small.radial.offset.shape[0]
            big.radial.offset[:n] = small.radial.offset
            big.radial.weights[2][:, :n] = small.radial.weights[2]
    positions, species = cluster()
    one, other = results(whole, positions, species), results(cut, positions, species)
    close(one.energies, other.energies, 1e-12)
    close(one.forces, other.forces, 1e-12)


def test_one_hop_more_than_layers():
    assert make(n_layers=1).n_hops == 2
