"""The checks of `eqff wrap` pass on a sound program and fail, alone, on one with exactly that fault."""

import pytest
import torch
from torch import nn

from eqff.errors import ConfigError, PotentialError
from eqff.models import nequip
from eqff.potential import GradientEvaluator
from eqff.tasks.wrap import EXAMINED
from eqff.validation.examination import checks, examine
from eqff.validation.subject import Program

R_MAX, SPECIES = 4.0, ("C", "H", "O")


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


def program(model, **options):
    return Program.of(GradientEvaluator(model), SPECIES, R_MAX, **options)


def failed(model, **options):
    findings = list(examine(program(model, **options), EXAMINED))
    assert [finding.check for finding in findings] == list(EXAMINED)
    assert all(bool(finding.note) != finding.passed for finding in findings)
    return {finding.check for finding in findings if not finding.passed}


def test_a_sound_model_passes():
    assert failed(Model()) == set()
    assert failed(Model(), stated_hops=1) == set()


def test_a_sound_model_passes_every_check_of_programs():
    names = [finding.check for finding in examine(program(Model())) if finding.passed]
    assert {"supercell", "work", "stress", "gradient_at_the_poles", "beyond_the_cutoff", "node_weight"} <= set(names)
    assert names == [name for name, check in checks().items() if check.suits(program(Model()))]


def test_nequip_passes_and_its_receptive_field_is_found():
    config = nequip.Config(species=SPECIES, r_max=R_MAX, l_max=1, n_layers=2, n_channels=2)
    assert failed(nequip.Model(config).to(torch.float64), stated_hops=1) == {"n_hops"}
    findings = examine(program(nequip.Model(config), dtype=torch.float32), EXAMINED)
    assert [finding.check for finding in findings if not finding.passed] == []
    (hops,) = examine(program(nequip.Model(config), dtype=torch.float32), ["n_hops"])
    assert hops.measured == {"hops": 2}


def test_finding_says_where_and_by_how_much():
    (finding,) = examine(program(Model("rotation")), ["rotation"])
    assert not finding.passed
    assert finding.measured["energy eV"] > 10 * finding.limit["energy eV"]
    assert finding.note.startswith("results depend on the orientation (8 atoms turned: ")
    assert "allowed" in finding.note


def test_checks_are_asked_for_by_name():
    with pytest.raises(ConfigError, match=r"EQ1963.*'rotations'.*rotation"):
        list(examine(program(Model()), ["rotations"]))
    with pytest.raises(ConfigError, match=r"EQ1964.*needs a ModelSubject, not a Program"):
        list(examine(program(Model()), ["composition"]))


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
        program(Model("nan"))
