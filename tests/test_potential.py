"""Energy, forces and stress against central finite differences of the energy, and against closed forms."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from eqff.errors import PotentialError
from eqff.graph import batch_structures, edge_vectors
from eqff.models import nequip
from eqff.neighbors import build_structure
from eqff.potential import GradientEvaluator, assemble, energy_forces_stress, voigt_stress
from eqff.validation.examination import examine
from eqff.validation.subject import Program

R_MAX = 4.0


class Toy(nn.Module):
    """e_i = E0(species_i) + sqrt(1 + rho) + p . d;  rho = sum_j w_ij, d = sum_j w_ij r_ij, w = c_j (1 - (r/r_max)^2)^4.

    Many-body, of two species, and with a fixed direction p, so that a wrong sign or a swapped index shows.
    """

    energies = torch.tensor([-1000.0, -0.5], dtype=torch.float64)
    charges = torch.tensor([1.0, 0.4], dtype=torch.float64)
    direction = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)

    def forward(self, species, senders, receivers, edge_vector):
        weight = (1 - (edge_vector**2).sum(1) / R_MAX**2).clamp(min=0) ** 4 * self.charges[species[senders]]
        rho = torch.zeros(len(species), dtype=torch.float64).index_add(0, receivers, weight)
        dipole = torch.zeros(len(species), 3, dtype=torch.float64).index_add(
            0, receivers, weight[:, None] * edge_vector
        )
        return self.energies[species] + torch.sqrt(1 + rho) + dipole @ self.direction


def tiny_nequip():
    config = nequip.Config(species=("H", "C"), r_max=R_MAX, l_max=1, n_layers=2, n_channels=8)
    return nequip.Model(config).to(torch.float64)


MODELS = {"toy": Toy, "nequip": tiny_nequip}


@pytest.fixture(params=list(MODELS))
def evaluator(request):
    return GradientEvaluator(MODELS[request.param]())


def crystal(seed=0):
    """Triclinic, smaller than the cutoff: atoms see their own images."""
    rng = np.random.default_rng(seed)
    cell = np.array([[3.4, 0.0, 0.0], [0.7, 3.1, 0.0], [-0.5, 0.6, 3.3]])
    positions = np.array([[0.1, 0.2, 0.1], [0.5, 0.6, 0.4], [0.9, 0.2, 0.7]]) @ cell + rng.uniform(-0.1, 0.1, (3, 3))
    return positions, np.array([0, 1, 1]), cell, np.ones(3, bool)


def molecule(seed=0):
    positions = np.array([[0.0, 0, 0], [1.1, 0.1, 0], [0.2, 1.3, 0.3], [2.0, 1.0, 1.0]])
    positions += np.random.default_rng(seed).uniform(-0.1, 0.1, (4, 3))
    return positions, np.array([1, 0, 0, 1]), np.zeros((3, 3)), np.zeros(3, bool)


def evaluate(evaluator, structure):
    return energy_forces_stress(evaluator, build_structure(*structure, R_MAX))


def energy(evaluator, structure):
    return float(evaluate(evaluator, structure).energy[0])


@pytest.mark.parametrize(
    "check",
    [
        *("gradient", "stress", "batch", "isolated", "beyond_the_cutoff", "node_weight"),
        *("translation", "permutation", "lattice", "supercell"),
    ],
)
def test_results_pass_the_exam(evaluator, check):
    """Also for a model that is not invariant under rotations: a wrong sign or a swapped index shows."""
    (finding,) = examine(Program.of(evaluator, ("H", "C"), R_MAX), [check])
    assert finding.passed, finding.note


def test_tension_is_positive():
    """Two atoms in a large box, repelling along z: they push the cell outwards, so ASE's stress_zz is negative."""

    class Repulsion(nn.Module):
        def forward(self, species, senders, receivers, edge_vector):
            energies = 0.5 * (3.0 - edge_vector.norm(dim=1)) ** 2
            return torch.zeros(len(species), dtype=torch.float64).index_add(0, receivers, energies)

    structure = (np.array([[0.0, 0, 0], [0, 0, 2.0]]), np.zeros(2, int), np.eye(3) * 10.0, np.ones(3, bool))
    result = energy_forces_stress(GradientEvaluator(Repulsion()), build_structure(*structure, 3.0))
    assert float(result.energy[0]) == pytest.approx(1.0)  # E = (3 - r)^2 for the pair
    assert result.forces.tolist() == [[0, 0, -2.0], [0, 0, 2.0]]
    stress = voigt_stress(result.strain_gradient[0], torch.eye(3, dtype=torch.float64) * 10.0)
    assert stress.tolist() == pytest.approx([0, 0, -2.0 * 2.0 / 1000.0, 0, 0, 0])


def test_energies_sum_to_energy(evaluator):
    structures = [build_structure(*case, R_MAX) for case in (crystal(1), molecule(2))]
    result = energy_forces_stress(evaluator, batch_structures(structures))
    assert result.energies.shape == (7,)
    assert float(result.energy[0]) == pytest.approx(float(result.energies[:3].sum()), abs=1e-12, rel=1e-14)
    assert float(result.energy[1]) == pytest.approx(float(result.energies[3:].sum()), abs=1e-12, rel=1e-14)


