"""Equiformer: equivariant graph attention transformer.  Liao and Smidt, ICLR (2023), arXiv:2206.11990.

The published model jumps where a neighbour crosses the cut-off. With `smooth_attention` an envelope multiplies the
contribution of every edge, and 1 is added to the denominator of attention weights: the energy is twice differentiable.
"""

from dataclasses import dataclass
from typing import List, Literal, NamedTuple

import torch
from torch import Tensor, nn

from eqff.errors import ConfigError
from eqff.nn.activation import normalized_silu
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.energy_model import EnergyModel, layer_names, length_and_direction
from eqff.nn.features import BlockSum, join_blocks, split_blocks
from eqff.nn.gate import EVEN_SCALAR, Gate
from eqff.nn.graph_attention import GraphAttention, channels_of, times
from eqff.nn.harmonics import SphericalHarmonics
from eqff.nn.hyperparameters import check_counts, check_fields, feature_irreps
from eqff.nn.irreps_linear import IrrepsLinear
from eqff.nn.layer_norm import EquivariantLayerNorm
from eqff.nn.radial import BesselBasis, polynomial_envelope
from eqff.nn.radial_profile import ExponentialBasis, RadialProfile
from eqff.o3.irreps import Block, Irreps, only, parse, spherical_harmonics_irreps, to_text

SYMMETRY = "O(3)"
SLOW_PATHS = ("spline", "shared")  # radial networks with a bias are not 0 at r_max; attention has `product`


@dataclass(frozen=True, kw_only=True)
class Config:
    """Hyper-parameters (paper symbols in brackets) and the numbers taken from the training data."""

    species: tuple[str, ...]
    r_max: float = 5.0  # cut-off radius, Å
    l_max: int = 2  # highest degree of features and edge harmonics [L_max]
    parity: Literal["both", "natural", "none"] = "both"  # of every l; (-1)^l only; none: SE(3), as published
    n_channels: int | tuple[int, ...] = (64, 32, 16)  # of every irrep, or one number per degree [C_L]
    n_layers: int = 4  # transformer blocks
    n_heads: int = 4  # [h]
    attention: Literal["nonlinear", "linear", "dot"] = "nonlinear"  # MLP scores with either messages; dot product
    smooth_attention: bool = True  # False: as published, with a jump at r_max
    radial_basis: Literal["exponential", "bessel"] = "exponential"
    n_basis: int = 32  # radial basis functions
    radial_hidden: tuple[int, ...] = (64, 64)  # hidden widths of the radial networks
    feed_forward: int = 3  # widening of channels inside feed-forward networks [d_ffn / d_embed]
    n_features: int = 128  # scalars behind the last block [d_feature]
    envelope_power: int = 6
    # of layer norms, added to mean squares. With 1e-5, as published, forces near sites where vectors vanish by symmetry
    # change within 1e-5 Å, and Hessians there mean nothing; 0.1 is smooth
    norm_epsilon: float = 1e-5
    hidden_irreps: str = ""  # e.g. "8x0e + 8x1o + 4x2e": replaces l_max, parity and n_channels of the features
    head_irreps: str = ""  # of one head [d_head]; "": channels of the features / n_heads
    feed_forward_irreps: str = ""  # replaces feed_forward [d_ffn]
    avg_num_neighbors: float = 10.0  # mean degree: normalises the edge-degree embedding
    energy_scale: float | tuple[float, ...] = 1.0  # eV, e.g. the force RMS in eV/Å; or one per species
    reference_energies: tuple[float, ...] = ()  # eV per species; () is 0
    seed: int = 0  # of the initial weights


def hidden_irreps(config: Config) -> Irreps:
    """Irreps of the features between blocks."""
    if config.hidden_irreps:
        return parse(config.hidden_irreps)
    return feature_irreps(config.l_max, config.n_channels, config.parity)


