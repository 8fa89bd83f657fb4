"""Foreign call signatures: every documented form gives the energies and forces of the foreign program itself."""

from typing import Dict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eqff.artifact import torchscript
from eqff.errors import PotentialError
from eqff.neighbors import build_structure
from eqff.potential import GradientEvaluator, energy_forces_stress

R_MAX, SPECIES = 3.0, ("C", "H")


class Dictionary(nn.Module):
    """A pair potential of positions, with the spellings found in the wild."""

    def __init__(self, form: str = "atomic", dtype: torch.dtype = torch.float64, column: bool = False) -> None:
        super().__init__()
        self.form, self.column = form, column
        self.depth = nn.Parameter(torch.tensor([0.7, 0.4], dtype=dtype))

    def forward(self, data: Dict[str, Tensor]) -> Dict[str, Tensor]:
        i, j = data["edge_index"][0], data["edge_index"][1]
        pos, kind = data["pos"], data["atom_types"]
        if self.column:
            assert kind.dim() == 2
            kind = kind.squeeze(1)
        if self.form == "numbers":
            kind = (data["atomic_numbers"] == 1).to(torch.int64)
        if self.form == "graph cells":
            cells = data["cell"].index_select(0, data["batch"].index_select(0, i))
            shift = torch.bmm(data["edge_cell_shift"].unsqueeze(1), cells).squeeze(1)
        elif self.form == "cartesian":
            shift = data["shifts"]
        else:
            shift = data["edge_cell_shift"] @ data["cell"]
        r = (pos[j] - pos[i] + shift).square().sum(1).sqrt()
        pair = self.depth[kind[i]] * self.depth[kind[j]] * (1 - r / 3.0).clamp(min=0.0).pow(3)
        center = j if self.form == "sender" else i
        atomic = torch.zeros_like(pos[:, 0]).index_add(0, center, pair)
        if self.form == "trap":
            atomic = atomic + pos.square().sum(1)
        if self.form == "graphs":
            n_graphs = data["ptr"].shape[0] - 1
            return {"energy": torch.zeros(n_graphs, dtype=pos.dtype).index_add(0, data["batch"], atomic)}
        if self.form == "total":
            return {"total_energy": atomic.sum()}
        if self.form == "nothing":
            return {"charges": atomic}
        return {"atomic_energy": atomic.unsqueeze(1)}


class AsTensor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Dictionary()

    def forward(self, data: Dict[str, Tensor]) -> Tensor:
        return self.inner(data)["atomic_energy"]


