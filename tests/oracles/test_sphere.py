"""Grids and points on the sphere: quadrature, band limits, and how far they are from being equivariant."""

import math

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.spatial.transform import Rotation

from eqff.o3.wigner import wigner_matrices, wigner_recursion

from .sphere import GridMixing, SphereGrid, SphereReadout, latitude_weights


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def wigner(l_max, seed=0):
    turn = torch.tensor(Rotation.random(random_state=seed).as_matrix())[None]
    return torch.block_diag(*[d[0] for d in wigner_matrices(turn, [wigner_recursion(l) for l in range(2, l_max + 1)])])


@pytest.mark.parametrize("n", [2, 6, 14])
def test_latitudes_integrate_polynomials(n):
    height = np.cos((np.arange(n) + 0.5) * np.pi / n)
    for power in range(n):
        expected = (1 + (-1) ** power) / (power + 1)
        assert float(latitude_weights(n) @ torch.tensor(height**power)) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize(("l_max", "m_max", "resolution"), [(2, 2, None), (4, 4, None), (4, 4, 18), (3, 3, 10)])
def test_values_are_those_of_the_function_and_lead_back_to_it(l_max, m_max, resolution):
    grid, x = SphereGrid(l_max, m_max, resolution), random(2, (l_max + 1) ** 2, 3)
    values = grid.values(x)
    assert values.shape[1] == math.prod(grid.shape)
    polar = (torch.arange(grid.shape[0]).double() + 0.5) * math.pi / grid.shape[0]
    azimuth = torch.arange(grid.shape[1]).double() * 2 * math.pi / grid.shape[1]
    points = o3.angles_to_xyz(azimuth[None, :].expand(grid.shape), polar[:, None].expand(grid.shape)).reshape(-1, 3)
    harmonics = o3.spherical_harmonics(list(range(l_max + 1)), points, False, "integral")
    torch.testing.assert_close(values, harmonics @ x, rtol=0, atol=1e-13)
    torch.testing.assert_close(grid.coefficients(values), x, rtol=0, atol=1e-13)


def test_truncated_orders_leave_out_columns():
    whole, cut = SphereGrid(4, 4, 12), SphereGrid(4, 2, 12)
    assert torch.equal(cut.to_grid(), whole.to_grid()[:, cut.order])
    x = random(1, 19, 2)
    torch.testing.assert_close(cut.coefficients(cut.values(x)), x, rtol=0, atol=1e-13)


def test_a_finer_grid_is_closer_to_equivariance():
    """Silu of a rotated function against the rotated silu: what makes this no default."""
    x, matrix = 0.5 * random(1, 16, 4), wigner(3)

    def error(resolution):
        grid = SphereGrid(3, 3, resolution)
        return float((grid(matrix @ x) - matrix @ grid(x)).abs().max())

    assert error(8) > 1e-6 > error(40)


def filled(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.to(torch.float64).parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, dtype=torch.float64, generator=generator))
    return module


def test_mixing_sees_each_point_alone():
    """With a first map of zeros for the message, the message does not matter; linear maps act on every degree alike."""
    mixing = filled(GridMixing(4, SphereGrid(2, 2)))
    x, message = random(2, 9, 4), random(2, 9, 4, seed=1)
    assert float((mixing(x, message) - mixing(x, 2 * message)).detach().abs().max()) > 1e-3
    with torch.no_grad():
        mixing.first.weight[:, 4:] = 0.0
    assert torch.equal(mixing(x, message), mixing(x, 2 * message))


def test_readout_of_scalars_is_one_network_for_all_points():
    readout = filled(SphereReadout(4, 50, 2, factor=0.5))
    points = torch.nn.functional.normalize(random(50, 3), dim=1)
    readout.points.copy_(points)
    readout.harmonics.copy_(o3.spherical_harmonics([0, 1, 2], points, False, "integral"))
    x = random(3, 9, 4) * torch.tensor([1.0] + [0.0] * 8).double()[:, None]
    energy, forces = readout(x)
    expected = 0.5 * readout.energy(x[:, 0] / math.sqrt(4 * math.pi)).squeeze(1)
    torch.testing.assert_close(energy, expected, rtol=0, atol=1e-14)
    strength = readout.forces(x[:, 0] / math.sqrt(4 * math.pi))
    torch.testing.assert_close(forces, strength * points.mean(0), rtol=0, atol=1e-14)
