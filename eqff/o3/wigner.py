"""Wigner matrices of rotations by recursion over the degree: polynomials, exact for every rotation, no angles."""

import math
from typing import List

import torch
from torch import Tensor

from eqff.o3.coupling import wigner_3j


def wigner_recursion(l: int) -> Tensor:
    """C = sqrt(2l+1) w3j(l-1, 1, l) of the recursion of `wigner_matrices`, [3 (2l-1), 2l+1] float64, l >= 2."""
    return wigner_3j(l - 1, 1, l).reshape(-1, 2 * l + 1) * math.sqrt(2 * l + 1)


def wigner_matrices(rotation: Tensor, tables: List[Tensor]) -> List[Tensor]:
    r"""D_0 ... D_l_max with Y_l(R r) = D_l Y_l(r), in the order m = -l ... l and about the polar axis y.

    D_0 = 1,  D_1 = R,  D_l = C^T (D_(l-1) x R) C.  |D_l D_l^T - 1| depends on l and on that of R only.

    Args:    rotation R [n, 3, 3], orthonormal; tables: C of `wigner_recursion` for l = 2 ... l_max
    Returns: l_max + 1 tensors [n, 2l+1, 2l+1]
    """
    matrices = [torch.ones_like(rotation[:, :1, :1]), rotation]
    for k, table in enumerate(tables):
        previous = matrices[k + 1]
        n, dim = previous.shape[0], previous.shape[1]
        product = previous[:, :, None, :, None] * rotation[:, None, :, None, :]  # [n, 2l-1, 3, 2l-1, 3]
        right = torch.mm(product.reshape(n * dim * 3, dim * 3), table).view(n, dim * 3, dim + 2)
        matrices.append(torch.matmul(table.t(), right))
    return matrices


def order_rows(l_max: int, m_max: int) -> list[tuple[int, int]]:
    """(l, m) of the rows an SO(2) layer works on: m = 0 for all l, then +m and -m for l = m ... l_max, by m."""
    rows = [(l, 0) for l in range(l_max + 1)]
    for m in range(1, m_max + 1):
        rows += [(l, sign * m) for sign in (1, -1) for l in range(m, l_max + 1)]
    return rows
