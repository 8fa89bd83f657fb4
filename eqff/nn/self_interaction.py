"""Self-interaction: what an atom received and what it has are put side by side and mixed."""

from typing import List

import torch
from torch import Tensor, nn

from eqff.nn.linear import BlockLinear
from eqff.o3.irreps import Irreps


class SelfInteraction(nn.Module):
    """y = W (x (+) m): channels of an atom's own features and of its messages, mixed by one matrix per irrep.

    Args: irreps_own: of x; irreps_message: of m; n_out: channels wanted of every irrep of m; generator
    Source: Thomas et al., Tensor Field Networks (2018), section 4.1.3; SE(3)-Transformers call it concatenated skip
    """

    def __init__(
        self, irreps_own: Irreps, irreps_message: Irreps, n_out: List[int], generator: torch.Generator
    ) -> None:
        super().__init__()
        place = {block.irrep: k for k, block in enumerate(irreps_own)}
        self.own = [place.get(block.irrep, -1) for block in irreps_message]  # -1: has no features of this irrep
        n_own = [irreps_own[k].n_channels if k >= 0 else 0 for k in self.own]
        n_in = [block.n_channels + n for block, n in zip(irreps_message, n_own, strict=True)]
        self.linear = BlockLinear(n_in, n_out, generator)

    def forward(self, own: List[Tensor], messages: List[Tensor]) -> List[Tensor]:
        """Blocks [n_atoms, 2l+1, n_channels] of x and of m -> [n_atoms, 2l+1, n_out]."""
        joined: List[Tensor] = []
        for k, place in enumerate(self.own):
            joined.append(torch.cat([own[place], messages[k]], 2) if place >= 0 else messages[k])
        return self.linear(joined)
