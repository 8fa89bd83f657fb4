"""Linear map between any two lists of irreps, with a bias on even scalars."""

import math
from typing import List, Tuple

import torch
from torch import Tensor, nn

from eqff.nn.gate import EVEN_SCALAR
from eqff.o3.irreps import Irreps


class IrrepsLinear(nn.Module):
    """y = x W / sqrt(n_in) for every irrep of both sides; + b for even scalars; irreps without an input are zero.

    Args:
        irreps_in, irreps_out: each irrep once
        generator: for the weights, drawn from N(0, 1)
        bias: of even scalars, zero at the start
    Attributes: matrices: (input block, output block) of each weight [n_in, n_out]
    """

    matrices: List[Tuple[int, int]]

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, generator: torch.Generator, bias: bool = True) -> None:
        super().__init__()
        self.irreps_out = irreps_out
        place = {block.irrep: k for k, block in enumerate(irreps_out)}
        self.matrices = [(k, place[block.irrep]) for k, block in enumerate(irreps_in) if block.irrep in place]
        shapes = [(irreps_in[k].n_channels, irreps_out[out].n_channels) for k, out in self.matrices]
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(*shape, generator=generator)) for shape in shapes])
        self.scales = [1.0 / math.sqrt(n_in) for n_in, _ in shapes]
        self.shapes = [(block.irrep.dim, block.n_channels) for block in irreps_out]
        self.biased = place[EVEN_SCALAR] if bias else -1
        self.bias = nn.Parameter(torch.zeros(irreps_out[self.biased].n_channels)) if bias else None

    def forward(self, blocks: List[Tensor]) -> List[Tensor]:
        """Blocks of irreps_in [n, 2l+1, n_in] -> blocks of irreps_out [n, 2l+1, n_out]."""
        n = blocks[0].shape[0]
        outputs = [
            torch.zeros([n, dim, n_out], dtype=blocks[0].dtype, device=blocks[0].device) for dim, n_out in self.shapes
        ]
        for k, weight in enumerate(self.weights):
            source, target = self.matrices[k]
            x = blocks[source]
            flat, scaled = x.reshape(-1, x.shape[2]), weight * self.scales[k]
            if target == self.biased and self.bias is not None:
                y = torch.addmm(self.bias, flat, scaled)
            else:
                y = torch.mm(flat, scaled)
            outputs[target] = y.view(n, x.shape[1], weight.shape[1])
        return outputs
