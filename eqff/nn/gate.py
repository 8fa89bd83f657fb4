"""Gated non-linearity: scalars are activated, every other channel is multiplied by a separate scalar."""

from typing import List

import torch
from torch import Tensor, nn

from eqff.errors import ConfigError
from eqff.nn.activation import normalized_sigmoid, normalized_silu, normalized_tanh
from eqff.o3.irreps import Block, Irrep, Irreps

EVEN_SCALAR = Irrep(0, 1)
ODD_SCALAR = Irrep(0, -1)


class Gate(nn.Module):
    r"""s -> a(s) for scalars; x -> x * silu(g) for l > 0, one gate g per channel.

    Args:    irreps_out: the output, including even scalars; sigmoid: gates are sigmoids, and odd scalars are
             gated too instead of activated, as in Equiformer
    Attributes:
        irreps_in: the same blocks, the even scalars followed by the gates (in the order of irreps_out)
    Raises:  ConfigError if irreps_out has no even scalars
    Source:  Weiler et al., 3D Steerable CNNs (2018); activations as in NequIP: silu for even, tanh for odd scalars
    """

    def __init__(self, irreps_out: Irreps, sigmoid: bool = False) -> None:
        super().__init__()
        self.irreps_out, self.sigmoid = irreps_out, sigmoid
        free = (EVEN_SCALAR, EVEN_SCALAR if sigmoid else ODD_SCALAR)  # irreps that need no gate
        gates = sum(block.n_channels for block in irreps_out if block.irrep not in free)
        if not any(block.irrep == EVEN_SCALAR for block in irreps_out):
            raise ConfigError(
                "EQ1042", "hidden irreps need even scalars (0e): gates and energies come from them; add e.g. 32x0e"
            )
        self.irreps_in = tuple(
            Block(b.irrep, b.n_channels + (gates if b.irrep == EVEN_SCALAR else 0)) for b in irreps_out
        )
        self.even = [block.irrep for block in irreps_out].index(EVEN_SCALAR)
        self.kinds = [0 if b.irrep == EVEN_SCALAR else 1 if b.irrep in free else 2 for b in irreps_out]
        self.n_scalars = irreps_out[self.even].n_channels
        self.gate_sizes = [self.n_scalars] + [block.n_channels for block in irreps_out if block.irrep not in free]

    def forward(self, blocks: List[Tensor]) -> List[Tensor]:
        """Blocks of irreps_in [n_atoms, 2l+1, n_channels] -> blocks of irreps_out."""
        activated = normalized_silu(blocks[self.even])  # scalars and gates share their activation
        if self.sigmoid:
            opened = normalized_sigmoid(blocks[self.even][:, :, self.n_scalars :])
            activated = torch.cat([activated[:, :, : self.n_scalars], opened], 2)
        gates = activated.split(self.gate_sizes, 2)
        outputs: List[Tensor] = []
        used = 1
        for k, kind in enumerate(self.kinds):
            if kind == 0:
                outputs.append(gates[0])
            elif kind == 1:
                outputs.append(normalized_tanh(blocks[k]))
            else:
                outputs.append(blocks[k] * gates[used])
                used += 1
        return outputs
