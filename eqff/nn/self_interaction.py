"""Self-interaction: an atom's messages and its features are concatenated and mixed."""

from typing import List

import torch
from torch import Tensor, nn

from eqff.nn.linear import BlockLinear
from eqff.o3.irreps import Irreps, occurrences


class SelfInteraction(nn.Module):
    """y = W (x (+) m): channels of an atom's features and of its messages, mixed by one matrix per irrep.

    Args: irreps_own: of x; irreps_message: of m; n_out: output channels of every irrep of m; generator
    Source: Thomas et al., Tensor Field Networks (2018), section 4.1.3; SE(3)-Transformers call it concatenated skip
    """

    places: List[List[int]]  # places of the parts of every input of the matrices in [x, m]

    def __init__(
        self, irreps_own: Irreps, irreps_message: Irreps, n_out: List[int], generator: torch.Generator
    ) -> None:
        super().__init__()
        irreps = irreps_own + irreps_message
        self.places = occurrences(irreps_message, irreps)
        n_in = [sum(irreps[k].n_channels for k in places) for places in self.places]
        self.linear = BlockLinear(n_in, n_out, generator)

    def forward(self, own: List[Tensor], messages: List[Tensor]) -> List[Tensor]:
        """Blocks [n_atoms, 2l+1, n_channels] of x and of m -> [n_atoms, 2l+1, n_out]."""
        blocks = own + messages
        joined: List[Tensor] = []
        for places in self.places:
            parts = [blocks[k] for k in places]
            joined.append(parts[0] if len(parts) == 1 else torch.cat(parts, 2))
        return self.linear(joined)
