"""From scalar features to per-atom energies in eV."""

from typing import Sequence

import torch
from torch import Tensor, nn

from eqff.nn.constant import Constant


class SpeciesScaleShift(nn.Module):
    """e_i = scale[species_i] x_i + shift[species_i], in float64 whatever the weights are.

    Args: scale [n_species] eV; shift [n_species] eV, the reference energies
    """

    def __init__(self, scale: Sequence[float], shift: Sequence[float]) -> None:
        super().__init__()
        self.scale = Constant(torch.tensor(scale, dtype=torch.float64))
        self.shift = Constant(torch.tensor(shift, dtype=torch.float64))

    def forward(self, x: Tensor, species: Tensor) -> Tensor:
        """Scalars [n_atoms] -> energies [n_atoms] eV, float64."""
        scale = self.scale().index_select(0, species)
        return scale * x.to(torch.float64) + self.shift().index_select(0, species)
