"""Second derivatives: closed form, finite differences of forces, symmetry, sum rules; through TorchScript as well."""

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import nn
from toys import diamond, ethanol, potential_of, tiny_file

from eqff.artifact import load
from eqff.engines.ase import EqffCalculator
from eqff.errors import GraphError
from eqff.potential import hessian


class Springs(nn.Module):
    """E = k/2 (r - r0)^2 for each pair: half of it on either atom."""

    def forward(self, species, senders, receivers, edge_vector):
        pair = 0.25 * 30.0 * (edge_vector.norm(dim=1) - 1.2) ** 2
        return torch.zeros(len(species), dtype=torch.float64).index_add(0, receivers, pair)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A TorchScript potential, float64."""
    for path in tiny_file(tmp_path_factory, r_max=3.0, n_layers=2):
        return load(path, dtype="float64")


def structure_of(potential, atoms):
    return potential.structure(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc)


def test_a_spring_is_its_constant_times_the_projection():
    """d2E/dr2 = k along the bond; across it the slope over the length, k (r - r0) / r."""
    potential = potential_of(Springs(), r_max=3.0)
    rows = hessian(potential.module, structure_of(potential, Atoms("H2", [[0, 0, 0], [0, 0, 1.5]])))
    block = np.diag([30.0 * 0.3 / 1.5] * 2 + [30.0])
    np.testing.assert_allclose(rows.numpy(), np.block([[block, -block], [-block, block]]), atol=1e-12)


@pytest.mark.parametrize("make", [diamond, ethanol])
def test_against_central_differences_of_forces(exported, make):
    atoms = make()
    analytic = hessian(exported.module, structure_of(exported, atoms)).numpy()
    step, numerical = 1e-4, np.empty_like(analytic)
    for row in range(3 * len(atoms)):
        sides = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions.flat[row] += sign * step
            sides.append(exported(structure_of(exported, moved)).forces.numpy().ravel())
        numerical[row] = (sides[1] - sides[0]) / (2 * step)
    assert np.abs(analytic).max() > 0.1
    np.testing.assert_allclose(analytic, numerical, atol=1e-6 * np.abs(analytic).max())
    assert np.abs(analytic - analytic.T).max() < 1e-10
    sums = analytic.reshape(-1, len(atoms), 3).sum(1)
    assert np.abs(sums).max() < 1e-9, "a translation changes no force"


def test_chosen_rows_progress_and_grad_modes(exported):
    structure = structure_of(exported, ethanol())
    expected, seen = hessian(exported.module, structure), []
    with torch.no_grad():
        rows = hessian(exported.module, structure, [4, 1], seen.append)
    assert torch.allclose(rows, expected.reshape(9, 3, 27)[[4, 1]].reshape(6, 27), atol=1e-12)
    assert seen == [1, 2, 3, 4, 5, 6]
    with torch.inference_mode():
        assert torch.allclose(hessian(exported.module, structure, [4]), rows[:3], atol=1e-12)
    assert not rows.requires_grad


def test_atoms_that_feel_nothing(exported):
    for atoms in (Atoms("O"), Atoms("OH", [[0, 0, 0], [0, 0, 9.0]])):
        assert not hessian(exported.module, structure_of(exported, atoms)).any()


def test_calculator_has_it_in_ases_form(exported):
    atoms = ethanol()
    calculator = EqffCalculator(exported)
    with pytest.raises(GraphError, match="EQ2113"):
        calculator.get_hessian()
    rows = calculator.get_hessian(atoms)
    assert rows.shape == (27, 27)
    assert rows.dtype == np.float64
    assert rows.flags.owndata
    np.testing.assert_allclose(rows, hessian(exported.module, structure_of(exported, atoms)).numpy(), atol=1e-12)
    atoms.calc = calculator
    atoms.get_forces()
    np.testing.assert_allclose(calculator.get_hessian(), rows, atol=1e-12)
