"""Real spherical harmonics of edge directions."""

import math
from typing import List

import torch
from torch import Tensor, nn

from eqff.nn.constant import Constant
from eqff.o3.coupling import harmonics_recursion


class SphericalHarmonics(nn.Module):
    r"""Y_0 ... Y_l_max of unit vectors by Y_l = (Y_(l-1) x Y_1) H_l: polynomial, smooth everywhere, any l.

    |Y_l|^2 = 2l + 1 ("component"); Y_1 = sqrt(3) (x, y, z). Of another vector, of length r, it gives r^l Y_l.
    """

    def __init__(self, l_max: int) -> None:
        super().__init__()
        self.l_max = l_max
        self.recursion = nn.ModuleList([Constant(harmonics_recursion(l)) for l in range(2, l_max + 1)])

    def forward(self, direction: Tensor) -> Tensor:
        """Direction [n_edges, 3] -> [n_edges, (l_max+1)^2]."""
        harmonics: List[Tensor] = [torch.ones_like(direction[:, :1])]
        if self.l_max > 0:
            first = math.sqrt(3.0) * direction
            last = first
            harmonics.append(first)
            for table in self.recursion:
                product = last.unsqueeze(2) * first.unsqueeze(1)  # [n_edges, 2l-1, 3]
                last = torch.mm(product.flatten(1), table().to(direction.dtype))
                harmonics.append(last)
        return torch.cat(harmonics, 1)
