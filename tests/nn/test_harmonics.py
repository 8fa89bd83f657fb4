"""Spherical harmonics against e3nn, SciPy and closed forms."""

import math

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.special import sph_harm_y

from eqff.nn.harmonics import SphericalHarmonics


def directions(n=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.nn.functional.normalize(torch.randn(n, 3, dtype=torch.float64, generator=generator))
    axes = torch.cat([torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)])
    return torch.cat([points, axes])


@pytest.mark.parametrize("l_max", range(7))
def test_e3nn(l_max):
    expected = o3.spherical_harmonics(list(range(l_max + 1)), directions(), False, "component")
    torch.testing.assert_close(SphericalHarmonics(l_max)(directions()), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("l", range(5))
def test_scipy_with_y_as_polar_axis(l):
    """m > 0 goes with cos(m phi), m < 0 with sin(|m| phi), phi about y from z towards x; no Condon-Shortley sign."""
    x, y, z = directions().numpy().T
    polar, azimuth = np.arccos(np.clip(y, -1, 1)), np.arctan2(x, z)
    expected = []
    for m in range(-l, l + 1):
        value = sph_harm_y(l, abs(m), polar, azimuth) * (-1) ** m * math.sqrt(4 * math.pi)
        expected.append(value.real if m == 0 else math.sqrt(2) * (value.real if m > 0 else value.imag))
    block = SphericalHarmonics(l)(directions())[:, l * l :]
    np.testing.assert_allclose(block.numpy(), np.stack(expected, 1), rtol=0, atol=1e-12)


def test_norm_and_first_degrees():
    unit = directions()
    harmonics = SphericalHarmonics(6)(unit)
    for l in range(7):
        square = harmonics[:, l * l : (l + 1) ** 2].square().sum(1)
        torch.testing.assert_close(square, torch.full_like(square, 2 * l + 1), rtol=1e-12, atol=0)
    torch.testing.assert_close(harmonics[:, 0], torch.ones(len(unit), dtype=torch.float64), rtol=0, atol=0)
    torch.testing.assert_close(harmonics[:, 1:4], math.sqrt(3) * unit, rtol=0, atol=1e-15)


def test_parity():
    signs = torch.cat([torch.full((2 * l + 1,), (-1.0) ** l) for l in range(5)]).double()
    harmonics = SphericalHarmonics(4)
    torch.testing.assert_close(harmonics(-directions()), harmonics(directions()) * signs, rtol=0, atol=0)


def test_smooth_at_the_poles():
    """A polynomial has derivatives everywhere, also along the polar axis where angles have none."""
    axes = directions(1)[-6:].requires_grad_(True)
    assert torch.autograd.gradcheck(SphericalHarmonics(3), [axes])
    assert torch.autograd.gradgradcheck(SphericalHarmonics(3), [axes])


def test_dtype_and_no_edges():
    harmonics = SphericalHarmonics(3).to(torch.float32)
    assert harmonics(directions().float()).dtype == torch.float32
    assert harmonics(torch.zeros(0, 3)).shape == (0, 16)
    torch.testing.assert_close(harmonics(directions()), SphericalHarmonics(3)(directions()), rtol=0, atol=0)
