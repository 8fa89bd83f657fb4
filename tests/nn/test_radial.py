"""Envelope and Bessel functions against closed forms, and their contact with zero at the cut-off."""

import numpy as np
import pytest
import torch

from eqff.errors import ConfigError
from eqff.nn.radial import BesselBasis, polynomial_envelope, xplor_envelope

R_MAX = 4.5


def derivatives(function, x, order):
    x = x.clone().requires_grad_(True)
    values = [function(x)]
    for _ in range(order):
        values.append(torch.autograd.grad(values[-1].sum(), x, create_graph=True)[0])
    return [value.detach() for value in values]


@pytest.mark.parametrize("p", [3, 4, 6, 9])
def test_envelope_touches_zero_to_second_order(p):
    edge = torch.tensor([1.0 - 1e-9], dtype=torch.float64)
    value, slope, curvature, third = derivatives(lambda x: polynomial_envelope(x, p), edge, 3)
    assert abs(float(value)) < 1e-12
    assert abs(float(slope)) < 1e-12
    assert abs(float(curvature)) < 1e-5
    assert float(third) == pytest.approx(-p * (p + 1) * (p + 2), rel=1e-5)  # the first that does not vanish
    assert float(polynomial_envelope(torch.zeros(1, dtype=torch.float64), p)) == 1.0


@pytest.mark.parametrize("p", [3, 6])
def test_envelope_is_exactly_zero_outside(p):
    outside = torch.tensor([1.0, np.nextafter(1.0, 2.0), 1.5, 100.0], dtype=torch.float64)
    for value in derivatives(lambda x: polynomial_envelope(x, p), outside, 2):
        assert torch.equal(value, torch.zeros_like(value))


def test_xplor_is_one_then_falls_with_a_continuous_slope():
    """Against the cubic in r^2 with value 1 and slope 0 at r_on, value and slope 0 at r_max."""
    on = 4.0 / R_MAX
    r = torch.tensor([0.0, 2.0, 4.0, 4.2, 4.4], dtype=torch.float64)
    t = ((r**2 - 16.0) / (R_MAX**2 - 16.0)).clamp(min=0.0)
    value, slope = derivatives(lambda x: xplor_envelope(x, on), r / R_MAX, 1)
    np.testing.assert_allclose(value, 1 - 3 * t**2 + 2 * t**3, atol=1e-14)
    np.testing.assert_allclose(slope[:3], 0.0, atol=1e-12)
    outside = torch.tensor([1.0, np.nextafter(1.0, 2.0), 100.0], dtype=torch.float64)
    for result in derivatives(lambda x: xplor_envelope(x, on), outside, 2):
        assert torch.equal(result, torch.zeros_like(result))


def test_envelope_falls_monotonically():
    value, slope = derivatives(lambda x: polynomial_envelope(x, 6), torch.linspace(0.01, 0.99, 99).double(), 1)
    assert (slope < 0).all()
    assert ((value > 0) & (value <= 1)).all()


def closed_form(r, n_bessel, p):
    """(2 / r_max) sin(n pi r / r_max) / r times the envelope, in plain numpy."""
    x, n = r / R_MAX, np.arange(1, n_bessel + 1)
    envelope = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    return 2 / R_MAX * np.sin(n * np.pi * x) / r * envelope * (x < 1)


@pytest.mark.parametrize(("n_bessel", "p"), [(1, 3), (8, 6), (16, 5)])
def test_basis_closed_form(n_bessel, p):
    r = np.linspace(0.05, 1.3 * R_MAX, 200)[:, None]
    basis = BesselBasis(R_MAX, n_bessel, p, trainable=False)(torch.tensor(r))
    np.testing.assert_allclose(basis.numpy(), closed_form(r, n_bessel, p), rtol=0, atol=1e-13)


def test_basis_at_the_cutoff():
    basis = BesselBasis(R_MAX, 8, 6, trainable=False)
    inside = torch.tensor([[R_MAX * (1 - 1e-9)]], dtype=torch.float64)
    for value, bound in zip(derivatives(basis, inside, 2), (1e-14, 1e-14, 1e-6), strict=True):
        assert float(value.abs().max()) < bound
    outside = torch.tensor([[R_MAX], [R_MAX + 0.5], [50.0]], dtype=torch.float64)
    for value in derivatives(basis, outside, 2):
        assert torch.equal(value, torch.zeros_like(value))


def test_basis_is_finite_at_tiny_distances():
    value, slope = derivatives(BesselBasis(R_MAX, 8, 6, False), torch.full((1, 1), 1e-12, dtype=torch.float64), 1)
    limit = 2 * np.pi / R_MAX**2 * np.arange(1, 9)  # of (2 / r_max) sin(n pi r / r_max) / r
    np.testing.assert_allclose(value.numpy()[0], limit, rtol=1e-12)
    assert torch.isfinite(slope).all()


def test_basis_stays_float64_when_weights_are_not():
    r = torch.linspace(0.5, R_MAX - 1e-3, 50, dtype=torch.float64)[:, None]
    basis = BesselBasis(R_MAX, 8, 6, trainable=True)
    expected = basis(r)
    assert torch.equal(basis.to(torch.float32)(r), expected)
    assert expected.dtype == torch.float64


@pytest.mark.parametrize("trainable", [True, False])
def test_frequencies_are_trained_on_request(trainable):
    basis = BesselBasis(R_MAX, 8, 6, trainable)
    assert [parameter.requires_grad for parameter in basis.parameters()] == [trainable]


@pytest.mark.parametrize("arguments", [(0.0, 8, 6), (-1.0, 8, 6), (4.0, 0, 6), (4.0, 8, 2)])
def test_impossible_arguments(arguments):
    with pytest.raises(ConfigError, match="EQ1041"):
        BesselBasis(*arguments, trainable=False)
