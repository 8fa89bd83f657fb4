"""Coupling coefficients commute with rotations, and the recursion gives spherical harmonics."""

import math

import pytest
import torch
from e3nn import o3

from eqff.o3.coupling import coupling_matrix, harmonics_recursion, wigner_3j
from eqff.o3.irreps import parse, spherical_harmonics_irreps, tensor_product_paths

TRIPLES = [(a, b, c) for a in range(4) for b in range(4) for c in range(abs(a - b), min(a + b, 4) + 1)]


def rotation(seed):
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))
    q = q * r.diagonal().sign()
    return q * torch.linalg.det(q).sign()


def wigner_d(l, rotated_by):
    """D with Y_l(R x) = D Y_l(x), by least squares over many directions: closer to the truth than angles."""
    generator = torch.Generator().manual_seed(l)
    points = torch.nn.functional.normalize(torch.randn(60, 3, dtype=torch.float64, generator=generator))
    before = o3.spherical_harmonics(l, points, False, "component")
    after = o3.spherical_harmonics(l, points @ rotated_by.T, False, "component")
    return torch.linalg.lstsq(before, after).solution.T


@pytest.mark.parametrize("triple", TRIPLES)
def test_coefficients_commute_with_rotations(triple):
    coefficients = wigner_3j(*triple)
    d1, d2, d3 = (wigner_d(l, rotation(7)) for l in triple)
    rotated = torch.einsum("ai,bj,ck,ijk->abc", d1, d2, d3, coefficients)
    torch.testing.assert_close(rotated, coefficients, rtol=0, atol=1e-12)
    assert float(coefficients.square().sum()) == pytest.approx(1.0, abs=1e-12)
    assert coefficients.dtype == torch.float64


def test_vectors_couple_to_dot_and_cross_product():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    dot = torch.einsum("i,j,ijk->k", a, b, wigner_3j(1, 1, 0)) * math.sqrt(3)
    cross = torch.einsum("i,j,ijk->k", a, b, wigner_3j(1, 1, 1)) * math.sqrt(6)
    torch.testing.assert_close(dot.abs(), torch.dot(a, b).abs().reshape(1))
    torch.testing.assert_close(cross.abs(), torch.linalg.cross(a, b).abs())


@pytest.mark.parametrize("l", range(2, 8))
def test_recursion_is_a_spherical_harmonic(l):
    generator = torch.Generator().manual_seed(l)
    points = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64, generator=generator))
    lower, first, expected = (o3.spherical_harmonics(k, points, False, "component") for k in (l - 1, 1, l))
    product = (lower.unsqueeze(2) * first.unsqueeze(1)).flatten(1)
    torch.testing.assert_close(product @ harmonics_recursion(l), expected, rtol=0, atol=1e-11)


def test_coupling_matrix_row_by_row():
    """Columns are (m3, path, m1) of sqrt(2 l3 + 1) w3j, rows the harmonics of the path's own degree only."""
    inputs = parse("2x1o")
    target = parse("1x1o")[0].irrep
    paths = tensor_product_paths(inputs, spherical_harmonics_irreps(2), [target])  # edges 0e and 2e
    matrix = coupling_matrix(inputs, paths, 2).reshape(9, 3, 2, 3)
    assert [path.l_edge for path in paths] == [0, 2]
    expected = torch.zeros(9, 3, 2, 3, dtype=torch.float64)
    expected[0:1, :, 0] = math.sqrt(3) * o3.wigner_3j(1, 0, 1, dtype=torch.float64).permute(1, 2, 0)
    expected[4:9, :, 1] = math.sqrt(3) * o3.wigner_3j(1, 2, 1, dtype=torch.float64).permute(1, 2, 0)
    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-15)
