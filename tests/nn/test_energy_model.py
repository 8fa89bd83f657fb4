"""The base of all families: one forward, hops that can be called alone, also in TorchScript."""

import copy
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eqff import registry
from eqff.config import from_mapping, read_toml
from eqff.graph import Structure, edge_vectors
from eqff.neighbors import build_structure
from eqff.nn.energy_model import EnergyModel, layer_names, length_and_direction

SMALLEST = Path(__file__).parents[1] / "conformance" / "smallest"
FILES = sorted(path.stem for path in SMALLEST.glob("*.toml"))


def model_of(name: str) -> EnergyModel:
    """In float64; name: of a family or one of its variants."""
    family = registry.load("models", name.split("-")[0])
    mapping = read_toml(SMALLEST / f"{name.split('-')[0]}.toml") | read_toml(SMALLEST / f"{name}.toml")
    return family.Model(from_mapping(family.Config, mapping, where=name)).to(torch.float64).requires_grad_(False)


def chain(n_atoms: int, seed: int = 0) -> Structure:
    """Atoms about 1.2 Å apart, none in a line."""
    rng = np.random.default_rng(seed)
    positions = 1.2 * np.arange(n_atoms)[:, None] * np.array([0.6, 0.5, 0.4]) + rng.uniform(-0.3, 0.3, (n_atoms, 3))
    return build_structure(positions, np.arange(n_atoms) % 2, np.zeros((3, 3)), np.zeros(3, bool), 3.0)


def inputs(structure: Structure) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return structure.species, structure.senders, structure.receivers, edge_vectors(structure)


@pytest.mark.parametrize("name", FILES)
def test_it_scripts_and_every_hop_of_the_program_can_be_called_alone(name: str) -> None:
    """What an engine with ghost atoms does; programs of every variant give the energies of the model."""
    model = model_of(name)
    scripted = torch.jit.script(copy.deepcopy(model))
    for structure in (chain(7), chain(3), chain(1), chain(7, seed=1)):
        species, senders, receivers, edge_vector = inputs(structure)
        expected = model(species, senders, receivers, edge_vector)
        torch.testing.assert_close(scripted(species, senders, receivers, edge_vector), expected, rtol=0, atol=1e-11)
        edges = scripted.geometry(edge_vector)
        h = scripted.embed(species, senders, receivers, edges)
        for hop in scripted.hops:
            h = attrgetter(hop)(scripted)(h, species, senders, receivers, edges)
            assert h.dim() == 2
        torch.testing.assert_close(scripted.readout(h, species), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", registry.names("models"))
def test_families_have_the_base_and_no_other_forward(name: str) -> None:
    family = registry.load("models", name)
    assert issubclass(family.Model, EnergyModel)
    assert not {"forward", "readout", "embed", "interact"} & vars(family.Model).keys()
    model = model_of(name)
    edges = model.geometry(torch.ones(5, 3, dtype=torch.float64))
    assert isinstance(edges, tuple)
    assert {len(tensor) for tensor in edges} == {5}
    assert next(iter(dict(model.named_parameters()))) == "embedding"


class Counting(EnergyModel):
    """The least family: the energy is the number of neighbours, twice."""

    def __init__(self) -> None:
        config = SimpleNamespace(species=("H", "C"), r_max=3.0, energy_scale=0.5, reference_energies=(1.0, 2.0))
        super().__init__(config, 1, layer_names(2), "O(3)", torch.Generator().manual_seed(0))
        self.layers = nn.ModuleList([Neighbours(), Neighbours()])

    def geometry(self, edge_vector: Tensor) -> tuple[Tensor]:
        return (length_and_direction(edge_vector)[0],)

    def embed(self, species: Tensor, senders: Tensor, receivers: Tensor, edges: tuple[Tensor]) -> Tensor:
        return torch.zeros(len(species), 1, dtype=torch.float64)

    def interact_all(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: tuple) -> Tensor:
        for layer in self.layers:
            h = layer(h, species, senders, receivers, edges)
        return h

    def features(self, h: Tensor) -> Tensor:
        return h

    def raw_energy(self, x: Tensor) -> Tensor:
        return x.squeeze(1)


class Neighbours(nn.Module):
    def forward(self, h: Tensor, species: Tensor, senders: Tensor, receivers: Tensor, edges: tuple) -> Tensor:
        return h.index_add(0, receivers, torch.ones_like(edges[0]))


def test_the_steps_by_hand() -> None:
    model = Counting()
    assert (model.n_hops, model.hops, model.r_max) == (2, ["layers.0", "layers.1"], 3.0)
    arguments = torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([0, 1]), torch.ones(2, 3, dtype=torch.float64)
    assert model(*arguments).tolist() == [0.5 * 2 + 1.0, 0.5 * 2 + 2.0]
    h = model.interact(0, torch.zeros(2, 1, dtype=torch.float64), *arguments[:3], model.geometry(arguments[3]))
    assert h.tolist() == [[1.0], [1.0]]


def test_length_and_direction() -> None:
    length, direction = length_and_direction(torch.tensor([[3.0, 0.0, 4.0]], dtype=torch.float64))
    assert length.tolist() == [[5.0]]
    torch.testing.assert_close(direction, torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64))
