"""eSCN as a conservative force field: convolutions in the frames of edges, cost l_max^3 instead of l_max^6.

Passaro and Zitnick, ICML (2023), arXiv:2302.03655.  The published model predicts forces directly, on random frames and
with a grid on the sphere; here an energy is differentiated, with gates, a scalar read-out and an envelope, as in eSEN:
Fu et al., ICML (2025), arXiv:2502.12147.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from eqff.errors import ConfigError
from eqff.nn.degree_layers import DegreeNorm, GatedFeedForward, ScalarLinear, first_row
from eqff.nn.edge_rotation import EdgeRotation
from eqff.nn.energy_model import EnergyModel, layer_names, length_and_direction
from eqff.nn.gaussian import GaussianBasis
from eqff.nn.hyperparameters import check_fields
from eqff.nn.radial import BesselBasis, polynomial_envelope
from eqff.nn.radial_profile import RadialProfile
from eqff.nn.so2 import SO2Gate, SO2Linear, join_orders, split_orders

SYMMETRY = "O(3)"
SLOW_PATHS = ("kernel", "spline", "shared")  # no TensorProductConvolution: it rotates edges


@dataclass(frozen=True, kw_only=True)
class Config:
    """Hyper-parameters (paper symbols in brackets) and the numbers taken from the training data."""

    species: tuple[str, ...]
    r_max: float = 5.0  # cut-off radius, Å
    l_max: int = 2  # highest degree of features [L]
    m_max: int = 2  # highest order kept in the frames of edges [M]
    symmetry: Literal["O(3)", "SE(3)"] = "O(3)"  # SE(3): with the imaginary weights, as published
    n_channels: int = 32  # of every degree, between layers [C]
    n_hidden: int = 32  # of every degree, inside layers [H]
    n_layers: int = 3
    radial_basis: Literal["bessel", "gaussian"] = "bessel"
    n_basis: int = 8  # radial basis functions
    bessel_trainable: bool = False
    gaussian_width: float = 2.0  # in units of the spacing
    radial_hidden: tuple[int, ...] = (32, 32)  # hidden widths of the radial networks
    readout_hidden: tuple[int, ...] = (32, 32)  # hidden widths of the read-out
    envelope_power: int = 5  # [p]
    avg_num_neighbors: float = 10.0  # mean degree: normalises the degree embedding and the first messages
    energy_scale: float | tuple[float, ...] = 1.0  # eV, e.g. the force RMS in eV/Å; or one per species
    reference_energies: tuple[float, ...] = ()  # eV per species; () is 0
    seed: int = 0  # of the initial weights


def check(config: Config) -> None:
    """Raises: ConfigError for hyper-parameters that do not make a model."""
    check_fields(config, ("l_max", "n_channels", "n_hidden", "n_layers", "radial_hidden", "readout_hidden"))
    if not 0 <= config.m_max <= config.l_max:
        raise ConfigError(
            "EQ1085", f"m_max={config.m_max}: expected 0 to l_max={config.l_max}; 0 is cheapest, l_max is exact"
        )
    if not config.radial_hidden or not config.readout_hidden:
        raise ConfigError("EQ1086", "radial_hidden and readout_hidden need at least one width each; give e.g. 64")


class Edges(NamedTuple):
    """What hops need about edges."""

    turn: Tensor  # into the frames of edges [n_edges, n_rows, (l_max+1)^2]
    turn_back: Tensor  # the same times the envelope
    radial: Tensor  # radial basis [n_edges, n_basis]


def radial_network(config: Config, n_out: int, generator: torch.Generator) -> RadialProfile:
    """Weights of an edge from its length and the species at both ends."""
    n_in = config.n_basis + 2 * len(config.species)
    return RadialProfile([n_in, *config.radial_hidden, n_out], generator)


def edge_scalars(species: Tensor, n_species: int, senders: Tensor, receivers: Tensor, edge_radial: Tensor) -> Tensor:
    """Input of the radial networks: radial basis, and the species of sender and receiver as one-hot vectors.

    Returns: [n_edges, n_basis + 2 n_species]
    """
    every = torch.arange(n_species, device=species.device)
    sender = (species.index_select(0, senders).unsqueeze(1) == every).to(edge_radial.dtype)
    receiver = (species.index_select(0, receivers).unsqueeze(1) == every).to(edge_radial.dtype)
    return torch.cat([edge_radial, sender, receiver], 1)


class DegreeEmbedding(nn.Module):
    """Scalars + sum over neighbours of w(r) turned back from the edge's frame: an atom's surroundings."""

    def __init__(self, config: Config, generator: torch.Generator) -> None:
        super().__init__()
        self.n_species = len(config.species)
        self.n_degrees, self.n_channels = config.l_max + 1, config.n_channels
        self.n_rows = self.n_degrees**2
        self.radial = radial_network(config, self.n_degrees * config.n_channels, generator)
        self.scale = 1.0 / config.avg_num_neighbors

    def forward(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor:
        """Scalars h [n_atoms, n_channels] -> [n_atoms, (l_max+1)^2 * n_channels]."""
        weights = self.radial(edge_scalars(species, self.n_species, senders, receivers, edges.radial))
        message = weights.view(-1, self.n_degrees, self.n_channels)  # rows of m = 0 only
        message = torch.bmm(edges.turn_back[:, : self.n_degrees].transpose(1, 2), message * self.scale)
        return first_row(h.unsqueeze(1), self.n_rows).index_add(0, receivers, message).flatten(1)


class Interaction(nn.Module):
    """h + sum of (turn to edges -> SO(2) linear -> gate -> SO(2) linear -> turn back) of norm(h); + feed-forward."""

    def __init__(self, config: Config, generator: torch.Generator) -> None:
        super().__init__()
        self.n_species = len(config.species)
        self.l_max, self.m_max = config.l_max, config.m_max
        self.n_channels, self.n_rows = config.n_channels, (config.l_max + 1) ** 2
        sizes = (config.l_max, config.m_max)
        reflections = config.symmetry == "O(3)"
        self.widths = [(config.l_max + 1 - m) * 2 * config.n_channels for m in range(config.m_max + 1)]
        self.norm_edges = DegreeNorm(config.l_max, config.n_channels)
        self.radial = radial_network(config, sum(self.widths), generator)
        self.gate = SO2Gate(config.n_hidden, config.l_max)
        n_gates = self.gate.n_gates
        self.linear_in = SO2Linear(2 * config.n_channels, config.n_hidden, *sizes, n_gates, reflections, generator)
        self.linear_out = SO2Linear(config.n_hidden, config.n_channels, *sizes, 0, reflections, generator)
        with torch.no_grad():  # sums over neighbours start with the variance of the features they are added to
            for weight in self.linear_out.weights:
                weight /= math.sqrt(config.avg_num_neighbors)
        self.norm_atoms = DegreeNorm(config.l_max, config.n_channels)
        self.feed_forward = GatedFeedForward(config.l_max, config.n_channels, config.n_hidden, generator)

    def forward(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor:
        """h_k [n_atoms, (l_max+1)^2 * n_channels] -> h_(k+1)."""
        h = h.view(-1, self.n_rows, self.n_channels)
        x = self.norm_edges(h)
        pair = torch.cat([x.index_select(0, senders), x.index_select(0, receivers)], 2)
        blocks = split_orders(torch.bmm(edges.turn, pair), self.l_max, self.m_max)  # in the frame of every edge
        scalars = edge_scalars(species, self.n_species, senders, receivers, edges.radial)
        weights = self.radial(scalars).split(self.widths, 1)
        scaled = [blocks[0] * weights[0]]
        for m in range(1, self.m_max + 1):
            scaled.append(blocks[m] * weights[m].unsqueeze(1))
        blocks = self.linear_out(self.gate(self.linear_in(scaled)))
        message = torch.bmm(edges.turn_back.transpose(1, 2), join_orders(blocks, self.n_channels))
        h = h.index_add(0, receivers, message)  # [n_atoms, (l_max+1)^2, n_channels]
        return (h + self.feed_forward(self.norm_atoms(h))).flatten(1)


class Model(EnergyModel):
    """Per-atom energies of eSCN: the degree embedding is hop 0, then every layer is a hop.

    Args: config
    Attributes: as EnergyModel
    """

    def __init__(self, config: Config) -> None:
        check(config)
        generator = torch.Generator().manual_seed(config.seed)
        hops = ["degree", *layer_names(config.n_layers)]
        super().__init__(config, config.n_channels, hops, config.symmetry, generator)
        self.envelope_power = config.envelope_power
        self.n_channels, self.n_rows = config.n_channels, (config.l_max + 1) ** 2
        self.rotation = EdgeRotation(config.l_max, config.m_max)
        self.basis: nn.Module
        if config.radial_basis == "bessel":
            self.basis = BesselBasis(config.r_max, config.n_basis, config.envelope_power, config.bessel_trainable)
        else:
            self.basis = GaussianBasis(config.r_max, config.n_basis, config.gaussian_width)
        self.degree = DegreeEmbedding(config, generator)
        self.layers = nn.ModuleList([Interaction(config, generator) for _ in range(config.n_layers)])
        self.norm = DegreeNorm(config.l_max, config.n_channels)
        widths = [config.n_channels, *config.readout_hidden]
        self.readout_layers = nn.ModuleList([ScalarLinear(n_in, n_out, generator) for n_in, n_out in pairwise(widths)])
        self.output = ScalarLinear(widths[-1], 1, generator)

    def geometry(self, edge_vector: Tensor) -> Edges:
        """Edge_vector [n_edges, 3] Å, float64 -> Edges in the dtype of the weights."""
        edge_length, direction = length_and_direction(edge_vector)
        turn = self.rotation(direction)  # [n_edges, n_rows, (l_max+1)^2]
        envelope = polynomial_envelope(edge_length / self.r_max, self.envelope_power)
        turn_back = turn * envelope.unsqueeze(2)
        dtype = self.embedding.dtype
        return Edges(turn.to(dtype), turn_back.to(dtype), self.basis(edge_length).to(dtype))

    def interact_all(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor:
        """The degree embedding, then all layers, one after the other."""
        h = self.degree(h, species, senders, receivers, edges)
        for layer in self.layers:
            h = layer(h, species, senders, receivers, edges)
        return h

    def features(self, h: Tensor) -> Tensor:
        """Invariant features [n_atoms, n_features]: input of the last read-out layer."""
        x = self.norm(h.view(-1, self.n_rows, self.n_channels))[:, 0]
        for layer in self.readout_layers:
            x = torch.nn.functional.silu(layer(x))
        return x

    def raw_energy(self, x: Tensor) -> Tensor:
        """Features [n_atoms, n_features] -> [n_atoms], in units of energy_scale."""
        return self.output(x).squeeze(1)
