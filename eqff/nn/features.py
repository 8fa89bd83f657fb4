"""Conversion between the one tensor that engines exchange and the blocks that layers work on."""

from typing import List, Tuple

import torch
from torch import Tensor, nn

from eqff.o3.irreps import Irreps, occurrences


def split_blocks(h: Tensor, shapes: List[Tuple[int, int]]) -> List[Tensor]:
    """h [n_atoms, width] -> blocks [n_atoms, 2l+1, n_channels]; shapes: (2l+1, n_channels) of each."""
    parts = h.split([dim * n_channels for dim, n_channels in shapes], 1)
    return [part.reshape(h.shape[0], dim, n) for part, (dim, n) in zip(parts, shapes)]  # noqa: B905


def join_blocks(blocks: List[Tensor]) -> Tensor:
    """Blocks [n_atoms, 2l+1, n_channels] -> h [n_atoms, width]."""
    if len(blocks) == 1:
        return blocks[0].flatten(1)
    return torch.cat([block.flatten(1) for block in blocks], 1)


class BlockSum(nn.Module):
    """x + y by irrep, where either may lack some of them.

    Args: irreps_x, irreps_y; irreps_out: each of them in irreps_x, irreps_y or both
    """

    places: List[List[int]]  # places of the addends of every output in [x, y]

    def __init__(self, irreps_x: Irreps, irreps_y: Irreps, irreps_out: Irreps) -> None:
        super().__init__()
        self.places = occurrences(irreps_out, irreps_x + irreps_y)

    def forward(self, x: List[Tensor], y: List[Tensor]) -> List[Tensor]:
        """Blocks [n_atoms, 2l+1, n_channels] of irreps_x and irreps_y -> of irreps_out."""
        addends = x + y
        total: List[Tensor] = []
        for places in self.places:
            total.append(addends[places[0]] if len(places) == 1 else addends[places[0]] + addends[places[1]])
        return total
