"""NequIP: E(3)-equivariant message passing.  Batzner et al., Nat. Commun. 13, 2453 (2022).

One switch chooses the architecture: "current" (nequip >= 0.7) or "published" (nequip 0.5 and 0.6, the paper's models).
They differ in the self-connection of the first layer, the radial network's activation, and the read-out.

SevenNet (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)) is "published" with scalar_last_layer and
self_connection = "linear"; its models differ in r_on, normalize_harmonics and scalar_bias.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import List, Literal, NamedTuple

import torch
from torch import Tensor, nn

from eqff.errors import ConfigError
from eqff.nn.constant import Constant
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.energy_model import EnergyModel, layer_names, length_and_direction
from eqff.nn.features import join_blocks, split_blocks
from eqff.nn.gate import EVEN_SCALAR, Gate
from eqff.nn.harmonics import SphericalHarmonics
from eqff.nn.hyperparameters import check_counts, check_fields, feature_irreps, per_species
from eqff.nn.linear import BlockLinear, ScalarBias, SpeciesLinear
from eqff.nn.mlp import ScalarMLP
from eqff.nn.radial import BesselBasis
from eqff.o3.irreps import (
    Block,
    Irreps,
    only,
    parse,
    reachable,
    spherical_harmonics_irreps,
    width,
)

SYMMETRY = "O(3)"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Hyper-parameters (paper symbols in brackets) and the numbers taken from the training data."""

    species: tuple[str, ...]
    r_max: float = 5.0  # cut-off radius [r_c], Å
    l_max: int = 2  # highest degree of features and edge harmonics
    parity: Literal["natural", "both", "none"] = "natural"  # (-1)^l; both for every l; none: SE(3) only
    n_channels: int | tuple[int, ...] = 64  # of every irrep, or one number per degree
    n_embedding: int = 0  # channels of the species embedding; 0: as many as even scalars
    n_layers: int = 4  # interaction blocks
    n_bessel: int = 8  # radial basis functions [N_b]
    bessel_trainable: bool = False
    envelope_power: int = 6  # [p]
    r_on: float = 0.0  # Å; > 0: the XPLOR envelope, which is 1 up to r_on, replaces the polynomial
    normalize_harmonics: bool = True  # Y_l of the unit vector; false: r^l Y_l
    radial_hidden: tuple[int, ...] = (64,)  # hidden widths of the radial network
    readout_hidden: tuple[int, ...] = ()  # hidden widths of the read-out
    architecture: Literal["current", "published"] = "current"
    scalar_last_layer: bool = False  # published: only even scalars behind the last layer, as always in current
    self_connection: Literal["species", "linear"] = "species"  # matrices: one per species, or one for all
    scalar_bias: bool = False  # a bias on even scalars behind linear up and linear down
    hidden_irreps: str = ""  # e.g. "8x0e + 8x1o + 4x2e": replaces l_max, parity and n_channels of the features
    avg_num_neighbors: float | tuple[float, ...] = 10.0  # mean degree, or one per species of the sender
    energy_scale: float | tuple[float, ...] = 1.0  # eV, e.g. the force RMS in eV/Å; or one per species
    reference_energies: tuple[float, ...] = ()  # eV per species; () is 0
    seed: int = 0  # of the initial weights


def hidden_irreps(config: Config) -> Irreps:
    """Irreps of the features between layers: degree outer, even before odd, as configured."""
    if config.hidden_irreps:
        return parse(config.hidden_irreps)
    return feature_irreps(config.l_max, config.n_channels, config.parity)


def check(config: Config) -> None:
    """Raises: ConfigError for hyper-parameters that do not make a model."""
    check_fields(config, ("n_layers", "n_channels", "radial_hidden", "readout_hidden"))
    check_counts({"l_max": config.l_max, "n_embedding": config.n_embedding}, at_least=0)
    if not 0.0 <= config.r_on < config.r_max:
        raise ConfigError(
            "EQ1750",
            f"r_on={config.r_on} Å: expected 0 for the polynomial envelope, or a radius below r_max={config.r_max} Å; "
            "correct the value",
        )


class Edges(NamedTuple):
    """What layers need about edges."""

    sh: Tensor  # harmonics [n_edges, (l_max+1)^2]
    radial: Tensor  # radial basis [n_edges, n_bessel]


