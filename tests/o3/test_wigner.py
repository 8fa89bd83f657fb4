"""Wigner matrices by recursion, against e3nn's harmonics and matrices, and as a representation."""

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.spatial.transform import Rotation

from eqff.o3.wigner import order_rows, wigner_matrices, wigner_recursion

L_MAX = 6
TABLES = [wigner_recursion(l) for l in range(2, L_MAX + 1)]


def rotations(n=20):
    """Random ones, quarter turns, and rotations by hardly anything about every axis."""
    special = [Rotation.from_rotvec(angle * axis) for axis in np.eye(3) for angle in (np.pi / 2, np.pi, 1e-9, 1e-5)]
    every = [*Rotation.random(n, random_state=0), *special]
    return torch.tensor(np.stack([rotation.as_matrix() for rotation in every]))


@pytest.mark.parametrize("l", range(L_MAX + 1))
def test_harmonics_turn_with_them(l):
    """Y_l(R r) = D_l Y_l(r): the definition, e3nn's harmonics."""
    turns = rotations()
    points = torch.nn.functional.normalize(torch.randn(40, 3, generator=torch.Generator().manual_seed(2)).double())
    turned = o3.spherical_harmonics(l, torch.einsum("nij,pj->npi", turns, points), False)
    expected = torch.einsum("nab,pb->npa", wigner_matrices(turns, TABLES)[l], o3.spherical_harmonics(l, points, False))
    torch.testing.assert_close(turned, expected, rtol=0, atol=5e-14)


def test_they_multiply_as_rotations_do_and_are_orthogonal():
    one, other = rotations()[:20], rotations(40)[20:40]
    for l, (a, b, ab) in enumerate(zip(*(wigner_matrices(r, TABLES) for r in (one, other, one @ other)), strict=True)):
        torch.testing.assert_close(a @ b, ab, rtol=0, atol=5e-14)
        identity = torch.eye(2 * l + 1, dtype=torch.float64).expand(len(a), 2 * l + 1, 2 * l + 1)
        torch.testing.assert_close(a @ a.transpose(1, 2), identity, rtol=0, atol=5e-14)


def test_degree_one_is_the_rotation_itself():
    turns = rotations()
    assert torch.equal(wigner_matrices(turns, TABLES)[1], turns)


def test_scripted_and_without_edges():
    scripted = torch.jit.script(wigner_matrices)
    turns = rotations()
    for one, other in zip(scripted(turns, TABLES), wigner_matrices(turns, TABLES), strict=True):
        assert torch.equal(one, other)
    assert [tuple(d.shape) for d in scripted(turns[:0], TABLES[:1])] == [(0, 1, 1), (0, 3, 3), (0, 5, 5)]


@pytest.mark.parametrize(("l_max", "m_max"), [(0, 0), (2, 2), (4, 2), (6, 2), (3, 0)])
def test_rows_are_sorted_by_order_and_complete(l_max, m_max):
    rows = order_rows(l_max, m_max)
    assert len(rows) == sum(min(2 * l + 1, 2 * m_max + 1) for l in range(l_max + 1))
    assert set(rows) == {(l, m) for l in range(l_max + 1) for m in range(-l, l + 1) if abs(m) <= m_max}
    assert rows == sorted(rows, key=lambda row: (abs(row[1]), row[1] < 0, row[0]))
