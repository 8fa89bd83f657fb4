"""Tensor Field Network as an energy model.  Thomas et al., arXiv:1802.08219 (2018).

The paper leaves open what an energy needs: a cut-off with a smooth envelope, a Bessel basis, norms that are smooth at
zero, and the sum over atoms of a network on scalars.
"""

from dataclasses import dataclass
from typing import List, Literal, NamedTuple

import torch
from torch import Tensor, nn

from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.energy_model import EnergyModel, layer_names, length_and_direction
from eqff.nn.features import join_blocks, split_blocks
from eqff.nn.gate import EVEN_SCALAR
from eqff.nn.harmonics import SphericalHarmonics
from eqff.nn.hyperparameters import check_counts, check_fields, feature_irreps
from eqff.nn.mlp import ScalarMLP
from eqff.nn.norm_activation import nonlinearity
from eqff.nn.radial import BesselBasis
from eqff.nn.self_interaction import SelfInteraction
from eqff.o3.irreps import Block, Irreps, only, reachable, spherical_harmonics_irreps

SYMMETRY = "O(3)"
SLOW_PATHS = ("shared",)  # one filter serves several paths: RadialFilters


@dataclass(frozen=True, kw_only=True)
class Config:
    """Hyper-parameters (paper symbols in brackets) and the numbers taken from the training data."""

    species: tuple[str, ...]
    r_max: float = 5.0  # cut-off radius, Å
    l_max: int = 2  # highest degree of features [l_i, l_o] and filters [l_f]
    parity: Literal["natural", "both", "none"] = "natural"  # (-1)^l; both for every l; none: SE(3) only
    n_channels: int | tuple[int, ...] = 32  # of every irrep [c], or one number per degree
    n_layers: int = 3
    nonlinearity: Literal["norm", "gate"] = "norm"  # norm as published
    n_bessel: int = 8  # radial basis functions
    envelope_power: int = 6
    radial_hidden: tuple[int, ...] = (64,)  # hidden widths of the radial functions [R]
    readout_hidden: tuple[int, ...] = (32,)  # hidden widths of the read-out
    avg_num_neighbors: float = 10.0  # mean degree; sums over neighbours are divided by its root
    energy_scale: float | tuple[float, ...] = 1.0  # eV, e.g. the force RMS in eV/Å; or one per species
    reference_energies: tuple[float, ...] = ()  # eV per species; () is 0
    seed: int = 0  # of the initial weights


def check(config: Config) -> None:
    """Raises: ConfigError for hyper-parameters that do not make a model."""
    check_fields(config, ("n_layers", "n_channels", "radial_hidden", "readout_hidden"))
    check_counts({"l_max": config.l_max}, at_least=0)


class Edges(NamedTuple):
    """What layers need about edges."""

    sh: Tensor  # harmonics [n_edges, (l_max+1)^2]
    radial: Tensor  # radial basis [n_edges, n_bessel]


class RadialFilters(nn.Module):
    """R_c^(l_f, l_i)(r): one learned function per filter degree, input irrep and channel, shared by all outputs.

    Args: widths: n_bessel, hidden widths; convolution: takes them as weights; generator
    """

    columns: Tensor

    def __init__(self, widths: List[int], convolution: TensorProductConvolution, generator: torch.Generator) -> None:
        super().__init__()
        channels = convolution.channels
        first, n_filters = {}, 0  # first column of the filters of (input block, l_f)
        for block, l_f in sorted({(path.block, path.l_edge) for path in convolution.paths}):
            first[block, l_f] = n_filters
            n_filters += channels[block]
        columns = [first[path.block, path.l_edge] + torch.arange(channels[path.block]) for path in convolution.paths]
        self.network = ScalarMLP([*widths, n_filters], True, generator)
        self.register_buffer("columns", torch.cat(columns))

    def forward(self, edge_radial: Tensor) -> Tensor:
        """[n_edges, n_bessel] -> [n_edges, n_paths * n_channels]."""
        return self.network(edge_radial).index_select(1, self.columns)