def test_no_edges(evaluator):
    """Far atoms: each has the energy it has alone, forces and strain gradient are exactly 0."""
    positions, species = np.array([[0.0, 0, 0], [0, 0, 50.0]]), np.array([0, 1])
    result = evaluate(evaluator, (positions, species, np.zeros((3, 3)), np.zeros(3, bool)))
    alone = [energy(evaluator, (np.zeros((1, 3)), np.array([s]), np.eye(3) * 90.0, np.ones(3, bool))) for s in (0, 1)]
    assert result.energies.tolist() == pytest.approx(alone, abs=1e-13)
    assert not result.forces.any()
    assert not result.strain_gradient.any()


def test_node_weight_selects_whose_energy_is_differentiated(evaluator):
    """edge_gradient = d(sum node_weight * node_energy) / d edge_vector, by finite differences on edge vectors."""
    structure = build_structure(*crystal(), R_MAX)
    edge_vector = edge_vectors(structure)
    inputs = (structure.species, structure.senders, structure.receivers)
    node_weight = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    node_energy, edge_gradient = evaluator(*inputs, edge_vector, node_weight)
    plain, all_gradient = evaluator(*inputs, edge_vector, torch.ones(3, dtype=torch.float64))
    assert torch.equal(node_energy, plain), "weights change no energy"
    assert not torch.allclose(edge_gradient, all_gradient)
    step = 1e-4
    for edge in range(0, edge_vector.shape[0], 17):
        for axis in range(3):
            sides = []
            for sign in (1, -1):
                moved = edge_vector.clone()
                moved[edge, axis] += sign * step
                sides.append(float(evaluator(*inputs, moved, node_weight)[0] @ node_weight))
            assert float(edge_gradient[edge, axis]) == pytest.approx((sides[0] - sides[1]) / (2 * step), abs=1e-7)


def test_results_carry_no_graph_unless_asked(evaluator):
    structure = build_structure(*molecule(), R_MAX)
    result = energy_forces_stress(evaluator, structure)
    assert not any(tensor.requires_grad for tensor in result)
    positions = structure.positions.clone().requires_grad_(True)
    training = GradientEvaluator(evaluator.model, create_graph=True)
    forces = energy_forces_stress(training, structure._replace(positions=positions)).forces
    (gradient,) = torch.autograd.grad(forces[0, 0], positions)  # -d2E / dx0 dx
    numerical = []
    step = 1e-4
    for sign in (1, -1):
        moved = structure.positions.clone()
        moved[1, 2] += sign * step
        numerical.append(float(energy_forces_stress(evaluator, structure._replace(positions=moved)).forces[0, 0]))
    assert float(gradient[1, 2]) == pytest.approx((numerical[0] - numerical[1]) / (2 * step), rel=1e-5, abs=1e-7)


def test_results_do_not_depend_on_grad_mode(evaluator):
    structure = build_structure(*molecule(), R_MAX)
    expected = energy_forces_stress(evaluator, structure)
    with torch.no_grad():
        result = energy_forces_stress(evaluator, structure)
    assert torch.equal(result.forces, expected.forces)


@pytest.mark.parametrize("cell", [torch.zeros(3, 3), torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]])])
def test_stress_needs_a_volume(cell):
    with pytest.raises(PotentialError, match=r"EQ4001: cell volume=0.0"):
        voigt_stress(torch.eye(3, dtype=torch.float64), cell.double())


def test_float32_weights_keep_float64_totals():
    """A total of thousands of eV keeps its digits: reference energies are added in float64."""
    config = nequip.Config(
        species=("H", "C"),
        r_max=R_MAX,
        l_max=1,
        n_layers=2,
        n_channels=8,
        reference_energies=(-1234.56789, -4000.123456),
    )
    single = nequip.Model(config)
    without = nequip.Model(dataclasses.replace(config, reference_energies=()))
    case = molecule()
    total = evaluate(GradientEvaluator(single), case)
    bare = evaluate(GradientEvaluator(without), case)
    shift = np.array([-1234.56789, -4000.123456])[case[1]].sum()
    assert total.energy.dtype == total.forces.dtype == torch.float64
    assert float(total.energy[0] - bare.energy[0]) == pytest.approx(shift, abs=1e-9)


def test_edge_vectors_that_are_known_are_used(evaluator):
    structure = build_structure(*crystal(), R_MAX)
    known = edge_vectors(structure)
    for result, expected in zip(
        energy_forces_stress(evaluator, structure, known), energy_forces_stress(evaluator, structure), strict=True
    ):
        assert torch.equal(result, expected)
    stretched = energy_forces_stress(evaluator, structure, known * 1.01)
    assert not torch.allclose(stretched.strain_gradient, expected)


def test_assembly_in_closed_form():
    """Two atoms of three, one directed edge without its reverse, as an engine with ghosts has them."""
    structure = build_structure(np.eye(3) * 5.0, np.zeros(3, int), np.zeros((3, 3)), np.zeros(3, bool), 1.0)
    structure = structure._replace(senders=torch.tensor([2]), receivers=torch.tensor([0]))
    vector, gradient = torch.tensor([[1.0, 2.0, 3.0]]).double(), torch.tensor([[0.5, 0.0, -1.0]]).double()
    energies = torch.tensor([1.0, 2.0, 4.0]).double()
    dyad = torch.outer(vector[0], gradient[0])
    for batch in (structure, batch_structures([structure, structure])):
        n = batch.n_graphs
        result = assemble(batch, vector.repeat(n, 1), energies.repeat(n), gradient.repeat(n, 1))
        assert result.energy.tolist() == [7.0] * n
        assert result.forces.tolist() == [[0.5, 0, -1], [0, 0, 0], [-0.5, 0, 1]] * n
        for graph in range(n):
            assert torch.equal(result.strain_gradient[graph], 0.5 * (dyad + dyad.T))
