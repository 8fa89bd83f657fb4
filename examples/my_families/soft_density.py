"""Soft density: energies from the density of neighbours, as in embedded-atom potentials.  A family in 60 lines.

What eqff asks of it: a frozen `Config`, a `Model` with the six methods below, `SYMMETRY`, `n_hops`, `r_max`.
Forces, stress, batches, files, units, training and simulation are not its business.
"""

from dataclasses import dataclass
from typing import List

import torch
from torch import Tensor, nn

from eqff.nn.mlp import ScalarMLP
from eqff.nn.radial import BesselBasis
from eqff.nn.readout import SpeciesScaleShift

SYMMETRY = "O(3)"


@dataclass(frozen=True, kw_only=True)
class Config:
    species: tuple[str, ...]
    r_max: float = 5.0  # Å
    n_channels: int = 16
    n_bessel: int = 8
    energy_scale: float = 1.0  # eV; training fills in the force RMS
    reference_energies: tuple[float, ...] = ()  # eV; training fills them in
    seed: int = 0


class Model(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        generator, n = torch.Generator().manual_seed(config.seed), len(config.species)
        self.r_max, self.n_hops, self.symmetry = config.r_max, 1, SYMMETRY  # n_hops: sums over neighbours in a row
        self.basis = BesselBasis(config.r_max, config.n_bessel, 6, trainable=False)  # has a smooth cut-off
        self.embedding = nn.Parameter(torch.randn(n, config.n_channels, generator=generator))
        self.radial = ScalarMLP([config.n_bessel, 32, config.n_channels], True, generator)  # no bias: 0 stays 0
        self.output = ScalarMLP([2 * config.n_channels, 32, 1], True, generator)
        references = config.reference_energies or (0.0,) * n
        self.scale_shift = SpeciesScaleShift((config.energy_scale,) * n, references)

    def geometry(self, edge_vector: Tensor) -> List[Tensor]:  # [n_edges, 3] Å, float64
        return [self.basis(edge_vector.square().sum(1, keepdim=True).sqrt()).to(self.embedding.dtype)]

    def embed(self, species: Tensor, senders: Tensor, receivers: Tensor, geometry: List[Tensor]) -> Tensor:
        return self.embedding.index_select(0, species)  # [n_atoms, n_channels]

    def interact(self, k: int, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor,
                 geometry: List[Tensor]) -> Tensor:  # fmt: skip
        message = self.radial(geometry[0]) * h.index_select(0, senders)  # [n_edges, n_channels]
        return torch.cat([h, torch.zeros_like(h).index_add(0, receivers, message)], 1)

    def features(self, h: Tensor) -> Tensor:
        return h

    def readout(self, h: Tensor, species: Tensor) -> Tensor:
        return self.scale_shift(self.output(self.features(h)).squeeze(1), species)  # [n_atoms] eV, float64

    def forward(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        geometry = self.geometry(edge_vector)
        h = self.embed(species, senders, receivers, geometry)
        return self.readout(self.interact(0, h, species, senders, receivers, geometry), species)
