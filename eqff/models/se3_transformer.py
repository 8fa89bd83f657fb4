"""SE(3)-Transformer as an energy model.  Fuchs et al., NeurIPS (2020), arXiv:2006.10503.

What energies need and the paper leaves open: a cut-off with a smooth envelope, also in the attention; a Bessel basis;
SiLU and norms that are smooth at zero; and the sum over atoms of a network on scalars.
"""

from dataclasses import dataclass
from typing import List, Literal

import torch
from torch import Tensor, nn

from eqff.errors import ConfigError
from eqff.nn.attention import attention_weights
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.features import join_blocks, split_blocks
from eqff.nn.gate import EVEN_SCALAR, Gate
from eqff.nn.harmonics import SphericalHarmonics
from eqff.nn.hyperparameters import check_counts, check_scales, check_species, feature_irreps, per_species
from eqff.nn.linear import BlockLinear
from eqff.nn.mlp import ScalarMLP
from eqff.nn.norm_activation import NormActivation
from eqff.nn.radial import BesselBasis, polynomial_envelope
from eqff.nn.readout import SpeciesScaleShift
from eqff.nn.self_interaction import SelfInteraction
from eqff.o3.irreps import Block, Irrep, Irreps, spherical_harmonics_irreps, tensor_product_paths

SYMMETRY = "O(3)"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Hyper-parameters (paper symbols in brackets) and the numbers taken from the training data."""

    species: tuple[str, ...]
    r_max: float = 5.0  # cut-off radius, Å
    l_max: int = 2  # highest degree of features [k, l] and of edge harmonics [J]
    parity: Literal["natural", "both", "none"] = "natural"  # (-1)^l; both for every l; none: SE(3) only
    n_channels: int | tuple[int, ...] = 32  # of every irrep, or one number per degree; multiples of n_heads
    n_heads: int = 4  # every head attends with its share of the channels
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
    """Raises: ConfigError for hyper-parameters no model can be made of."""
    check_species(config.species)
    check_counts({"l_max": config.l_max}, at_least=0)
    names = ("n_heads", "n_layers", "n_channels", "radial_hidden", "readout_hidden")
    check_counts({name: getattr(config, name) for name in names})
    channels = (config.n_channels,) if isinstance(config.n_channels, int) else config.n_channels
    if any(n % config.n_heads for n in channels):
        raise ConfigError("EQ1096", f"n_channels={config.n_channels}: expected multiples of n_heads={config.n_heads}")
    positive = {"r_max": config.r_max, "avg_num_neighbors": config.avg_num_neighbors}
    check_scales(len(config.species), positive, config.energy_scale, config.reference_energies)


class Keys(nn.Module):
    r"""Scores s_ij = <q_i, k_ij> / sqrt(n) of every head, n the length of its keys.

    k_ij = (+)_paths w_K(r_ij) (f_j x Y_ij),  q_i = W_Q f_i

    Keys are concatenated over paths and degrees; a matrix that mixes their channels would be the same as one more in
    the query, which has it.
    """

    head: Tensor

    def __init__(self, config: Config, irreps: Irreps, irreps_edge: List[Irrep], generator: torch.Generator) -> None:
        super().__init__()
        own = [block.irrep for block in irreps]
        self.convolution = TensorProductConvolution(irreps, irreps_edge, own)  # on edges, nothing is summed
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
    """The head each of n_paths * n_channels columns belongs to."""
    return (torch.arange(n_channels) // (n_channels // n_heads)).repeat(n_paths)


class Layer(nn.Module):
    """attention x value messages, summed -> concatenated with own features -> self-interaction -> non-linearity."""

    head: Tensor

    def __init__(self, config: Config, irreps_in: Irreps, targets: Irreps, generator: torch.Generator) -> None:
        super().__init__()
        irreps_edge = spherical_harmonics_irreps(config.l_max, config.parity != "none")
        paths = tensor_product_paths(irreps_in, irreps_edge, [block.irrep for block in targets])
        reached = {path.irrep_out for path in paths}
        kept = tuple(block for block in targets if block.irrep in reached)
        nonlinearity: Gate | NormActivation = NormActivation(kept, normalized=True)
        wanted = kept
        if config.nonlinearity == "gate":
            nonlinearity = Gate(kept)
            wanted = nonlinearity.irreps_in  # gates are further scalars
        self.nonlinearity = nonlinearity
        self.irreps_out = kept
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
        n_out = [block.n_channels for block in wanted]
        self.self_interaction = SelfInteraction(irreps_in, self.values.irreps_out, n_out, generator)

    def forward(
        self, h: Tensor, senders: Tensor, receivers: Tensor, edge_sh: Tensor, edge_radial: Tensor, envelope: Tensor
    ) -> Tensor:
        x = split_blocks(h, self.shapes_in)  # [n_atoms, 2l+1, n_channels]
        score = self.keys(x, edge_sh, edge_radial, senders, receivers)
        attention = attention_weights(score, envelope, receivers, h.shape[0], self.smooth)  # [n_edges, n_heads]
        weight = self.value_network(edge_radial) * attention.index_select(1, self.head) * self.scale
        messages = self.values(x, edge_sh, weight, senders, receivers)  # [n_atoms, 2l+1, n_paths * n_channels]
        return join_blocks(self.nonlinearity(self.self_interaction(x, messages)))


class Model(nn.Module):
    """Per-atom energies of an SE(3)-Transformer.

    Args: config
    Attributes: n_hops: receptive field in units of r_max; symmetry: O(3), or SE(3) if parity is "none";
        layer_irreps: of h before each layer and behind the last
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        check(config)
        generator = torch.Generator().manual_seed(config.seed)
        self.r_max = config.r_max
        self.envelope_power = config.envelope_power
        self.n_hops = config.n_layers
        self.symmetry = "SE(3)" if config.parity == "none" else SYMMETRY
        n_species = len(config.species)
        hidden = feature_irreps(config.l_max, config.n_channels, config.parity)
        scalars = tuple(block for block in hidden if block.irrep == EVEN_SCALAR)
        self.harmonics = SphericalHarmonics(config.l_max)
        self.basis = BesselBasis(config.r_max, config.n_bessel, config.envelope_power, trainable=False)
        irreps: Irreps = (Block(EVEN_SCALAR, scalars[0].n_channels),)
        self.embedding = nn.Parameter(torch.randn(n_species, irreps[0].n_channels, generator=generator))
        layers: List[Layer] = []
        self.layer_irreps = [irreps]
        for k in range(config.n_layers):
            layers.append(Layer(config, irreps, hidden if k < config.n_layers - 1 else scalars, generator))
            irreps = layers[-1].irreps_out
            self.layer_irreps.append(irreps)
        self.layers = nn.ModuleList(layers)
        self.output = ScalarMLP([scalars[0].n_channels, *config.readout_hidden, 1], True, generator)
        self.scale_shift = SpeciesScaleShift(
            per_species(config.energy_scale, n_species, "energy_scale"),
            per_species(config.reference_energies, n_species, "reference_energies"),
        )

    def geometry(self, edge_vector: Tensor) -> List[Tensor]:
        """Edge_vector [n_edges, 3] Å, float64 -> harmonics [n_edges, (l_max+1)^2], radial basis [n_edges, n_bessel],
        envelope [n_edges, 1]."""
        edge_length = edge_vector.square().sum(1, keepdim=True).sqrt()
        dtype = self.embedding.dtype
        edge_sh = self.harmonics((edge_vector / edge_length).to(dtype))
        envelope = polynomial_envelope(edge_length / self.r_max, self.envelope_power)
        return [edge_sh, self.basis(edge_length).to(dtype), envelope.to(dtype)]

    def embed(self, species: Tensor, senders: Tensor, receivers: Tensor, geometry: List[Tensor]) -> Tensor:
        """h_0 [n_atoms, n_channels]."""
        return self.embedding.index_select(0, species)

    def interact(
        self, k: int, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, geometry: List[Tensor]
    ) -> Tensor:
        """Layer k: h_k [n_atoms, width_k] -> h_(k+1)."""
        for index, layer in enumerate(self.layers):
            if index == k:
                h = layer(h, senders, receivers, geometry[0], geometry[1], geometry[2])
        return h

    def features(self, h: Tensor) -> Tensor:
        """Invariant features [n_atoms, n_channels] the read-out works on."""
        return h

    def readout(self, h: Tensor, species: Tensor) -> Tensor:
        """Per-atom energies [n_atoms] eV, float64."""
        return self.scale_shift(self.output(self.features(h)).squeeze(1), species)

    def forward(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        """Per-atom energies [n_atoms] eV, float64, from edge vectors [n_edges, 3] Å, float64."""
        geometry = self.geometry(edge_vector)
        h = self.embed(species, senders, receivers, geometry)
        for k in range(self.n_hops):
            h = self.interact(k, h, species, senders, receivers, geometry)
        return self.readout(h, species)
