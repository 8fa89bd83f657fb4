"""SE(3)-Transformer as an energy model.  Fuchs et al., NeurIPS (2020), arXiv:2006.10503.

The paper leaves open what an energy needs: a cut-off with a smooth envelope, also in the attention; a Bessel basis;
SiLU and norms that are smooth at zero; and the sum over atoms of a network on scalars.
"""

from dataclasses import dataclass
from typing import List, Literal, NamedTuple

import torch
from torch import Tensor, nn

from eqff.errors import ConfigError
from eqff.nn.attention import attention_weights
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.energy_model import EnergyModel, layer_names, length_and_direction
from eqff.nn.features import join_blocks, split_blocks
from eqff.nn.gate import EVEN_SCALAR
from eqff.nn.harmonics import SphericalHarmonics
from eqff.nn.hyperparameters import check_counts, check_fields, feature_irreps
from eqff.nn.linear import BlockLinear
from eqff.nn.mlp import ScalarMLP
from eqff.nn.norm_activation import nonlinearity
from eqff.nn.radial import BesselBasis, polynomial_envelope
from eqff.nn.self_interaction import SelfInteraction
from eqff.o3.irreps import Block, Irrep, Irreps, only, reachable, spherical_harmonics_irreps

SYMMETRY = "O(3)"
SLOW_PATHS = ("spline", "shared")  # keys and values have a radial network each


@dataclass(frozen=True, kw_only=True)
class Config:
    """Hyper-parameters (paper symbols in brackets) and the numbers taken from the training data."""

    species: tuple[str, ...]
    r_max: float = 5.0  # cut-off radius, Å
    l_max: int = 2  # highest degree of features [k, l] and of edge harmonics [J]
    parity: Literal["natural", "both", "none"] = "natural"  # (-1)^l; both for every l; none: SE(3) only
    n_channels: int | tuple[int, ...] = 32  # of every irrep, or one number per degree; multiples of n_heads
    n_heads: int = 4  # each head gets an equal share of the channels
    n_layers: int = 3
    smooth_attention: bool = True  # False: softmax as published; energies then jump where a neighbour enters or leaves
    nonlinearity: Literal["norm", "gate"] = "norm"  # norm as published
    n_bessel: int = 8  # radial basis functions
    envelope_power: int = 6
    radial_hidden: tuple[int, ...] = (64,)  # hidden widths of the radial networks [phi]
    readout_hidden: tuple[int, ...] = (32,)  # hidden widths of the read-out
    avg_num_neighbors: float = 10.0  # mean degree; attention, a mean, is multiplied by its root
    energy_scale: float | tuple[float, ...] = 1.0  # eV, e.g. the force RMS in eV/Å; or one per species
    reference_energies: tuple[float, ...] = ()  # eV per species; () is 0
    seed: int = 0  # of the initial weights


def check(config: Config) -> None:
    """Raises: ConfigError for hyper-parameters that do not make a model."""
    check_fields(config, ("n_heads", "n_layers", "n_channels", "radial_hidden", "readout_hidden"))
    check_counts({"l_max": config.l_max}, at_least=0)
    channels = (config.n_channels,) if isinstance(config.n_channels, int) else config.n_channels
    if any(n % config.n_heads for n in channels):
        raise ConfigError(
            "EQ1096",
            f"n_channels={config.n_channels}: expected multiples of n_heads={config.n_heads}; change either number",
        )


class Edges(NamedTuple):
    """What layers need about edges."""

    sh: Tensor  # harmonics [n_edges, (l_max+1)^2]
    radial: Tensor  # radial basis [n_edges, n_bessel]
    envelope: Tensor  # [n_edges, 1]


