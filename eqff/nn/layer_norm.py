"""Equivariant layer norm: every irrep is divided by the root mean square of its channels."""

from typing import List

import torch
from torch import Tensor, nn

from eqff.nn.gate import EVEN_SCALAR
from eqff.o3.irreps import Irreps


class EquivariantLayerNorm(nn.Module):
    r"""x -> gamma x / sqrt(mean_(c, m) x^2 + eps), even scalars minus their mean over channels; + beta.

    A block that is zero by symmetry stays zero, with finite derivatives of every order.

    Args: irreps; epsilon
    Source: Liao and Smidt, Equiformer (2023), eq. 6 and 7, with the mean over m in place of the squared norm
    """

    def __init__(self, irreps: Irreps, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.even = [block.irrep == EVEN_SCALAR for block in irreps]
        self.weights = nn.ParameterList([nn.Parameter(torch.ones(block.n_channels)) for block in irreps])
        self.bias = nn.Parameter(torch.zeros(sum(b.n_channels for b in irreps if b.irrep == EVEN_SCALAR)))

    def forward(self, blocks: List[Tensor]) -> List[Tensor]:
        """Blocks [n, 2l+1, n_channels] -> the same shapes."""
        outputs: List[Tensor] = []
        for k, weight in enumerate(self.weights):
            x = blocks[k]
            if self.even[k]:
                x = x - x.mean(2, keepdim=True)
            inverse = (x.square().mean([1, 2], keepdim=True) + self.epsilon).rsqrt()
            x = x * (inverse * weight)
            outputs.append(x + self.bias if self.even[k] else x)
        return outputs
