"""Which atoms know of which: receptive field, fragments, isolated atoms, batches, directed lists with ghosts."""

import numpy as np
import torch

from eqff.exporter import measure_n_hops
from eqff.graph import batch_structures, edge_vectors
from eqff.neighbors import build_structure
from eqff.potential import GradientEvaluator

from ..exam import Exam, close, cluster, crystal, edges_of, same


def receptive_field(exam: Exam) -> None:
    """On a chain, the first atom's energy depends on the atom n_hops bonds away and on none behind it."""
    n_hops = exam.model.n_hops
    n_atoms = n_hops + 3
    positions = exam.r_max * np.stack([0.7 * np.arange(n_atoms), 0.05 * (np.arange(n_atoms) % 3), np.zeros(n_atoms)], 1)
    frame = exam.structure(positions, np.arange(n_atoms) % 2)
    frame = frame._replace(positions=frame.positions.requires_grad_(True))
    (gradient,) = torch.autograd.grad(exam.model(*edges_of(frame))[0], frame.positions)
    reached = int(gradient.abs().sum(1).nonzero().max())
    assert reached == n_hops, f"n_hops={n_hops}, but an atom's energy depends on the atom {reached} bonds away"
    measured = measure_n_hops(exam.model, n_hops + 3, exam.r_max, 2)
    assert measured == n_hops, f"n_hops={n_hops}, but export measures {measured}"


def receivers_alone(exam: Exam) -> None:
    """An edge changes the energy of the atom that receives it, not of its sender: two edges 0 <- 1 and 2 <- 3."""
    vector = exam.r_max * torch.tensor([[0.5, 0.0, 0.1], [0.0, 0.6, 0.0]], dtype=torch.float64)
    longer = vector * torch.tensor([[1.1], [1.0]], dtype=torch.float64)
    species, senders, receivers = torch.tensor([0, 1, 1, 0]), torch.tensor([1, 3]), torch.tensor([0, 2])
    energies = [exam.model(species, senders, receivers, edge_vector).detach() for edge_vector in (vector, longer)]
    change = (energies[1] - energies[0]).abs()
    assert float(change[0]) > 1e-6, "an edge does not change its receiver's energy"
    assert float(change[1:].max()) <= 1e-12, f"an edge changes energies of other atoms than its receiver's: {change}"


def fragments(exam: Exam) -> None:
    """Molecules that do not see each other add up."""
    one, other = cluster(exam.r_max, 5, seed=1), cluster(exam.r_max, 4, seed=2)
    both = np.vstack([one[0], other[0] + 20.0 * exam.r_max]), np.concatenate([one[1], other[1]])
    together, parts = exam.results(*both), [exam.results(*one), exam.results(*other)]
    close(together.energies, torch.cat([part.energies for part in parts]), 1e-11, "energies of distant fragments, eV")
    close(together.forces, torch.cat([part.forces for part in parts]), 1e-11, "forces of distant fragments, eV/Å")


def isolated_atoms(exam: Exam) -> None:
    """Without any edge energies are finite, the same alone and together, and forces exactly zero."""
    for species in ([0], [1], [1, 0, 1]):
        positions = 7.0 * exam.r_max * np.arange(len(species))[:, None] * np.ones(3)
        result = exam.results(positions, species)
        assert bool(torch.isfinite(result.energies).all()), f"energies {result.energies} of isolated atoms"
        assert not bool(result.forces.any()), "isolated atoms feel a force"
        alone = torch.cat([exam.results(positions[:1], [s]).energies for s in species])
        close(result.energies, alone, 1e-12, "energies of isolated atoms together and alone, eV")


def atom_without_edges_in_a_batch(exam: Exam) -> None:
    """A lone atom between two molecules of one batch."""
    molecules = [exam.structure(*cluster(exam.r_max, n, seed=n)) for n in (5, 3)]
    lone = exam.structure(np.ones((1, 3)), [1])
    batch = exam.evaluate(batch_structures([molecules[0], lone, molecules[1]]))
    assert bool(torch.isfinite(batch.forces).all()), "forces are not finite"
    assert not bool(batch.forces[5].any()), "the lone atom feels a force"
    parts = [exam.evaluate(structure) for structure in (molecules[0], lone, molecules[1])]
    close(batch.energy, torch.cat([part.energy for part in parts]), 1e-11, "energies with a lone atom in a batch, eV")


def batch_is_single(exam: Exam) -> None:
    """Structures of different shapes, periodic and not, in one call and one by one: energy, forces, virial."""
    points, species, cell = crystal(exam.r_max)
    frames = [exam.structure(*cluster(exam.r_max, n, seed=n)) for n in (6, 2, 9)] + [
        exam.structure(points, species, cell)
    ]
    together, parts = exam.evaluate(batch_structures(frames)), [exam.evaluate(frame) for frame in frames]
    for name, tolerance in (("energy", 1e-11), ("energies", 1e-11), ("forces", 1e-11), ("strain_gradient", 1e-10)):
        alone = torch.cat([getattr(part, name) for part in parts])
        close(getattr(together, name), alone, tolerance, f"{name} in a batch and alone")


