"""Frames of edges: proper rotations that turn the edge to y, with exact derivatives everywhere."""

import itertools

import numpy as np
import pytest
import torch
from toys import local_frame

from eqff.o3.edge_frames import helper_axis_frame

Y = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)


def directions(n, seed=0):
    """Random unit vectors, all axes and diagonals, and directions next to the poles."""
    rng = np.random.default_rng(seed)
    special = [v for v in itertools.product((-1.0, 0.0, 1.0), repeat=3) if any(v)]
    near = [[a, sign, b] for sign in (1.0, -1.0) for a in (0, 1e-9, 1e-7, 1e-4) for b in (0, -1e-9, 1e-7)]
    every = torch.tensor(np.concatenate([rng.normal(size=(n, 3)), special, near]))
    return every / every.norm(dim=1, keepdim=True)


def random_rotations(n, seed=1):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, 3, 3)))
    return torch.tensor(q * np.linalg.det(q)[:, None, None])


def frames_of(kind, u):
    if kind == "helper axis":
        return helper_axis_frame(u)
    if kind == "local, exact reference":
        reference = helper_axis_frame(u)
        angle = torch.arange(len(u), dtype=torch.float64)  # a roll of its own for every edge
        zero, one = torch.zeros_like(angle), torch.ones_like(angle)
        roll = torch.stack([angle.cos(), zero, angle.sin(), zero, one, zero, -angle.sin(), zero, angle.cos()], 1)
        return local_frame(u, roll.view(-1, 3, 3) @ reference)
    reference = random_rotations(len(u))
    upright = (reference @ u.detach().unsqueeze(2))[:, 1, 0] > -0.9  # the antipode is its one singular place
    reference = torch.where(upright[:, None, None], reference, helper_axis_frame(u))
    return local_frame(u, reference)


KINDS = ["helper axis", "local, exact reference", "local, any reference"]


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_rotations_that_turn_the_edge_to_y(kind):
    u = directions(2000)
    frames = frames_of(kind, u)
    torch.testing.assert_close(frames @ u.unsqueeze(2), Y.expand(len(u), 3).unsqueeze(2), rtol=0, atol=1e-13)
    identity = torch.eye(3, dtype=torch.float64).expand(len(u), 3, 3)
    torch.testing.assert_close(frames @ frames.transpose(1, 2), identity, rtol=0, atol=1e-13)
    torch.testing.assert_close(torch.linalg.det(frames), torch.ones(len(u)).double(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_have_finite_derivatives_everywhere(kind):
    u = directions(2000).requires_grad_(True)
    weight = torch.randn(len(u), 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((frames_of(kind, u) * weight).sum(), u)
    assert bool(torch.isfinite(gradient).all())
    assert float(gradient.abs().max()) < 100.0


@pytest.mark.parametrize("kind", KINDS[:2])
def test_what_ignores_the_roll_has_the_exact_derivative(kind):
    """f = g((R a)_y, |(R a)_xz|^2) is a function of u.a alone: f = g(u.a, |a|^2 - (u.a)^2)."""
    a = torch.tensor([0.3, -1.1, 0.7], dtype=torch.float64)

    def function(along, across):
        return (along.sin() + along * across**2).sum()

    u = directions(50).requires_grad_(True)
    turned = frames_of(kind, u) @ a
    found = function(turned[:, 1], turned[:, 0] ** 2 + turned[:, 2] ** 2)
    expected = function(u @ a, a @ a - (u @ a) ** 2)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)
    tangent = torch.eye(3, dtype=torch.float64) - u.detach().unsqueeze(2) * u.detach().unsqueeze(
        1
    )  # u is a unit vector
    slopes = [torch.autograd.grad(f, u)[0] for f in (found, expected)]
    found, expected = ((tangent @ slope.unsqueeze(2)).squeeze(2) for slope in slopes)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_no_edges():
    assert helper_axis_frame(torch.zeros(0, 3).double()).shape == (0, 3, 3)
    assert local_frame(torch.zeros(0, 3).double(), torch.zeros(0, 3, 3).double()).shape == (0, 3, 3)
