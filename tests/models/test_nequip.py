"""What is NequIP's own: architectures, parities, irreps, normalisation; the general exam is in tests/conformance."""

import dataclasses

import numpy as np
import pytest
import torch
from toys import close, cluster, results

from eqff.models.nequip import Config, Model
from eqff.o3.irreps import to_text

R_MAX = 3.0
SMALL = Config(species=("H", "C"), r_max=R_MAX, l_max=1, n_layers=2, n_channels=4, avg_num_neighbors=4.0)


def make(**fields):
    return Model(dataclasses.replace(SMALL, **fields)).to(torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_isolated_atom_has_its_reference_energy(dtype):
    references = (-13.605693122994, -1029.4889999)
    model = make(n_layers=3, readout_hidden=(8,), energy_scale=2.5, reference_energies=references).to(dtype)
    assert tuple(results(model, np.zeros((1, 3)), [0]).energies.tolist()) == references[:1]
    far = np.array([[0.0, 0, 0], [50, 0, 0]])
    assert tuple(results(model, far, [0, 1]).energies.tolist()) == references


def test_the_published_model_has_no_such_limit():
    """Its self-connection in the first layer gives isolated atoms an energy of their own."""
    model = make(architecture="published", readout_hidden=(4,))
    assert abs(float(results(model, np.zeros((1, 3)), [0]).energy)) > 1e-4


def test_scale_and_references_per_species():
    positions, species = cluster()
    plain = results(make(), positions, species).energies
    scale, shift = torch.tensor([2.0, 0.5]).double(), torch.tensor([-10.0, -300.0]).double()
    model = make(energy_scale=(2.0, 0.5), reference_energies=(-10.0, -300.0))
    close(results(model, positions, species).energies, scale[species] * plain + shift[species], 1e-12)


def test_neighbours_are_normalised_by_the_senders_species():
    """A carbon surrounded by hydrogens: the number for carbon, as a sender, does not reach it in one layer."""
    positions, species = np.array([[0.0, 0, 0], [1.1, 0, 0], [-0.3, 1.0, 0.2]]), [1, 0, 0]

    def energy_of_carbon(of_hydrogen, of_carbon):
        model = make(n_layers=1, avg_num_neighbors=(of_hydrogen, of_carbon))
        return float(results(model, positions, species).energies[0])

    assert energy_of_carbon(4.0, 1.0) == pytest.approx(energy_of_carbon(4.0, 9.0), abs=1e-14)
    assert abs(energy_of_carbon(4.0, 1.0) - energy_of_carbon(1.0, 1.0)) > 1e-4


def test_only_reachable_irreps_exist():
    """1e and 2o need an odd vector at the atom, 0o needs 1e: they appear one layer after another."""
    layers = [to_text(irreps) for irreps in make(parity="both", l_max=2, n_layers=4).layer_irreps]
    assert layers == [
        "4x0e",
        "4x0e + 4x1o + 4x2e",
        "4x0e + 4x1e + 4x1o + 4x2e + 4x2o",
        "4x0e + 4x0o + 4x1e + 4x1o + 4x2e + 4x2o",
        "4x0e",
    ]


@pytest.mark.parametrize(("l_max", "count"), [(0, 167_640), (1, 741_080), (2, 1_674_968), (3, 3_190_488)])
def test_parameter_counts_of_the_paper(l_max, count):
    """MD17 models for three species, counted in nequip 0.6.2 with its own input files."""
    config = Config(
        species=("H", "C", "O"), r_max=4.0, l_max=l_max, parity="both", n_layers=5, architecture="published",
        hidden_irreps=" + ".join(f"64x{l}{p}" for l in range(l_max + 1) for p in "oe"),
        bessel_trainable=True, radial_hidden=(64, 64, 64), readout_hidden=(16,),
    )  # fmt: skip
    assert sum(parameter.numel() for parameter in Model(config).parameters()) == count