class SequentialGraphNetwork(nn.Module):
    """The layers of a deployed nequip model by their names, as the adapter meets them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Dictionary(column=True)

    def forward(self, data: Dict[str, Tensor]) -> Dict[str, Tensor]:
        atomic = self.inner(data)["atomic_energy"]
        data["atomic_energy"], data["total_energy"] = atomic, atomic.sum(0, keepdim=True)
        return data


class GradientOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.func = SequentialGraphNetwork()

    def forward(self, data: Dict[str, Tensor]) -> Dict[str, Tensor]:
        pos = data["pos"]
        pos.requires_grad_(True)
        data = self.func(data)
        (gradient,) = torch.autograd.grad([data["total_energy"].sum()], [pos])  # frees the graph
        assert gradient is not None
        data["forces"] = -gradient
        return data


class RescaleOutput(nn.Module):
    def __init__(self, shift: float) -> None:
        super().__init__()
        self.model = GradientOutput()
        self.scale_keys, self.shift_keys = ["atomic_energy", "total_energy", "forces"], ["total_energy"]
        self.has_scale, self.has_shift = True, shift != 0.0
        self.register_buffer("scale_by", torch.tensor(1.7, dtype=torch.float64))
        self.register_buffer("shift_by", torch.tensor(shift, dtype=torch.float64))

    def forward(self, data: Dict[str, Tensor]) -> Dict[str, Tensor]:
        data = self.model(data)
        for key in self.scale_keys:
            data[key] = data[key] * self.scale_by
        if self.has_shift:
            data["total_energy"] = data["total_energy"] + self.shift_by
        return data


class GraphModel(nn.Module):
    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.model = RescaleOutput(shift)

    def forward(self, data: Dict[str, Tensor]) -> Dict[str, Tensor]:
        return self.model(data)


class Flat(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1).to(dtype)

    def forward(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        pair = self.linear(edge_vector.square().sum(1, keepdim=True)).squeeze(1)
        return torch.zeros_like(species, dtype=pair.dtype).index_add(0, receivers, pair)


class Promoting(Flat):
    """Takes float64 edges whatever its weights are, and computes in float32."""

    def forward(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        pair = edge_vector.square().sum(1).to(torch.float32) * 0.3
        return torch.zeros_like(species, dtype=pair.dtype).index_add(0, receivers, pair)


def example(periodic):
    points = np.array([[0.0, 0.0, 0.0], [1.1, 0.2, 0.1], [0.3, 1.4, 0.6], [1.9, 1.3, 1.5]])
    cell = np.array([[2.8, 0.0, 0.0], [0.3, 2.9, 0.0], [0.2, -0.4, 3.1]]) * periodic
    return build_structure(points, np.array([0, 1, 1, 0]), cell, np.full(3, bool(periodic)), R_MAX)


def adapt(model, adapter=None, species=SPECIES, energy_factor=1.0, length_factor=1.0, notes=None):
    program = torch.jit.script(model).eval()
    adapter = adapter or torchscript.adapter_of(program, notes or {})
    for parameter in program.parameters():
        parameter.requires_grad_(False)
    return torchscript.adapt(program, adapter, species, R_MAX, example(False), energy_factor, length_factor)


def against_real_positions(adapted, periodic):
    structure = example(periodic)
    result = energy_forces_stress(GradientEvaluator(adapted.model), structure)
    energy, forces = adapted.real(structure)
    return abs(float(result.energy) - energy), float((result.forces - forces).abs().max()), energy


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Dictionary(), {"key": "atomic_energy"}),
        (Dictionary("numbers"), {"key": "atomic_energy"}),
        (Dictionary(column=True), {"column": True}),
        (Dictionary("graph cells"), {"cell_per_graph": True}),
        (Dictionary("cartesian"), {"key": "atomic_energy"}),
        (Dictionary("sender"), {"sender_first": True}),
        (Dictionary("graphs"), {"every_atom_a_graph": True, "key": "energy"}),
        (Dictionary("total"), {"spread": True, "key": "total_energy"}),
        (AsTensor(), {"key": ""}),
    ],
)
def test_dictionary_models_give_the_results_of_real_positions(model, expected, periodic):
    adapted = adapt(model)
    assert (adapted.adapter, adapted.dtypes) == ("dictionary", (torch.float64, torch.float32))
    found = adapted.form._asdict()
    assert {key: found[key] for key in expected} == expected
    energy_error, force_error, energy = against_real_positions(adapted, periodic)
    assert abs(energy) > 0.1
    assert energy_error < 1e-12
    assert force_error < 1e-12


def test_energies_of_graphs_become_energies_of_atoms():
    structure = example(True)
    arguments = (structure.species, structure.senders, structure.receivers)
    vector = torch.randn(len(structure.senders), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        adapt(Dictionary("graphs")).model(*arguments, vector), adapt(Dictionary()).model(*arguments, vector)
    )


def test_positions_used_otherwise_are_noticed():
    assert against_real_positions(adapt(Dictionary("trap")), False)[0] > 1.0


@pytest.mark.parametrize("periodic", [False, True])
def test_deployed_nequip_gives_the_results_of_the_whole_program(periodic):
    adapted = adapt(GraphModel(), notes={"nequip_version": "0.6.2"})
    assert adapted.adapter == "nequip"
    energy_error, force_error, energy = against_real_positions(adapted, periodic)
    assert abs(energy) > 0.1
    assert energy_error < 1e-12
    assert force_error < 1e-12


def test_nequip_with_a_shift_per_structure_and_unknown_layers_are_refused():
    with pytest.raises(PotentialError, match="EQ4327"):
        adapt(GraphModel(shift=-3.0), "nequip")
    with pytest.raises(PotentialError, match=r"EQ4328.*Dictionary"):
        adapt(Dictionary(), "nequip")


def test_nequip_facts():
    assert torchscript.nequip_facts({"type_names": "H C O", "r_max": "4.5"}) == (["H", "C", "O"], 4.5)
    names, r_max = torchscript.nequip_facts({"r_max": "?"})
    assert names == []
    assert r_max != r_max


def test_taking_a_gradient_inside_is_explained():
    with pytest.raises(PotentialError, match=r"EQ4325.*return energies only"):
        adapt(GraphModel(), "dictionary")


@pytest.mark.parametrize(
    ("model", "adapter"),
    [(Dictionary("nothing"), None), (Dictionary(), "flat"), (Flat(torch.float64), "dictionary")],
)
def test_what_cannot_be_called_is_refused(model, adapter):
    with pytest.raises(PotentialError, match="EQ4325"):
        adapt(model, adapter)


def test_too_few_species_are_refused():
    with pytest.raises(PotentialError, match="EQ4325"):
        adapt(Dictionary(), species=("H",) * 0 + ("C",)).model(
            torch.tensor([1]), torch.tensor([0]), torch.tensor([0]), torch.ones(1, 3, dtype=torch.float64)
        )


def test_other_signatures_and_half_precision_are_refused():
    with pytest.raises(PotentialError, match="EQ4324"):
        adapt(nn.Linear(2, 2))
    with pytest.raises(PotentialError, match="EQ4326"):
        adapt(Flat(torch.float16))


@pytest.mark.parametrize(
    ("model", "dtypes", "wide"),
    [
        (Flat(torch.float64), (torch.float64, torch.float32), False),
        (Flat(torch.float32), (torch.float32, torch.float64), False),
        (Promoting(torch.float32), (torch.float32,), True),
        (Promoting(torch.float64), (torch.float32,), False),
        (Dictionary(dtype=torch.float32), (torch.float32, torch.float64), True),
    ],
)
def test_dtypes_are_found_by_trial(model, dtypes, wide):
    adapted = adapt(model)
    assert (adapted.dtypes, adapted.model.wide) == (dtypes, wide)


def test_units_and_cutoff():
    """E = sum_j |r_ij|^2 a + b over neighbours nearer than r_max: in other units by hand."""
    model = Flat(torch.float64)
    adapted = adapt(model, energy_factor=0.5, length_factor=10.0)
    vector = torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 2.9999]], dtype=torch.float64)
    indices = torch.tensor([1, 1, 1]), torch.tensor([0, 0, 0])
    energy = adapted.model(torch.tensor([0, 1]), *indices, vector)
    a, b = float(model.linear.weight.detach()), float(model.linear.bias.detach())
    expected = 0.5 * (a * (0.2**2 + 0.29999**2) + 2 * b)  # the edge of length r_max does not count
    assert energy.dtype == torch.float64
    torch.testing.assert_close(energy.detach(), torch.tensor([expected, 0.0], dtype=torch.float64))