def head_irreps(config: Config) -> Irreps:
    """Irreps of one attention head."""
    if config.head_irreps:
        return parse(config.head_irreps)
    hidden = hidden_irreps(config)
    if any(block.n_channels % config.n_heads for block in hidden):
        raise ConfigError(
            "EQ1078", f"n_heads={config.n_heads} does not divide the channels of {to_text(hidden)}; give head_irreps"
        )
    return tuple(Block(block.irrep, block.n_channels // config.n_heads) for block in hidden)


def feed_forward_irreps(config: Config) -> Irreps:
    """Irreps inside the feed-forward networks."""
    if config.feed_forward_irreps:
        return parse(config.feed_forward_irreps)
    return times(hidden_irreps(config), config.feed_forward)


def check(config: Config) -> None:
    """Raises: ConfigError for hyper-parameters that do not make a model."""
    counts = ("n_layers", "n_channels", "n_heads", "radial_hidden", "feed_forward", "n_features")
    check_fields(config, counts, positive=("norm_epsilon",))
    check_counts({"l_max": config.l_max}, at_least=0)
    for name, irreps in (("hidden", hidden_irreps), ("head", head_irreps), ("feed_forward", feed_forward_irreps)):
        if not channels_of(irreps(config), EVEN_SCALAR):
            raise ConfigError(
                "EQ1079", f"{name}_irreps={to_text(irreps(config))} need even scalars (0e); add e.g. 32x0e"
            )


class Edges(NamedTuple):
    """What hops need about edges."""

    sh: Tensor  # harmonics [n_edges, (l_max+1)^2]
    radial: Tensor  # radial basis [n_edges, n_basis]
    envelope: Tensor  # [n_edges, 1]


class DegreeEmbedding(nn.Module):
    """h + linear(sum over neighbours of w(r) Y(r)): an atom's surroundings, whatever its element."""

    def __init__(self, config: Config, irreps: Irreps, generator: torch.Generator) -> None:
        super().__init__()
        self.n_scalars = channels_of(irreps, EVEN_SCALAR)
        irreps_edge = spherical_harmonics_irreps(config.l_max, config.parity != "none")
        ones = (Block(EVEN_SCALAR, self.n_scalars),)
        self.convolution = TensorProductConvolution(ones, irreps_edge, [block.irrep for block in irreps])
        self.radial = RadialProfile([config.n_basis, *config.radial_hidden, self.convolution.weight_numel], generator)
        self.irreps_out = only(irreps, [block.irrep for block in self.convolution.irreps_out])
        self.linear = IrrepsLinear(self.convolution.irreps_out, self.irreps_out, generator, bias=False)
        self.edge_bias = nn.Parameter(torch.zeros(self.n_scalars))
        self.even = [block.irrep for block in self.irreps_out].index(EVEN_SCALAR)
        self.scale = config.avg_num_neighbors**-0.5

    def forward(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor:
        """Scalars h [n_atoms, n_scalars] -> [n_atoms, width]."""
        ones = torch.ones_like(h).unsqueeze(1)
        weight = self.radial(edges.radial)  # [n_edges, (l_max+1) * n_scalars]
        blocks = self.linear(self.convolution([ones], edges.sh * edges.envelope, weight, senders, receivers))
        degree = torch.zeros_like(h[:, :1]).index_add(0, receivers, edges.envelope)  # [n_atoms, 1]
        blocks = [block * self.scale for block in blocks]
        blocks[self.even] = blocks[self.even] + (h + degree * (self.edge_bias * self.scale)).unsqueeze(1)
        return join_blocks(blocks)


class FeedForward(nn.Module):
    """linear -> gate -> linear, for each atom separately."""

    def __init__(self, irreps: Irreps, irreps_inside: Irreps, irreps_out: Irreps, generator: torch.Generator) -> None:
        super().__init__()
        self.irreps = irreps
        self.gate = Gate(irreps_inside, sigmoid=True)
        self.linear_up = IrrepsLinear(irreps, self.gate.irreps_in, generator)
        self.linear_down = IrrepsLinear(irreps_inside, irreps_out, generator)

    def forward(self, x: List[Tensor]) -> List[Tensor]:
        return self.linear_down(self.gate(self.linear_up(x)))


class TransformerBlock(nn.Module):
    """x + attention(norm(x)) -> x + feed-forward(norm(x)).

    Only irreps that can be non-zero exist: with both parities, 1e and 2o begin in the first block. The last block
    computes n_features scalars and nothing else.
    """

    def __init__(self, config: Config, irreps: Irreps, last: bool, generator: torch.Generator) -> None:
        super().__init__()
        hidden = hidden_irreps(config)
        self.shapes = [(block.irrep.dim, block.n_channels) for block in irreps]
        self.norm_attention = EquivariantLayerNorm(irreps, config.norm_epsilon)
        self.attention = GraphAttention(
            irreps,
            hidden,
            only(hidden, [EVEN_SCALAR]) if last else hidden,
            spherical_harmonics_irreps(config.l_max, config.parity != "none"),
            head_irreps(config),
            config.n_heads,
            config.attention,
            config.smooth_attention,
            [config.n_basis, *config.radial_hidden],
            generator,
        )
        changed = [block.irrep for block in self.attention.irreps_out]
        inner = only(hidden, changed if last else changed + [block.irrep for block in irreps])
        self.add = BlockSum(irreps, self.attention.irreps_out, inner)
        self.norm_feed_forward = EquivariantLayerNorm(inner, config.norm_epsilon)
        self.irreps_out = (Block(EVEN_SCALAR, config.n_features),) if last else inner
        inside = only(feed_forward_irreps(config), [block.irrep for block in inner])
        self.feed_forward = FeedForward(inner, inside, self.irreps_out, generator)
        self.shortcut = IrrepsLinear(inner, self.irreps_out, generator) if last else None

    def forward(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor:
        """h_k [n_atoms, width_k] -> h_(k+1)."""
        x = split_blocks(h, self.shapes)  # [n_atoms, 2l+1, n_channels]
        normed = self.norm_attention(x)
        x = self.add(x, self.attention(normed, edges.sh, edges.radial, edges.envelope, senders, receivers))
        change = self.feed_forward(self.norm_feed_forward(x))
        if self.shortcut is not None:
            x = self.shortcut(x)
        return join_blocks([block + change[k] for k, block in enumerate(x)])


class Model(EnergyModel):
    """Per-atom energies of Equiformer: the degree embedding is hop 0, then every block is a hop.

    Args: config
    Attributes: layer_irreps: of h before each hop and behind the last; others as EnergyModel
    """

    def __init__(self, config: Config) -> None:
        check(config)
        generator = torch.Generator().manual_seed(config.seed)
        hidden = hidden_irreps(config)
        scalars = only(hidden, [EVEN_SCALAR])
        symmetry = "SE(3)" if config.parity == "none" else SYMMETRY
        hops = ["degree", *layer_names(config.n_layers, "blocks")]
        super().__init__(config, scalars[0].n_channels, hops, symmetry, generator)
        self.envelope_power, self.smooth = config.envelope_power, config.smooth_attention
        self.harmonics = SphericalHarmonics(config.l_max)
        self.basis: nn.Module
        if config.radial_basis == "exponential":
            self.basis = ExponentialBasis(config.r_max, config.n_basis)
        else:
            self.basis = BesselBasis(config.r_max, config.n_basis, config.envelope_power, trainable=False)
        self.degree = DegreeEmbedding(config, hidden, generator)
        irreps = self.degree.irreps_out
        self.layer_irreps: List[Irreps] = [scalars, irreps]
        blocks: List[TransformerBlock] = []
        for k in range(config.n_layers):
            blocks.append(TransformerBlock(config, irreps, k == config.n_layers - 1, generator))
            irreps = blocks[-1].irreps_out
            self.layer_irreps.append(irreps)
        self.blocks = nn.ModuleList(blocks)
        features = (Block(EVEN_SCALAR, config.n_features),)
        self.norm = EquivariantLayerNorm(features, config.norm_epsilon)
        self.head = IrrepsLinear(features, features, generator)
        self.output = IrrepsLinear(features, (Block(EVEN_SCALAR, 1),), generator)

    def geometry(self, edge_vector: Tensor) -> Edges:
        """Edge_vector [n_edges, 3] Å, float64 -> Edges in the dtype of the weights."""
        edge_length, direction = length_and_direction(edge_vector)
        x = edge_length / self.r_max
        envelope = polynomial_envelope(x, self.envelope_power) if self.smooth else (x < 1.0)
        dtype = self.embedding.dtype
        return Edges(self.harmonics(direction.to(dtype)), self.basis(edge_length).to(dtype), envelope.to(dtype))

    def interact_all(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor:
        """The degree embedding, then all blocks, one after the other."""
        h = self.degree(h, species, senders, receivers, edges)
        for block in self.blocks:
            h = block(h, species, senders, receivers, edges)
        return h

    def features(self, h: Tensor) -> Tensor:
        """Invariant features [n_atoms, n_features]: input of the last read-out layer."""
        return normalized_silu(self.head(self.norm([h.unsqueeze(1)]))[0].squeeze(1))

    def raw_energy(self, x: Tensor) -> Tensor:
        """Features [n_atoms, n_features] -> [n_atoms], in units of energy_scale."""
        return self.output([x.unsqueeze(1)])[0].flatten()