def ghosts(exam: Exam) -> None:
    """One cell of a crystal with ghost atoms around it, as a parallel engine holds it: energies, forces, virial.

    Ghosts nearer than (n_hops - 1) r_max have their edges, those behind have none: the list is directed.
    """
    positions, species, cell = crystal(exam.r_max)
    whole = exam.results(positions, species, cell)
    n, halo = len(positions), exam.model.n_hops * exam.r_max
    steps = 2 + int(halo / np.linalg.norm(np.linalg.inv(cell), axis=0).max() ** -1)
    grid = np.stack(np.meshgrid(*[np.arange(-steps, steps + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    grid = grid[np.argsort(np.abs(grid).sum(1), kind="stable")]  # the cell itself comes first
    points = (positions + (grid @ cell)[:, None]).reshape(-1, 3)
    distance = np.min([np.linalg.norm(points - p, axis=1) for p in positions], axis=0)
    kept = distance < halo
    parents = np.tile(np.arange(n), len(grid))[kept]
    frame = build_structure(points[kept], species[parents], np.zeros((3, 3)), np.zeros(3, bool), exam.r_max)
    inner = torch.tensor(distance[kept] < halo - exam.r_max)[frame.receivers]
    frame = frame._replace(
        senders=frame.senders[inner], receivers=frame.receivers[inner], edge_shift=frame.edge_shift[inner]
    )
    weight = torch.zeros(int(kept.sum()), dtype=torch.float64)
    weight[:n] = 1.0
    vector = edge_vectors(frame)
    energies, gradient = GradientEvaluator(exam.model)(frame.species, frame.senders, frame.receivers, vector, weight)
    close(energies[:n], whole.energies, 1e-11, "energies of owned atoms, eV")
    back = torch.tensor(parents)
    forces = torch.zeros(n, 3, dtype=torch.float64)
    forces.index_add_(0, back[frame.receivers], gradient).index_add_(0, back[frame.senders], -gradient)
    close(forces, whole.forces, 1e-11, "forces, those on ghosts given back to their atoms, eV/Å")
    virial = vector.T @ gradient
    close((virial + virial.T) / 2, whole.strain_gradient[0], 1e-10, "virial with ghosts, eV")


def node_weight(exam: Exam) -> None:
    """The gradient is linear in the weights of atoms: the sum over single atoms is that of all."""
    frame = exam.structure(*cluster(exam.r_max, 5, seed=5))
    inputs = edges_of(frame)
    evaluator = GradientEvaluator(exam.model)
    single = [evaluator(*inputs, weight)[1] for weight in torch.eye(5, dtype=torch.float64)]
    close(sum(single), evaluator(*inputs, torch.ones(5, dtype=torch.float64))[1], 1e-11, "gradient, atom by atom")
    mixed = torch.tensor([0.3, -1.0, 0.0, 2.0, 0.0], dtype=torch.float64)
    combined = sum(w * gradient for w, gradient in zip(mixed, single, strict=True))
    close(combined, evaluator(*inputs, mixed)[1], 1e-11, "gradient of weighted atoms")
    assert not bool(evaluator(*inputs, torch.zeros(5, dtype=torch.float64))[1].any()), "weight 0 has a gradient"


def edges_beyond_the_cutoff(exam: Exam) -> None:
    """A list with a skin gives the same numbers; one with nothing inside the cut-off those of no list at all."""
    positions, species = cluster(exam.r_max)
    tight, wide = exam.structure(positions, species), exam.structure(positions, species, reach=exam.r_max + 1.5)
    assert wide.senders.shape[0] > tight.senders.shape[0], "the skin has no edges"
    same(exam.evaluate(wide), exam.evaluate(tight), "with a skin")
    points, kinds, cell = crystal(exam.r_max)
    tight, wide = (exam.structure(points, kinds, cell, reach=exam.r_max + skin) for skin in (0.0, 0.5))
    same(exam.evaluate(wide), exam.evaluate(tight), "with a skin, periodic")

    frame = exam.structure(positions * 10.0, species, reach=20.0 * exam.r_max)
    assert frame.senders.shape[0] == 8 * 7
    edge_vector = edge_vectors(frame).requires_grad_(True)
    energies = exam.model(frame.species, frame.senders, frame.receivers, edge_vector)
    none = torch.zeros(0, dtype=torch.int64)
    alone = exam.model(frame.species, none, none, torch.zeros(0, 3, dtype=torch.float64))
    close(energies, alone, 0.0, "energies with edges that are all too long, eV")
    (gradient,) = torch.autograd.grad(energies.sum(), edge_vector)
    assert not bool(gradient.any()), "edges beyond the cut-off have a gradient"
