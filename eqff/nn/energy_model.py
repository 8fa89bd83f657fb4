"""The base of every family: per-atom energies from edge vectors, in five steps that an engine can also call.

    edges = geometry(edge_vector)           everything that depends on edges only, computed once
    h = embed(species, ...)                 h_0 [n_atoms, width_0]
    h = interact(k, h, ..., edges)          hop k: h_k -> h_(k+1) [n_atoms, width], one sum over neighbours
    x = features(h)                         invariants [n_atoms, n_features]
    readout(h, species)                     scale * raw_energy(x) + reference energy, [n_atoms] eV, float64

h is always one tensor, and an engine with ghost atoms can exchange it before every hop. Each hop is a submodule, and
`hops` lists their names: in Python `interact` calls one; in a TorchScript program, where no index selects a module,
`operator.attrgetter(hops[k])(program)(h, species, senders, receivers, edges)`, or the same submodules from C++.

What a file in eqff/models states:
    SYMMETRY    "O(3)", or "SE(3)" if mirror images may differ in energy
    SLOW_PATHS  fast paths it gives up ("kernel", "spline", "shared"), if any; the exam reports every other miss
    Config      frozen dataclass with species, r_max, energy_scale, reference_energies and seed; training fills
                in energy_scale, reference_energies, avg_num_neighbors and seed where the recipe does not state them
    Model       an EnergyModel made from a Config; the width of h may change from hop to hop, and every weight that
                requires a gradient must influence the energy

Names that fast paths look for, see eqff.nn.fast.layers:
    model.basis         radial basis, with `r_max`: edge_length [n_edges, 1] Å -> [n_edges, n_basis]
    layer.convolution   TensorProductConvolution, whose weights `layer.radial` gives
    layer.radial        radial network: [n_edges, n_basis] -> [n_edges, convolution.weight_numel]
With other names results are the same and slower; `eqff.nn.fast.layers.fast_paths` says which layers, and why.
"""

from typing import Any, List, Tuple

import torch
from torch import Tensor, nn

from eqff.nn.hyperparameters import per_species
from eqff.nn.readout import SpeciesScaleShift


class EnergyModel(nn.Module):
    """Per-atom energies; a family implements `geometry`, `interact_all`, `features` and `raw_energy`.

    `geometry` returns a NamedTuple of tensors with one row per edge, its type private to the family: TorchScript takes
    it from the annotations of the family's methods.

    Args:
        config: its species, r_max, energy_scale, reference_energies
        n_embedding: channels of h_0
        hops: names of the submodules that are hop 0, 1, ...; each takes (h, species, senders, receivers, edges)
        symmetry: "O(3)", or "SE(3)" if mirror images may differ in energy
        generator: for the species embedding, drawn from N(0, 1)
    Attributes: n_hops: receptive field in units of r_max
    """

    def __init__(
        self, config: Any, n_embedding: int, hops: List[str], symmetry: str, generator: torch.Generator
    ) -> None:
        super().__init__()
        n_species = len(config.species)
        self.r_max: float = config.r_max
        self.hops, self.n_hops = hops, len(hops)
        self.symmetry = symmetry
        self.embedding = nn.Parameter(torch.randn(n_species, n_embedding, generator=generator))
        self.scale_shift = SpeciesScaleShift(
            per_species(config.energy_scale, n_species, "energy_scale"),
            per_species(config.reference_energies, n_species, "reference_energies"),
        )

    def geometry(self, edge_vector: Tensor) -> Any:
        """Edge_vector [n_edges, 3] Å, float64 -> NamedTuple of tensors in the dtype of the weights."""
        raise NotImplementedError

    def embed(self, species: Tensor, senders: Tensor, receivers: Tensor, edges: Any) -> Tensor:
        """h_0 [n_atoms, n_embedding]: one row per species."""
        return self.embedding.index_select(0, species)

    def interact(self, k: int, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Any) -> Tensor:
        """Hop k alone: h_k [n_atoms, width_k] -> h_(k+1)."""
        return self.get_submodule(self.hops[k])(h, species, senders, receivers, edges)

    def interact_all(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: Any) -> Tensor:
        """All hops, one after the other."""
        raise NotImplementedError

    def features(self, h: Tensor) -> Tensor:
        """Invariant features [n_atoms, n_features]: h of the last hop, if that has scalars only."""
        return h

    def raw_energy(self, x: Tensor) -> Tensor:
        """Features [n_atoms, n_features] -> [n_atoms], in units of energy_scale."""
        raise NotImplementedError

    def readout(self, h: Tensor, species: Tensor) -> Tensor:
        """Per-atom energies [n_atoms] eV, float64."""
        return self.scale_shift(self.raw_energy(self.features(h)), species)

    def forward(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        """Per-atom energies [n_atoms] eV, float64, from edge vectors [n_edges, 3] Å, float64."""
        edges = self.geometry(edge_vector)
        h = self.embed(species, senders, receivers, edges)
        h = self.interact_all(h, species, senders, receivers, edges)
        return self.readout(h, species)


def length_and_direction(edge_vector: Tensor) -> Tuple[Tensor, Tensor]:
    """Edge_vector [n_edges, 3] Å -> length [n_edges, 1] Å, unit vector [n_edges, 3]."""
    edge_length = edge_vector.square().sum(1, keepdim=True).sqrt()
    return edge_length, edge_vector / edge_length


def layer_names(n_layers: int, parent: str = "layers") -> List[str]:
    """Names of the modules in a list: layers.0, layers.1, ..."""
    return [f"{parent}.{k}" for k in range(n_layers)]
