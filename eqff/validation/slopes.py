"""Finite differences."""

from collections.abc import Callable

import torch
from torch import Tensor

STENCIL = ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0))  # fourth-order central difference, over 12 steps


def slope(function: Callable[[float], Tensor], step: float) -> Tensor:
    """Derivative of function(n) at n = 0 from central differences of width `step`."""
    total = sum(weight * function(n * step) for n, weight in STENCIL)
    return torch.as_tensor(total) / (12 * step)
