"""Activations have unit second moment, and e3nn's constants."""

import numpy as np
import pytest
import torch
from e3nn.math import normalize2mom

from eqff.nn.activation import (
    LEAKY_MOMENT,
    SIGMOID_MOMENT,
    SILU_MOMENT,
    TANH_MOMENT,
    normalized_leaky_relu,
    normalized_sigmoid,
    normalized_silu,
    normalized_tanh,
)


def leaky_relu(x):
    """Equiformer's: slopes 0.2 and 1 far from zero."""
    return 0.6 * x + 0.4 * x * (2 * torch.sigmoid(x) - 1)


CASES = [
    (normalized_silu, torch.nn.functional.silu, SILU_MOMENT),
    (normalized_tanh, torch.tanh, TANH_MOMENT),
    (normalized_sigmoid, torch.sigmoid, SIGMOID_MOMENT),
    (normalized_leaky_relu, leaky_relu, LEAKY_MOMENT),
]


@pytest.mark.parametrize(("activation", "plain", "moment"), CASES)
def test_constants_are_e3nns(activation, plain, moment):
    assert normalize2mom(plain).cst == pytest.approx(moment, rel=1e-7)
    x = torch.linspace(-4, 4, 9, dtype=torch.float64)
    torch.testing.assert_close(activation(x), plain(x) * moment, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize(("activation", "plain", "moment"), CASES)
def test_second_moment_is_one(activation, plain, moment):
    """By Gauss-Hermite quadrature; the constants are Monte-Carlo estimates good to 0.2 %."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    squares = activation(torch.tensor(nodes)).square().numpy()
    assert float(weights @ squares) / np.sqrt(2 * np.pi) == pytest.approx(1.0, abs=4e-3)


def test_tanh_is_odd():
    x = torch.linspace(0, 5, 11, dtype=torch.float64)
    torch.testing.assert_close(normalized_tanh(-x), -normalized_tanh(x), rtol=0, atol=0)