class Interaction(nn.Module):
    """linear up -> radial MLP x Y_lm -> sum over neighbours -> linear down -> + self-connection -> gate."""

    def __init__(
        self, config: Config, irreps_in: Irreps, targets: Irreps, self_connection: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        irreps_edge = spherical_harmonics_irreps(config.l_max, config.parity != "none")
        # scalars come first, as in the gate
        kept = sorted(reachable(irreps_in, irreps_edge, targets), key=lambda block: block.irrep.l > 0)
        self.gate = Gate(tuple(kept))
        self.irreps_in, self.irreps_out = irreps_in, self.gate.irreps_out
        self.shapes_in = [(block.irrep.dim, block.n_channels) for block in irreps_in]
        channels = [block.n_channels for block in irreps_in]
        self.linear_up = BlockLinear(channels, channels, generator)
        self.convolution = TensorProductConvolution(irreps_in, irreps_edge, [b.irrep for b in self.gate.irreps_in])
        self.radial = ScalarMLP(
            [config.n_bessel, *config.radial_hidden, self.convolution.weight_numel],
            config.architecture == "published",
            generator,
        )
        self.linear_down = BlockLinear(
            [block.n_channels for block in self.convolution.irreps_out],
            [block.n_channels for block in self.gate.irreps_in],
            generator,
        )
        n_species = len(config.species)
        neighbors = per_species(config.avg_num_neighbors, n_species, "avg_num_neighbors")
        self.sender_norm = Constant(torch.tensor(neighbors, dtype=torch.float64).rsqrt())
        shared = config.self_connection == "linear"
        self.self_connection = (
            SpeciesLinear(irreps_in, self.gate.irreps_in, n_species, generator, shared) if self_connection else None
        )
        self.bias_up = ScalarBias(irreps_in) if config.scalar_bias else None
        self.bias_down = ScalarBias(self.gate.irreps_in) if config.scalar_bias else None

    def forward(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor:
        """h_k [n_atoms, width_k] -> h_(k+1)."""
        norm = self.sender_norm().to(h.dtype).index_select(0, species).unsqueeze(1)
        x = self.linear_up(split_blocks(h * norm, self.shapes_in))  # blocks [n_atoms, 2l+1, n_channels]
        if self.bias_up is not None:
            x = self.bias_up(x, norm)
        edge_weight = self.radial(edges.radial)  # [n_edges, n_paths * n_channels]
        x = self.convolution(x, edges.sh, edge_weight, senders, receivers)  # [n_atoms, 2l+1, n_paths * n_channels]
        x = self.linear_down(x)  # [n_atoms, 2l+1, n_channels + gates]
        if self.bias_down is not None:
            x = self.bias_down(x, torch.ones_like(norm))
        if self.self_connection is not None:
            x = self.self_connection(split_blocks(h, self.shapes_in), species, x)
        return join_blocks(self.gate(x))


class Model(EnergyModel):
    """Per-atom energies of NequIP.

    Args: config
    Attributes: layer_irreps: of h before each layer and behind the last; others as EnergyModel
    """

    def __init__(self, config: Config) -> None:
        check(config)
        generator = torch.Generator().manual_seed(config.seed)
        published = config.architecture == "published"
        hidden = hidden_irreps(config)
        scalars = only(hidden, [EVEN_SCALAR])
        if not scalars:
            raise ConfigError(
                "EQ1042", "hidden irreps need even scalars (0e): gates and energies come from them; add e.g. 32x0e"
            )
        n_scalars = scalars[0].n_channels
        irreps: Irreps = (Block(EVEN_SCALAR, config.n_embedding or n_scalars),)
        symmetry = "SE(3)" if config.parity == "none" else SYMMETRY
        super().__init__(config, irreps[0].n_channels, layer_names(config.n_layers), symmetry, generator)
        self.harmonics = SphericalHarmonics(config.l_max)
        self.normalize_harmonics = config.normalize_harmonics
        self.basis = BesselBasis(
            config.r_max, config.n_bessel, config.envelope_power, config.bessel_trainable, config.r_on
        )
        layers: List[Interaction] = []
        self.layer_irreps = [irreps]
        for k in range(config.n_layers):
            targets = hidden if (published and not config.scalar_last_layer) or k < config.n_layers - 1 else scalars
            layers.append(Interaction(config, irreps, targets, published or k > 0, generator))
            irreps = layers[-1].irreps_out
            self.layer_irreps.append(irreps)
        self.layers = nn.ModuleList(layers)
        even = [block.irrep for block in irreps].index(EVEN_SCALAR)
        self.first_feature = width(irreps[:even])
        self.n_features = n_scalars
        widths = [n_scalars, *config.readout_hidden, 1]
        if published:  # linear maps without a non-linearity between them
            readout_layers = [ScalarMLP([n_in, n_out], True, generator) for n_in, n_out in pairwise(widths)]
        else:
            readout_layers = [ScalarMLP(widths, False, generator)]
        self.readout_layers = nn.ModuleList(readout_layers)

    def geometry(self, edge_vector: Tensor) -> Edges:
        """Edge_vector [n_edges, 3] Å, float64 -> Edges in the dtype of the weights."""
        edge_length, direction = length_and_direction(edge_vector)
        dtype = self.embedding.dtype
        if not self.normalize_harmonics:
            direction = edge_vector
        return Edges(self.harmonics(direction.to(dtype)), self.basis(edge_length).to(dtype))

    def interact_all(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Edges) -> Tensor:
        """All layers, one after the other."""
        for layer in self.layers:
            h = layer(h, species, senders, receivers, edges)
        return h

    def features(self, h: Tensor) -> Tensor:
        """Invariant features [n_atoms, n_features]: input of the read-out."""
        return h[:, self.first_feature : self.first_feature + self.n_features]

    def raw_energy(self, x: Tensor) -> Tensor:
        """Features [n_atoms, n_features] -> [n_atoms], in units of energy_scale."""
        for layer in self.readout_layers:
            x = layer(x)
        return x.squeeze(1)
