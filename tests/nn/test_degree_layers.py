"""Layers on features with the same channels for every degree, against plain formulas."""

import numpy as np
import pytest
import torch

from eqff.nn.degree_layers import DegreeLinear, DegreeNorm, GatedFeedForward, ScalarLinear, degrees, first_row

L_MAX, N_CHANNELS = 2, 4
DEGREE = np.array([0, 1, 1, 1, 2, 2, 2, 2, 2])


def features(n=5, seed=0):
    return torch.randn(n, 9, N_CHANNELS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def filled(module, seed=1):
    """The module in float64, with no weight left at zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.to(torch.float64).parameters():
            weight.copy_(torch.randn(weight.shape, dtype=torch.float64, generator=generator))
    return module


def test_degrees_and_first_row():
    assert degrees(2).tolist() == DEGREE.tolist()
    assert first_row(torch.ones(2, 1, 3), 4).sum(2).tolist() == [[3, 0, 0, 0]] * 2


def test_norm_is_its_formula():
    norm, x = filled(DegreeNorm(L_MAX, N_CHANNELS)), features()
    found = norm(x).detach().numpy()
    values = x.numpy().copy()
    values[:, 0] -= values[:, 0].mean(1, keepdims=True)
    square = sum((values[:, l == DEGREE] ** 2).sum(1) / (2 * l + 1) for l in range(3)).mean(1) / 3
    expected = values / np.sqrt(square + 1e-5)[:, None, None] * norm.weight.detach().numpy()[DEGREE]
    expected[:, 0] += norm.bias.detach().numpy()[0]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_norm_of_zeros_is_its_bias_and_has_a_derivative():
    norm = filled(DegreeNorm(L_MAX, N_CHANNELS))
    x = torch.zeros(1, 9, N_CHANNELS, dtype=torch.float64, requires_grad=True)
    out = norm(x)
    assert torch.equal(out[0, 0], norm.bias[0])
    assert not bool(out[0, 1:].any())
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert bool(torch.isfinite(gradient).all())


def test_linear_maps_each_degree_by_its_own_matrix():
    linear, x = filled(DegreeLinear(L_MAX, N_CHANNELS, 3, torch.Generator())), features()
    expected = np.einsum("nkc,kco->nko", x.numpy(), linear.weight.detach().numpy()[DEGREE]) / np.sqrt(N_CHANNELS)
    expected[:, 0] += linear.bias.detach().numpy()[0]
    np.testing.assert_allclose(linear(x).detach().numpy(), expected, rtol=1e-12)


def test_scalar_linear_starts_with_unit_variance():
    x = torch.randn(1000, 64, generator=torch.Generator().manual_seed(0))
    y = ScalarLinear(64, 64, torch.Generator().manual_seed(1))(x)
    assert float(y.detach().var()) == pytest.approx(1.0, rel=0.1)


def test_feed_forward_is_its_formula():
    block, x = filled(GatedFeedForward(L_MAX, N_CHANNELS, 6, torch.Generator())), features()
    silu = torch.nn.functional.silu
    gate = torch.sigmoid(silu(block.gate(x[:, 0]))).view(-1, 2, 6)
    y = block.linear_in(x)
    y = torch.cat([silu(y[:, :1]), y[:, 1:4] * gate[:, :1], y[:, 4:] * gate[:, 1:]], 1)
    torch.testing.assert_close(block(x), block.linear_out(y), rtol=0, atol=1e-13)


def test_without_atoms():
    for module in (
        DegreeNorm(2, 4),
        DegreeLinear(2, 4, 3, torch.Generator()),
        GatedFeedForward(2, 4, 6, torch.Generator()),
    ):
        assert len(module(torch.zeros(0, 9, 4))) == 0
