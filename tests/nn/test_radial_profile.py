"""Exponential basis and radial network against closed forms and torch's own layers."""

import math

import pytest
import torch

from eqff.errors import ConfigError
from eqff.nn.radial_profile import ExponentialBasis, RadialProfile


def test_exponential_basis_in_numbers():
    """Written out for r_max = 2 Å and three functions, at r = 1 Å."""
    basis = ExponentialBasis(2.0, 3)
    low = math.exp(-2.0)
    width = 2.0 / 3.0 * (1.0 - low)
    expected = [0.5 * math.exp(-(((math.exp(-2.5) - mean) / width) ** 2)) for mean in (low, (1 + low) / 2, 1.0)]
    found = basis(torch.tensor([[1.0]], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float64), rtol=0, atol=1e-15)


def test_exponential_basis_ends_at_the_cutoff():
    basis = ExponentialBasis(5.0, 32)
    r = torch.tensor([[5.0], [5.0 + 1e-12], [7.0], [100.0]], dtype=torch.float64, requires_grad=True)
    values = basis(r)
    assert torch.equal(values, torch.zeros_like(values))
    (slope,) = torch.autograd.grad(values.sum(), r)
    assert torch.equal(slope, torch.zeros_like(slope))
    inside = torch.tensor([[1.1], [4.999]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(basis, [inside])
    assert torch.autograd.gradgradcheck(basis, [inside])


def test_exponential_basis_is_not_rounded_with_the_weights():
    r = torch.tensor([[1.3]], dtype=torch.float64)
    exact, rounded = ExponentialBasis(5.0, 8), ExponentialBasis(5.0, 8).to(torch.float32)
    assert torch.equal(exact(r), rounded(r))


@pytest.mark.parametrize(("r_max", "n_basis"), [(0.0, 8), (-1.0, 8), (5.0, 1)])
def test_impossible_basis(r_max, n_basis):
    with pytest.raises(ConfigError, match="EQ1077"):
        ExponentialBasis(r_max, n_basis)


@pytest.mark.parametrize("hidden", [[], [6], [6, 5, 4]])
def test_radial_network_is_that_of_torchs_layers(hidden):
    generator = torch.Generator().manual_seed(1)
    profile = RadialProfile([4, *hidden, 7], generator).double()
    for parameter in profile.parameters():
        parameter.data = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    layers = []
    for k, (n_in, n_out) in enumerate(zip([4, *hidden], hidden, strict=False)):
        linear, norm = torch.nn.Linear(n_in, n_out).double(), torch.nn.LayerNorm(n_out).double()
        linear.weight.data, linear.bias.data = profile.weights[k].data.T * profile.scales[k], profile.biases[k].data
        norm.weight.data, norm.bias.data = profile.norm_weights[k].data, profile.norm_biases[k].data
        layers += [linear, norm, torch.nn.SiLU()]
    last = torch.nn.Linear([4, *hidden][-1], 7).double()
    last.weight.data, last.bias.data = profile.weights[-1].data.T * profile.scales[-1], profile.offset.data
    x = torch.randn(5, 4, dtype=torch.float64, generator=generator)
    expected = torch.nn.Sequential(*layers, last)(x)
    torch.testing.assert_close(profile(x), expected, rtol=0, atol=1e-13)
    assert torch.equal(torch.jit.script(profile)(x[:0]), profile(x[:0]))


def test_weights_have_unit_variance_at_the_start():
    profile = RadialProfile([16, 64, 64, 2000], torch.Generator().manual_seed(0)).double()
    values = profile(torch.randn(200, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    assert float(values.detach().std()) == pytest.approx(1.0, rel=0.1)