class Keys(nn.Module):
    r"""Scores s_ij = <q_i, k_ij> / sqrt(n) of every head, n the length of its keys.

    k_ij = (+)_paths w_K(r_ij) (f_j x Y_ij),  q_i = W_Q f_i

    Keys are concatenated over paths and degrees; a matrix that mixes their channels would be redundant, because
    the query already has one.
    """

    head: Tensor

    def __init__(self, config: Config, irreps: Irreps, irreps_edge: List[Irrep], generator: torch.Generator) -> None:
        super().__init__()
        targets = [block.irrep for block in irreps]
        self.convolution = TensorProductConvolution(irreps, irreps_edge, targets)  # on edges, without a sum
        widths = [config.n_bessel, *config.radial_hidden, self.convolution.weight_numel]
        self.network = ScalarMLP(widths, True, generator)
        keys = self.convolution.irreps_out
        self.queries = BlockLinear([b.n_channels for b in irreps], [b.n_channels for b in keys], generator)
        heads = torch.cat(
            [
                head_of_columns(irreps[k].n_channels, self.convolution.segments[k][segment][1], config.n_heads)
                for pieces in self.convolution.gather
                for k, segment in pieces
            ]
        )
        self.scale = (sum(block.width for block in keys) / config.n_heads) ** -0.5
        one_hot = torch.nn.functional.one_hot(heads, config.n_heads)  # [columns, n_heads]
        self.register_buffer("head", one_hot.to(torch.float32))

    def forward(
        self, x: List[Tensor], edge_sh: Tensor, edge_radial: Tensor, senders: Tensor, receivers: Tensor
    ) -> Tensor:
        """Blocks [n_atoms, 2l+1, n_channels] -> [n_edges, n_heads]."""
        edges = torch.arange(senders.shape[0], device=senders.device)
        sent = [block.index_select(0, senders) for block in x]  # [n_edges, 2l+1, n_channels]
        keys = self.convolution(sent, edge_sh, self.network(edge_radial), edges, edges)
        products: List[Tensor] = []
        for k, query in enumerate(self.queries(x)):
            products.append((query.index_select(0, receivers) * keys[k]).sum(1))  # [n_edges, n_paths * n_channels]
        return torch.mm(torch.cat(products, 1), self.head) * self.scale


def head_of_columns(n_channels: int, n_paths: int, n_heads: int) -> Tensor:
    """The head that each of n_paths * n_channels columns belongs to."""
    return (torch.arange(n_channels) // (n_channels // n_heads)).repeat(n_paths)


class Layer(nn.Module):
    """attention x value messages, summed -> concatenated with features -> self-interaction -> non-linearity."""

    head: Tensor

    def __init__(self, config: Config, irreps_in: Irreps, targets: Irreps, generator: torch.Generator) -> None:
        super().__init__()
        irreps_edge = spherical_harmonics_irreps(config.l_max, config.parity != "none")
        self.irreps_out = kept = reachable(irreps_in, irreps_edge, targets)
        self.nonlinearity = nonlinearity(config.nonlinearity, kept, normalized=True)
        self.shapes_in = [(block.irrep.dim, block.n_channels) for block in irreps_in]
        self.smooth = config.smooth_attention
        self.scale = config.avg_num_neighbors**0.5
        self.keys = Keys(config, irreps_in, irreps_edge, generator)
        self.values = TensorProductConvolution(irreps_in, irreps_edge, [block.irrep for block in kept])
        self.value_network = ScalarMLP(
            [config.n_bessel, *config.radial_hidden, self.values.weight_numel], True, generator
        )
        heads = [head_of_columns(irreps_in[path.block].n_channels, 1, config.n_heads) for path in self.values.paths]
        self.register_buffer("head", torch.cat(heads))
        n_out = [block.n_channels for block in self.nonlinearity.irreps_in]
        self.self_interaction = SelfInteraction(irreps_in, self.values.irreps_out, n_out, generator)

    def forward(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor:
        """h_k [n_atoms, width_k] -> h_(k+1)."""
        x = split_blocks(h, self.shapes_in)  # [n_atoms, 2l+1, n_channels]
        score = self.keys(x, edges.sh, edges.radial, senders, receivers)
        attention = attention_weights(score, edges.envelope, receivers, h.shape[0], self.smooth)  # [n_edges, n_heads]
        weight = self.value_network(edges.radial) * attention.index_select(1, self.head) * self.scale
        messages = self.values(x, edges.sh, weight, senders, receivers)  # [n_atoms, 2l+1, n_paths * n_channels]
        return join_blocks(self.nonlinearity(self.self_interaction(x, messages)))


class Model(EnergyModel):
    """Per-atom energies of an SE(3)-Transformer.

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
        self.envelope_power = config.envelope_power
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
        envelope = polynomial_envelope(edge_length / self.r_max, self.envelope_power)
        dtype = self.embedding.dtype
        return Edges(self.harmonics(direction.to(dtype)), self.basis(edge_length).to(dtype), envelope.to(dtype))

    def interact_all(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor:
        """All layers, one after the other."""
        for layer in self.layers:
            h = layer(h, species, senders, receivers, edges)
        return h

    def raw_energy(self, x: Tensor) -> Tensor:
        """Features [n_atoms, n_channels] -> [n_atoms], in units of energy_scale."""
        return self.output(x).squeeze(1)
