"""Equiformer: symmetry and smoothness of all its forms, reach, and what the published one does at the cut-off."""

import copy

import numpy as np
import pytest
import torch
from toys import close, results

from eqff.kernels import build
from eqff.models.equiformer import Config, Model
from eqff.neighbors import build_structure
from eqff.nn.fast.fused import fuse
from eqff.nn.fast.layers import spline_obstacle
from eqff.o3.irreps import to_text
from eqff.potential import GradientEvaluator, energy_forces_stress

R_MAX = 3.0
ATTENTION = ("nonlinear", "linear", "dot")


def make(**fields):
    small = {"l_max": 2, "n_channels": 4, "n_heads": 2, "n_layers": 2, "n_basis": 8, "radial_hidden": (8,),
             "feed_forward": 2, "n_features": 8, "avg_num_neighbors": 4.0}  # fmt: skip
    return Model(Config(species=("H", "C"), r_max=R_MAX, **(small | fields))).to(torch.float64)


def cluster(n_atoms=6, seed=0, size=2.8):
    rng = np.random.default_rng(seed)
    positions = np.zeros((0, 3))
    while len(positions) < n_atoms:
        trial = rng.uniform(0, size, 3)
        if all(np.linalg.norm(positions - trial, axis=1) > 0.8):
            positions = np.vstack([positions, trial])
    return positions, rng.integers(0, 2, n_atoms)


def jump(model, positions, species, direction=(0.6, 0.0, -0.8), epsilon=1e-9):
    """Change of energy where an atom enters the sight of the outermost one, and of no other."""
    outermost = positions[np.argmax(positions @ direction)]
    energies = [
        float(results(model, np.vstack([positions, outermost + r * np.array(direction)]), np.append(species, 1)).energy)
        for r in (R_MAX - epsilon, R_MAX + epsilon)
    ]
    return energies[0] - energies[1]


@pytest.mark.parametrize("attention", ATTENTION)
def test_the_published_form_jumps(attention):
    """By tenths of the energy it has, whatever the weights; this is why it is not the default."""
    positions, species = cluster(4, seed=3)
    for seed in range(3):
        model = make(attention=attention, smooth_attention=False, seed=seed)
        assert abs(jump(model, positions, species)) > 1e-2
        # yet it depends on neighbours within the cut-off only
        wide, tight = results(model, positions, species, R_MAX + 2.0), results(model, positions, species)
        close(wide.energies, tight.energies, 1e-12)


def test_forces_of_a_dimer_end_at_the_cutoff():
    """They fall off with the envelope: as the square of the distance to the cut-off, without a step."""
    model = make()
    forces = [
        float(results(model, [[0.0, 0, 0], [0, 0, R_MAX - gap]], [0, 1]).forces.abs().max())
        for gap in (1e-2, 1e-3, 1e-4)
    ]
    assert forces[0] / forces[1] == pytest.approx(100.0, rel=0.1)
    assert forces[1] / forces[2] == pytest.approx(100.0, rel=0.01)
    assert forces[2] < 1e-6


@pytest.mark.parametrize("attention", ATTENTION)
def test_forces_of_the_published_form_are_finite_differences(attention):
    """The smooth form takes the conformance exam."""
    model = make(attention=attention, smooth_attention=False)
    positions, species = cluster(5, seed=2)
    forces, step = results(model, positions, species).forces, 1e-4
    for atom, axis in ((0, 0), (3, 2)):
        values = []
        for shift in (-2, -1, 1, 2):
            moved = positions.copy()
            moved[atom, axis] += shift * step
            values.append(float(results(model, moved, species).energy))
        slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
        assert -slope == pytest.approx(float(forces[atom, axis]), abs=1e-9)


@pytest.mark.parametrize("attention", ATTENTION)
def test_second_derivatives_and_no_edges(attention):
    """Twice differentiable also for atoms without neighbours, whose blocks of degree > 0 are zero."""
    model = make(attention=attention)
    senders, receivers = torch.tensor([1, 0, 2]), torch.tensor([0, 1, 1])
    vector = torch.tensor([[0.9, 0.3, -0.2], [-0.9, -0.3, 0.2], [0.4, -1.1, 0.8]], dtype=torch.float64)

    def energies(edge_vector):
        return model(torch.tensor([0, 1, 1, 0]), senders, receivers, edge_vector)  # nothing sees atoms 2 and 3

    assert torch.autograd.gradgradcheck(energies, [vector.requires_grad_(True)], atol=1e-7)
    alone = results(model, np.zeros((1, 3)), [0])
    close(alone.energies[0], energies(vector).detach()[3], 1e-14)
    assert torch.equal(alone.forces, torch.zeros(1, 3, dtype=torch.float64))


def test_only_what_is_reached_exists():
    """1e and 2o are made of two vectors, so behind the first block; the last block ends in scalars."""
    layers = [to_text(irreps) for irreps in make(n_layers=2).layer_irreps]
    every = "4x0e + 4x0o + 4x1e + 4x1o + 4x2e + 4x2o"
    assert layers == ["4x0e", "4x0e + 4x1o + 4x2e", every, "8x0e"]
    natural = [to_text(irreps) for irreps in make(parity="natural", n_channels=(6, 4, 2)).layer_irreps]
    assert natural == ["6x0e", "6x0e + 4x1o + 2x2e", "6x0e + 4x1o + 2x2e", "8x0e"]


def test_one_more_hop_than_blocks():
    """A chain: the degree embedding of the neighbour's neighbour is seen after one block."""
    positions = np.array([[0.9 * R_MAX * k, 0.1 * (k % 2), 0.0] for k in range(4)])
    model = make(n_layers=1)
    assert model.n_hops == 2
    before = results(model, positions, [0, 1, 0, 1]).energies[0]
    for atom, changes in ((2, True), (3, False)):
        moved = positions.copy()
        moved[atom, 1] += 0.2
        after = results(model, moved, [0, 1, 0, 1]).energies[0]
        assert (abs(float(after - before)) > 1e-7) == changes


@pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler on this machine")
def test_kernels_compute_the_same_with_two_derivatives():
    """Depth-wise products of edges run on the kernels of convolutions."""
    model = make(l_max=1, parity="natural", n_channels=8, n_layers=1)
    fused = fuse(copy.deepcopy(model))
    for n_atoms in (6, 1):
        structure = build_structure(*cluster(n_atoms), np.zeros((3, 3)), np.zeros(3, bool), R_MAX)
        found = []
        for each in (model, fused):
            evaluator = GradientEvaluator(each, create_graph=True)
            result = energy_forces_stress(evaluator, structure)
            loss = result.forces.square().sum() + result.energy.sum()
            weights = [p for p in each.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
            found.append((result.energies.detach(), result.forces.detach(), gradients))
        close(found[1][0], found[0][0], 1e-12)
        close(found[1][1], found[0][1], 1e-12)
        for one, other in zip(found[1][2], found[0][2], strict=True):
            close(one, other, 1e-10)


def test_radial_functions_do_not_vanish_at_the_cutoff():
    """The envelope comes with attention; so splines, which end at zero, cannot stand for them."""
    model = make()
    beyond = model.basis(torch.tensor([[R_MAX]], dtype=torch.float64))
    assert float(beyond.abs().max()) == 0.0
    assert float(model.blocks[0].attention.radial(beyond).detach().abs().max()) > 1e-3
    assert spline_obstacle(model)
