"""Between the one tensor per atom that engines exchange and the blocks layers work on."""

from typing import List, Tuple

import torch
from torch import Tensor


def split_blocks(h: Tensor, shapes: List[Tuple[int, int]]) -> List[Tensor]:
    """h [n_atoms, width] -> blocks [n_atoms, 2l+1, n_channels]; shapes: (2l+1, n_channels) of each."""
    parts = h.split([dim * n_channels for dim, n_channels in shapes], 1)
    return [part.reshape(h.shape[0], dim, n) for part, (dim, n) in zip(parts, shapes)]  # noqa: B905


def join_blocks(blocks: List[Tensor]) -> Tensor:
    """Blocks [n_atoms, 2l+1, n_channels] -> h [n_atoms, width]."""
    if len(blocks) == 1:
        return blocks[0].flatten(1)
    return torch.cat([block.flatten(1) for block in blocks], 1)
