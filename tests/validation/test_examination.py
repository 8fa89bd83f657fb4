"""Every check of the verdict passes on a sound model and fails, alone, on one with exactly that fault."""

import pytest
import torch
from torch import nn

from eqff.errors import PotentialError
from eqff.models import nequip
from eqff.potential import GradientEvaluator
from eqff.validation import examination as verdict

R_MAX, SPECIES = 4.0, ("C", "H", "O")
ALL = {
    *("gradient", "n_hops", "isolated", "batch", "repeat", "direction"),
    *("rotation", "inversion", "translation", "permutation", "cutoff"),
}


class Model(nn.Module):
    """A pair potential, passed on once; `fault` names what is wrong with it."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.n_calls = 0

    def forward(self, species, senders, receivers, edge_vector):
        self.n_calls += 1
        fault = self.fault
        r = edge_vector.square().sum(1).sqrt()
        x = (r / R_MAX).clamp(max=1.0)
        envelope = (1 - x**2) ** 3
        if fault == "jump":
            envelope = torch.ones_like(x)
        elif fault == "kink":
            envelope = 1 - x
        elif fault == "gradient":
            envelope = envelope.detach()
        strength = 1.0 + 0.3 * species.double()
        pair = strength[senders] * strength[receivers] * torch.exp(-1.3 * (r - 1.0)) * envelope
        if fault == "rotation":
            pair = pair * (1 + 1e-4 * edge_vector[:, 0] ** 2)
        elif fault == "permutation":
            pair = pair * (1 + 1e-3 * (senders % 2))
        density = torch.zeros(len(species), dtype=torch.float64).index_add(
            0, senders if fault == "direction" else receivers, pair
        )
        if fault == "inversion":
            first, second, third = (
                torch.zeros(len(species), 3, dtype=torch.float64).index_add(
                    0, receivers, edge_vector * (pair * r**k).unsqueeze(1)
                )
                for k in range(3)
            )
            density = density + 0.1 * (torch.linalg.cross(first, second) * third).sum(1)
        energy = -(density + 0.01).sqrt()
        if fault == "batch":
            energy = energy + density.mean()
        elif fault == "isolated":
            energy = energy + density / density
        elif fault == "repeat":
            energy = energy + 1e-6 * self.n_calls
        elif fault == "empty" and len(senders) == 0:
            raise RuntimeError("no edges")
        elif fault == "nan":
            energy = energy * torch.where(r.sum() > 0, torch.nan, 1.0)
        return energy


def failed(model, stated_hops=None):
    checks = verdict.examine(GradientEvaluator(model), SPECIES, R_MAX, stated_hops)
    assert {check.check for check in checks} == ALL
    assert all(bool(check.note) != check.passed for check in checks)
    return {check.check for check in checks if not check.passed}


def test_a_sound_model_passes():
    assert failed(Model()) == set()
    assert failed(Model(), stated_hops=1) == set()


def test_nequip_passes_and_its_receptive_field_is_found():
    config = nequip.Config(species=SPECIES, r_max=R_MAX, l_max=1, n_layers=2, n_channels=2)
    assert failed(nequip.Model(config).to(torch.float64), stated_hops=1) == {"n_hops"}
    checks = verdict.examine(GradientEvaluator(nequip.Model(config)), SPECIES, R_MAX, dtype=torch.float32)
    assert [check.check for check in checks if not check.passed] == []
    assert next(check.measured for check in checks if check.check == "n_hops") == {"hops": 2}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("gradient", {"gradient"}),
        ("jump", {"cutoff"}),
        ("kink", {"cutoff"}),
        ("rotation", {"rotation"}),
        ("inversion", {"inversion"}),
        ("direction", {"direction"}),
        ("permutation", {"permutation"}),
        ("isolated", {"isolated"}),
        ("empty", {"isolated"}),
    ],
)
def test_each_fault_is_found(fault, expected):
    found = failed(Model(fault))
    assert expected <= found
    assert found <= expected | {"batch"}


def test_memory_and_coupling_of_structures_are_found():
    assert "repeat" in failed(Model("repeat"))
    assert {"batch", "n_hops", "direction"} <= failed(Model("batch"))


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(PotentialError, match="EQ4331"):
        verdict.examine(GradientEvaluator(Model("nan")), SPECIES, R_MAX)


def test_a_program_that_stops_is_refused():
    class Stops(Model):
        def forward(self, species, senders, receivers, edge_vector):
            raise RuntimeError("no more")

    with pytest.raises(PotentialError, match=r"EQ4332.*no more"):
        verdict.examine(GradientEvaluator(Stops()), SPECIES, R_MAX)
