"""NequIP: E(3)-equivariant message passing.  Batzner et al., Nat. Commun. 13, 2453 (2022).

Two architectures by one switch: "current" (nequip >= 0.7) and "published" (nequip 0.5 and 0.6, the paper's models).
They differ in the self-connection of the first layer, the radial network's activation, and the read-out.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import List, Literal

import torch
from torch import Tensor, nn

from eqff.errors import ConfigError
from eqff.nn.constant import Constant
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.features import join_blocks, split_blocks
from eqff.nn.gate import EVEN_SCALAR, Gate
from eqff.nn.harmonics import SphericalHarmonics
from eqff.nn.hyperparameters import check_species, feature_irreps, per_species
from eqff.nn.linear import BlockLinear, SpeciesLinear
from eqff.nn.mlp import ScalarMLP
from eqff.nn.radial import BesselBasis
from eqff.nn.readout import SpeciesScaleShift
from eqff.o3.irreps import (
    Block,
    Irreps,
    parse,
    spherical_harmonics_irreps,
    tensor_product_paths,
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
    radial_hidden: tuple[int, ...] = (64,)  # hidden widths of the radial network
    readout_hidden: tuple[int, ...] = ()  # hidden widths of the read-out
    architecture: Literal["current", "published"] = "current"
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
    """Raises: ConfigError for hyper-parameters no model can be made of."""
    check_species(config.species)
    if config.l_max < 0:
        raise ConfigError("EQ1046", f"l_max={config.l_max}: expected at least 0")
    counts = {
        "n_layers": config.n_layers,
        "n_channels": min(config.n_channels, default=0) if isinstance(config.n_channels, tuple) else config.n_channels,
        "n_embedding": config.n_embedding or 1,
        "radial_hidden": min(config.radial_hidden, default=1),
        "readout_hidden": min(config.readout_hidden, default=1),
    }
    for name, count in counts.items():
        if count < 1:
            raise ConfigError("EQ1046", f"{name}={count}: expected at least 1")
    positive = {"r_max": config.r_max, "avg_num_neighbors": config.avg_num_neighbors}
    for name, value in (positive | {"energy_scale": config.energy_scale}).items():
        numbers = per_species(value, len(config.species), name)
        if not all(math.isfinite(number) and (number > 0.0 or name not in positive) for number in numbers):
            raise ConfigError("EQ1047", f"{name}={value}: expected finite numbers{' > 0' * (name in positive)}")
    if not any(per_species(config.energy_scale, len(config.species), "energy_scale")):
        raise ConfigError("EQ1047", f"energy_scale={config.energy_scale}: a model of no energy cannot learn")


class Interaction(nn.Module):
    """linear up -> radial MLP x Y_lm -> sum over neighbours -> linear down -> + self-connection -> gate."""

    def __init__(
        self, config: Config, irreps_in: Irreps, targets: Irreps, self_connection: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        irreps_edge = self.irreps_edge = spherical_harmonics_irreps(config.l_max, config.parity != "none")
        reached = {
            path.irrep_out for path in tensor_product_paths(irreps_in, irreps_edge, [block.irrep for block in targets])
        }
        # only what a path leads to exists; scalars come first, as in the gate
        kept = sorted((block for block in targets if block.irrep in reached), key=lambda block: block.irrep.l > 0)
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
        self.self_connection = (
            SpeciesLinear(irreps_in, self.gate.irreps_in, n_species, generator) if self_connection else None
        )

    def forward(
        self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edge_sh: Tensor, edge_radial: Tensor
    ) -> Tensor:
        norm = self.sender_norm().to(h.dtype).index_select(0, species).unsqueeze(1)
        x = self.linear_up(split_blocks(h * norm, self.shapes_in))  # blocks [n_atoms, 2l+1, n_channels]
        edge_weight = self.radial(edge_radial)  # [n_edges, n_paths * n_channels]
        x = self.convolution(x, edge_sh, edge_weight, senders, receivers)  # [n_atoms, 2l+1, n_paths * n_channels]
        x = self.linear_down(x)  # [n_atoms, 2l+1, n_channels + gates]
        if self.self_connection is not None:
            x = self.self_connection(split_blocks(h, self.shapes_in), species, x)
        return join_blocks(self.gate(x))


class Model(nn.Module):
    """Per-atom energies of NequIP.

    Args: config
    Attributes: n_hops: receptive field in units of r_max; symmetry: O(3), or SE(3) if parity is "none";
        layer_irreps: of h before each layer and behind the last
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        check(config)
        generator = torch.Generator().manual_seed(config.seed)
        self.r_max = config.r_max
        self.n_hops = config.n_layers
        self.symmetry = "SE(3)" if config.parity == "none" else SYMMETRY
        published = config.architecture == "published"
        n_species = len(config.species)
        hidden = hidden_irreps(config)
        scalars = tuple(block for block in hidden if block.irrep == EVEN_SCALAR)
        if not scalars:
            raise ConfigError("EQ1042", "hidden irreps need even scalars (0e): gates and energies come from them")
        n_scalars = scalars[0].n_channels
        self.harmonics = SphericalHarmonics(config.l_max)
        self.basis = BesselBasis(config.r_max, config.n_bessel, config.envelope_power, config.bessel_trainable)
        irreps: Irreps = (Block(EVEN_SCALAR, config.n_embedding or n_scalars),)
        self.embedding = nn.Parameter(torch.randn(n_species, irreps[0].n_channels, generator=generator))
        layers: List[Interaction] = []
        self.layer_irreps = [irreps]
        for k in range(config.n_layers):
            targets = hidden if published or k < config.n_layers - 1 else scalars
            layers.append(Interaction(config, irreps, targets, published or k > 0, generator))
            irreps = layers[-1].irreps_out
            self.layer_irreps.append(irreps)
        self.layers = nn.ModuleList(layers)
        even = [block.irrep for block in irreps].index(EVEN_SCALAR)
        self.first_feature = width(irreps[:even])
        self.n_features = n_scalars
        self.linear_readout = published
        widths = [n_scalars, *config.readout_hidden, 1]
        if published:  # linear maps without a non-linearity between them
            self.readout_layers = nn.ModuleList(
                [ScalarMLP([n_in, n_out], True, generator) for n_in, n_out in pairwise(widths)]
            )
        else:
            self.readout_layers = nn.ModuleList([ScalarMLP(widths, False, generator)])
        self.scale_shift = SpeciesScaleShift(
            per_species(config.energy_scale, n_species, "energy_scale"),
            per_species(config.reference_energies, n_species, "reference_energies"),
        )

    def geometry(self, edge_vector: Tensor) -> List[Tensor]:
        """Edge_vector [n_edges, 3] Å, float64 -> harmonics [n_edges, (l_max+1)^2], radial basis [n_edges, n_bessel]."""
        edge_length = edge_vector.square().sum(1, keepdim=True).sqrt()
        dtype = self.embedding.dtype
        edge_sh = self.harmonics((edge_vector / edge_length).to(dtype))
        edge_radial = self.basis(edge_length).to(dtype)
        return [edge_sh, edge_radial]

    def embed(self, species: Tensor, senders: Tensor, receivers: Tensor, geometry: List[Tensor]) -> Tensor:
        """h_0 [n_atoms, n_embedding]."""
        return self.embedding.index_select(0, species)

    def interact(
        self, k: int, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, geometry: List[Tensor]
    ) -> Tensor:
        """Layer k: h_k [n_atoms, width_k] -> h_(k+1)."""
        for index, layer in enumerate(self.layers):
            if index == k:
                h = layer(h, species, senders, receivers, geometry[0], geometry[1])
        return h

    def features(self, h: Tensor) -> Tensor:
        """Invariant features [n_atoms, n_features] the read-out works on."""
        return h[:, self.first_feature : self.first_feature + self.n_features]

    def readout(self, h: Tensor, species: Tensor) -> Tensor:
        """Per-atom energies [n_atoms] eV, float64."""
        x = self.features(h)
        for layer in self.readout_layers:
            x = layer(x)
        return self.scale_shift(x.squeeze(1), species)

    def forward(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        """Per-atom energies [n_atoms] eV, float64, from edge vectors [n_edges, 3] Å, float64."""
        geometry = self.geometry(edge_vector)
        h = self.embed(species, senders, receivers, geometry)
        for k in range(self.n_hops):
            h = self.interact(k, h, species, senders, receivers, geometry)
        return self.readout(h, species)
