"""The scalar network against its equation and e3nn's FullyConnectedNet."""

import pytest
import torch
from e3nn.nn import FullyConnectedNet

from eqff.nn.activation import SILU_MOMENT
from eqff.nn.mlp import ScalarMLP


def network(widths, normalized):
    return ScalarMLP(widths, normalized, torch.Generator().manual_seed(2)).double()


def inputs(width):
    return torch.randn(9, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("widths", [[8, 5], [8, 16, 5], [8, 4, 16, 3]])
def test_normalized_is_e3nns(widths):
    ours, theirs = network(widths, True), FullyConnectedNet(widths, torch.nn.functional.silu).double()
    for layer, weight in zip(theirs, ours.weights, strict=True):
        layer.weight.data = weight.detach().clone()
        if layer.act is not None:
            layer.act.cst = SILU_MOMENT
    torch.testing.assert_close(ours(inputs(8)), theirs(inputs(8)), rtol=0, atol=1e-13)


def test_plain_equation():
    ours, x = network([8, 4, 16, 3], False), inputs(8)
    for k, (weight, fan_in) in enumerate(zip(ours.weights, [8, 4, 16], strict=True)):
        x = x if k == 0 else x * torch.sigmoid(x)
        x = x @ weight * ((1.0 if k == 0 else 2.0) / fan_in) ** 0.5
    torch.testing.assert_close(ours(inputs(8)), x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("normalized", [True, False])
def test_zero_in_zero_out(normalized):
    """What carries the envelope of the radial basis through the network: no bias anywhere."""
    assert torch.equal(network([8, 16, 5], normalized)(torch.zeros(2, 8).double()), torch.zeros(2, 5).double())


def test_initial_weights_have_unit_variance_and_a_seed():
    one, same = network([40, 60, 50], False), network([40, 60, 50], False)
    for weight, other in zip(one.weights, same.weights, strict=True):
        assert torch.equal(weight, other)
        assert float(weight.detach().square().mean()) == pytest.approx(1.0, abs=0.1)
        assert float(weight.detach().abs().max()) <= 3.0**0.5
