"""Soft density: energies from the density of neighbours, as in embedded-atom potentials.  A family in 60 lines.

What eqff asks of it: `SYMMETRY`, `SLOW_PATHS` if it has any, a frozen `Config`, and a `Model` that fills in four
methods of EnergyModel.  Forces, stress, batches, files, units, training and simulation are not its business.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eqff.nn.energy_model import EnergyModel, length_and_direction
from eqff.nn.mlp import ScalarMLP
from eqff.nn.radial import BesselBasis

SYMMETRY = "O(3)"
SLOW_PATHS = ("kernel", "spline", "shared")  # no TensorProductConvolution, which these fast paths are made for


@dataclass(frozen=True, kw_only=True)
class Config:
    species: tuple[str, ...]
    r_max: float = 5.0  # Å
    n_channels: int = 16
    n_bessel: int = 8
    energy_scale: float = 1.0  # eV; training fills in the force RMS
    reference_energies: tuple[float, ...] = ()  # eV; training fills them in
    seed: int = 0


class Edges(NamedTuple):
    radial: Tensor  # [n_edges, n_bessel]


class Density(nn.Module):
    """A hop: h -> (h, sum over neighbours of w(r) h_j)."""

    def __init__(self, config: Config, generator: torch.Generator) -> None:
        super().__init__()
        self.radial = ScalarMLP([config.n_bessel, 32, config.n_channels], True, generator)  # no bias: 0 stays 0

    def forward(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor:
        message = self.radial(edges.radial) * h.index_select(0, senders)  # [n_edges, n_channels]
        return torch.cat([h, torch.zeros_like(h).index_add(0, receivers, message)], 1)


class Model(EnergyModel):
    def __init__(self, config: Config) -> None:
        generator = torch.Generator().manual_seed(config.seed)
        super().__init__(config, config.n_channels, ["density"], SYMMETRY, generator)
        self.basis = BesselBasis(config.r_max, config.n_bessel, 6, trainable=False)  # has a smooth cut-off
        self.density = Density(config, generator)
        self.output = ScalarMLP([2 * config.n_channels, 32, 1], True, generator)

    def geometry(self, edge_vector: Tensor) -> Edges:  # [n_edges, 3] Å, float64
        edge_length, _ = length_and_direction(edge_vector)
        return Edges(self.basis(edge_length).to(self.embedding.dtype))

    def interact_all(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor:
        return self.density(h, species, senders, receivers, edges)

    def features(self, h: Tensor) -> Tensor:
        return h

    def raw_energy(self, x: Tensor) -> Tensor:
        return self.output(x).squeeze(1)  # [n_atoms], in units of energy_scale