class Layer(nn.Module):
    """filter x neighbour, summed -> concatenation of paths and own features -> self-interaction -> non-linearity."""

    def __init__(self, config: Config, irreps_in: Irreps, targets: Irreps, generator: torch.Generator) -> None:
        super().__init__()
        irreps_edge = spherical_harmonics_irreps(config.l_max, config.parity != "none")
        self.irreps_out = kept = reachable(irreps_in, irreps_edge, targets)
        self.nonlinearity = nonlinearity(config.nonlinearity, kept, normalized=False)
        self.shapes_in = [(block.irrep.dim, block.n_channels) for block in irreps_in]
        self.convolution = TensorProductConvolution(irreps_in, irreps_edge, [block.irrep for block in kept])
        self.radial = RadialFilters([config.n_bessel, *config.radial_hidden], self.convolution, generator)
        n_out = [block.n_channels for block in self.nonlinearity.irreps_in]
        self.self_interaction = SelfInteraction(irreps_in, self.convolution.irreps_out, n_out, generator)
        self.scale = config.avg_num_neighbors**-0.5

    def forward(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor:
        """h_k [n_atoms, width_k] -> h_(k+1)."""
        x = split_blocks(h, self.shapes_in)  # [n_atoms, 2l+1, n_channels]
        edge_weight = self.radial(edges.radial)  # [n_edges, n_paths * n_channels]
        # [n_atoms, 2l+1, n_paths * n_channels]
        messages = self.convolution(x, edges.sh, edge_weight, senders, receivers)
        messages = [message * self.scale for message in messages]
        # the atom itself, at r = 0, passes only through the filter of degree 0, which keeps its features
        return join_blocks(self.nonlinearity(self.self_interaction(x, messages)))


class Model(EnergyModel):
    """Per-atom energies of a Tensor Field Network.

    Args: config
    Attributes: layer_irreps: of h before each layer and behind the last; others as EnergyModel
    """

    def __init__(self, config: Config) -> None:
        check(config)
        generator = torch.Generator().manual_seed(config.seed)
        hidden = feature_irreps(config.l_max, config.n_channels, config.parity)
        scalars = only(hidden, [EVEN_SCALAR])
        n_scalars = scalars[0].n_channels
        symmetry = "SE(3)" if config.parity == "none" else SYMMETRY
        super().__init__(config, n_scalars, layer_names(config.n_layers), symmetry, generator)
        self.harmonics = SphericalHarmonics(config.l_max)
        self.basis = BesselBasis(config.r_max, config.n_bessel, config.envelope_power, trainable=False)
        irreps: Irreps = (Block(EVEN_SCALAR, n_scalars),)
        layers: List[Layer] = []
        self.layer_irreps = [irreps]
        for k in range(config.n_layers):
            layers.append(Layer(config, irreps, hidden if k < config.n_layers - 1 else scalars, generator))
            irreps = layers[-1].irreps_out
            self.layer_irreps.append(irreps)
        self.layers = nn.ModuleList(layers)
        self.output = ScalarMLP([n_scalars, *config.readout_hidden, 1], True, generator)

    def geometry(self, edge_vector: Tensor) -> Edges:
        """Edge_vector [n_edges, 3] Å, float64 -> Edges in the dtype of the weights."""
        edge_length, direction = length_and_direction(edge_vector)
        dtype = self.embedding.dtype
        return Edges(self.harmonics(direction.to(dtype)), self.basis(edge_length).to(dtype))

    def interact_all(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor:
        """All layers, one after the other."""
        for layer in self.layers:
            h = layer(h, species, senders, receivers, edges)
        return h

    def raw_energy(self, x: Tensor) -> Tensor:
        """Features [n_atoms, n_channels] -> [n_atoms], in units of energy_scale."""
        return self.output(x).squeeze(1)
