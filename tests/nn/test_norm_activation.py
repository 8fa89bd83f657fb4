"""Norm non-linearity: closed forms, directions kept, derivatives where vectors vanish."""

import math

import numpy as np
import pytest
import torch

from eqff.nn.norm_activation import SOFTENING, SOFTPLUS_MOMENT, VARIANCE, NormActivation, shifted_softplus, soft_norm
from eqff.o3.irreps import parse

IRREPS = parse("4x0e + 3x0o + 3x1o + 5x2e")


def blocks_of(irreps=IRREPS, n_atoms=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(n_atoms, block.irrep.dim, block.n_channels) for block in irreps]
    return [torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in shapes]


def make(normalized, seed=1):
    """With biases and gains that are not those of the start."""
    activation = NormActivation(IRREPS, normalized).to(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in activation.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return activation


def silu(x):
    return x / (1.0 + np.exp(-x))


def test_shifted_softplus_is_smooth_and_does_not_overflow():
    x = torch.tensor([-800.0, -20.0, 0.0, 1.0, 20.0, 800.0], dtype=torch.float64, requires_grad=True)
    value = shifted_softplus(x)
    expected = [math.log1p(math.exp(-abs(t))) + max(t, 0.0) - math.log(2.0) for t in x.tolist()]
    torch.testing.assert_close(value.tolist(), expected, rtol=1e-14, atol=1e-15)
    (slope,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(slope, torch.sigmoid(x), rtol=1e-14, atol=1e-15)
    around = torch.tensor([20.0 - 1e-9, 20.0 + 1e-9], dtype=torch.float64)  # where torch's own softplus jumps
    assert float(shifted_softplus(around).diff()) == pytest.approx(2e-9, abs=1e-14)


def test_second_moment():
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    value = SOFTPLUS_MOMENT * shifted_softplus(torch.tensor(nodes)).numpy()
    assert float((weights * value**2).sum() / weights.sum()) == pytest.approx(1.0, abs=0.01)  # e3nn's is an estimate


@pytest.mark.parametrize("normalized", [False, True])
def test_closed_form_channel_by_channel(normalized):
    activation, blocks = make(normalized), blocks_of()
    for k, (block, x, y) in enumerate(zip(IRREPS, blocks, activation(blocks), strict=True)):
        x, y, shift = x.numpy(), y.detach().numpy(), activation.shifts[k]
        bias = shift.bias.detach().numpy()
        for atom in range(len(x)):
            norms = np.sqrt((x[atom] ** 2).sum(0) + SOFTENING**2)
            argument = x[atom][0] if str(block.irrep) == "0e" else norms
            if normalized:
                centred = argument - argument.mean()
                gain = shift.weight.detach().numpy()
                activated = silu(centred / np.sqrt((centred**2).mean() + VARIANCE) * gain + bias)
            else:
                activated = SOFTPLUS_MOMENT * (np.log1p(np.exp(argument + bias)) - math.log(2.0))
            expected = activated[None] if str(block.irrep) == "0e" else x[atom] * activated / norms
            np.testing.assert_allclose(y[atom], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("normalized", [False, True])
def test_vectors_keep_or_reverse_their_direction(normalized):
    blocks = blocks_of()
    for k, (x, y) in enumerate(zip(blocks, make(normalized)(blocks), strict=True)):
        if k == 0:
            continue
        parallel = (x * y).sum(1, keepdim=True) / x.square().sum(1, keepdim=True) * x
        torch.testing.assert_close(y, parallel, rtol=0, atol=1e-13)


@pytest.mark.parametrize("normalized", [False, True])
def test_two_derivatives_where_vectors_vanish(normalized):
    activation = make(normalized)
    blocks = [torch.zeros_like(x) if k > 0 else x for k, x in enumerate(blocks_of(n_atoms=2))]
    blocks = [x.requires_grad_(True) for x in blocks]
    assert all(float(y.detach().abs().max()) == 0.0 for y in activation(blocks)[1:])

    def function(*inputs):
        return tuple(activation(list(inputs)))

    assert torch.autograd.gradcheck(function, blocks)
    assert torch.autograd.gradgradcheck(function, blocks, atol=1e-6)


def test_soft_norm_is_the_norm_where_vectors_are_long():
    x = 10.0 * blocks_of()[3]
    torch.testing.assert_close(soft_norm(x), x.norm(dim=1, keepdim=True), rtol=1e-3, atol=0)
