"""Clebsch-Gordan coefficients as plain tensors.  The only module that uses e3nn, and only at construction."""

import math
import warnings

import torch
from torch import Tensor

from eqff.o3.irreps import Irreps, Path

with warnings.catch_warnings():  # at import, e3nn reads its constants with torch.jit, which is deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    from e3nn import o3


def wigner_3j(l1: int, l2: int, l3: int) -> Tensor:
    """Real coupling coefficients [2l1+1, 2l2+1, 2l3+1], float64, sum of squares 1, m = -l ... l, polar axis y."""
    return o3.wigner_3j(l1, l2, l3, dtype=torch.float64)


def coupling_matrix(irreps_in: Irreps, paths: list[Path], l_max: int) -> Tensor:
    r"""Matrix that turns edge harmonics into the linear map every edge applies to its sender's features.

    T[edge, row, m1] = sum_m2 Y[edge, m2] C[m2, row, m1],  row = (m3, path),  C = sqrt(2 l3 + 1) w3j(l1, l2, l3)

    The factor makes components of the output unit-variance when those of input and harmonics are ("component").

    Args:    paths with one input block and one output irrep; l_max of the harmonics
    Returns: [(l_max+1)^2, (2 l3 + 1) * n_paths * (2 l1 + 1)] float64, columns (m3, path, m1)
    """
    tables = []
    for path in paths:
        l1, l2, l3 = irreps_in[path.block].irrep.l, path.l_edge, path.irrep_out.l
        table = torch.zeros((l_max + 1) ** 2, 2 * l3 + 1, 2 * l1 + 1, dtype=torch.float64)
        table[l2 * l2 : (l2 + 1) ** 2] = wigner_3j(l1, l2, l3).permute(1, 2, 0) * math.sqrt(2 * l3 + 1)
        tables.append(table)
    return torch.stack(tables, 2).flatten(1)


def harmonics_recursion(l: int) -> Tensor:
    """H with Y_l = (Y_(l-1) x Y_1) H for unit vectors, component normalisation; [3 (2l-1), 2l+1] float64, l >= 2."""
    direction = torch.nn.functional.normalize(torch.tensor([[0.3, -0.7, 0.5]], dtype=torch.float64))
    lower, first, target = (o3.spherical_harmonics(degree, direction, False, "component") for degree in (l - 1, 1, l))
    table = wigner_3j(l - 1, 1, l).reshape(-1, 2 * l + 1)
    product = (lower.unsqueeze(2) * first.unsqueeze(1)).flatten(1) @ table
    return table * (target * product).sum() / (product * product).sum()
