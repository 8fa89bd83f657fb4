"""Energy and forces under rotation, inversion, translation, permutation, and choices of the cell."""

import numpy as np
import torch

from eqff.graph import batch_structures

from ..exam import Exam, close, cluster, crystal, edges_of, rotation_matrix, same

AXES = [np.array(axis, dtype=float) for axis in ([1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1])]
NEARLY = (0.0, 1e-9, 1e-7, 1e-4)  # radians off an axis


def rotation(exam: Exam) -> None:
    """E(R x) = E(x), F(R x) = R F(x); for the stress of a crystal, too."""
    positions, species = cluster(exam.r_max)
    still = exam.results(positions, species)
    for seed in (1, 2):
        turn = rotation_matrix(seed)
        turned = exam.results(positions @ turn.T, species)
        close(turned.energies, still.energies, 1e-11, "energies turned, eV")
        close(turned.forces, still.forces @ torch.tensor(turn).T, 1e-11, "forces turned, eV/Å")
    points, kinds, cell = crystal(exam.r_max)
    still, turned = exam.results(points, kinds, cell), exam.results(points @ turn.T, kinds, cell @ turn.T)
    turn = torch.tensor(turn)
    close(turned.energy, still.energy, 1e-10, "energy of a crystal turned, eV")
    close(turned.strain_gradient, turn @ still.strain_gradient @ turn.T, 1e-10, "virial turned, eV")


def rotation_onto_axes(exam: Exam) -> None:
    """Turns that put an edge on each axis, and hardly off it: the poles of spherical coordinates are among them."""
    positions, _ = cluster(exam.r_max)
    edge = positions[1] - positions[0]
    edge *= 0.5 * exam.r_max / np.linalg.norm(edge)
    centre = positions[0]
    far = np.linalg.norm(positions - centre, axis=1) > 0.3 * exam.r_max
    points = np.vstack([centre, centre + edge, (positions - centre)[far] * 1.2 + centre])
    points = points[[0, 1, *(k for k in range(2, len(points)) if np.linalg.norm(points[k] - points[1]) > 0.8)]]
    kinds = np.arange(len(points)) % 2
    still = exam.results(points, kinds)
    turns, structures = [], []
    for axis in AXES:
        for angle in NEARLY:
            turn = tilt(axis, angle) @ onto(edge, axis)
            moved = (points - centre) @ turn.T
            if angle == 0.0:
                moved[1] = axis * np.linalg.norm(edge)  # exactly, not up to rounding
            turns.append(torch.tensor(turn))
            structures.append(exam.structure(moved, kinds))
    result = exam.evaluate(batch_structures(structures))
    n = len(kinds)
    for k, turn in enumerate(turns):
        where = f"edge {NEARLY[k % len(NEARLY)]:g} off axis {AXES[k // len(NEARLY)]}"
        close(result.energies[n * k : n * k + n], still.energies, 1e-11, f"energies, eV, {where}")
        close(result.forces[n * k : n * k + n], still.forces @ turn.T, 1e-10, f"forces, eV/Å, {where}")


def inversion(exam: Exam) -> None:
    """O(3): mirror images have equal energies. SE(3): they have not, or else the family should promise O(3)."""
    positions, species = cluster(exam.r_max)
    still, inverted = exam.results(positions, species), exam.results(-positions, species)
    symmetry = exam.model.symmetry
    assert exam.family.SYMMETRY in ("O(3)", "SE(3)"), f"SYMMETRY={exam.family.SYMMETRY!r}: O(3) or SE(3)"
    assert symmetry == exam.family.SYMMETRY or "-" in exam.name, f"the model says {symmetry}, its file another thing"
    if symmetry == "SE(3)":
        change = float((inverted.energy - still.energy).abs())
        assert change > 1e-6, f"energy is the same after inversion ({change:.1e} eV): this is O(3), promise it"
        return
    close(inverted.energies, still.energies, 1e-11, "energies inverted, eV")
    close(inverted.forces, -still.forces, 1e-11, "forces inverted, eV/Å")
    mirror = torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))
    mirrored = exam.results(positions @ mirror.numpy(), species)
    close(mirrored.energies, still.energies, 1e-11, "energies in a mirror, eV")
    close(mirrored.forces, still.forces @ mirror, 1e-11, "forces in a mirror, eV/Å")


def translation(exam: Exam) -> None:
    """Anywhere, up to the rounding of coordinates."""
    positions, species = cluster(exam.r_max)
    still = exam.results(positions, species)
    for shift, tolerance in ((np.array([1.7, -0.3, 11.0]), 1e-12), (np.array([-1e4, 3e3, 2e4]), 1e-9)):
        moved = exam.results(positions + shift, species)
        close(moved.energies, still.energies, tolerance, f"energies moved by {shift}, eV")
        close(moved.forces, still.forces, 10 * tolerance, f"forces moved by {shift}, eV/Å")


def permutation_of_atoms(exam: Exam) -> None:
    """Order of atoms does not matter."""
    positions, species = cluster(exam.r_max)
    order = np.random.default_rng(5).permutation(len(species))
    same(exam.results(positions[order], species[order]), exam.results(positions, species), "in another order", order)


def permutation_of_edges(exam: Exam) -> None:
    """Lists come sorted, and kernels may rely on that; the model itself does not."""
    species, senders, receivers, edge_vector = edges_of(exam.structure(*cluster(exam.r_max)))
    place = receivers * len(species) + senders
    assert bool((place[1:] >= place[:-1]).all()), "edges are not sorted by (receiver, sender)"
    order = torch.randperm(len(senders), generator=torch.Generator().manual_seed(1))
    shuffled = exam.model(species, senders[order], receivers[order], edge_vector[order])
    close(shuffled, exam.model(species, senders, receivers, edge_vector), 1e-11, "energies of shuffled edges, eV")


def lattice(exam: Exam) -> None:
    """Atoms moved by lattice vectors, and another cell of the same lattice."""
    positions, species, cell = crystal(exam.r_max)
    here = exam.results(positions, species, cell)
    there = exam.results(positions + np.array([[1, -2, 0], [0, 0, 3], [-1, 0, 1]]) @ cell, species, cell)
    same(there, here, "atoms moved by lattice vectors")
    close(there.strain_gradient, here.strain_gradient, 1e-10, "virial, atoms moved by lattice vectors, eV")
    other = np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ cell
    chosen = exam.results(positions, species, other)
    same(chosen, here, "another cell of the same lattice")
    close(chosen.strain_gradient, here.strain_gradient, 1e-10, "virial, another cell of the same lattice, eV")


def supercell(exam: Exam) -> None:
    """n cells have n times the energy and virial, and the same forces."""
    positions, species, cell = crystal(exam.r_max)
    one = exam.results(positions, species, cell)
    shifts = np.array([[i, j, 0] for i in range(2) for j in range(3)]) @ cell
    repeated = np.concatenate([positions + shift for shift in shifts])
    many = exam.results(repeated, np.tile(species, 6), np.diag([2, 3, 1]) @ cell)
    close(many.energies, one.energies.repeat(6), 1e-11, "energies of atoms in a supercell, eV")
    close(many.forces, one.forces.repeat(6, 1), 1e-11, "forces in a supercell, eV/Å")
    close(many.strain_gradient, 6 * one.strain_gradient, 1e-9, "virial of a supercell, eV")


def invariant_features(exam: Exam) -> None:
    """What `features` gives does not turn with the structure."""
    positions, species = cluster(exam.r_max)
    still, turned = (features(exam, points, species) for points in (positions, positions @ rotation_matrix(3).T))
    size = float(still.abs().max())
    assert still.shape[0] == len(species), f"features {list(still.shape)} are not one row an atom"
    assert size > 0.0, "features are all zero"
    close(turned, still, 1e-11 * max(size, 1.0), "features turned")


def features(exam: Exam, positions: np.ndarray, species: np.ndarray) -> torch.Tensor:
    species, senders, receivers, edge_vector = edges_of(exam.structure(positions, species))
    geometry = exam.model.geometry(edge_vector)
    h = exam.model.embed(species, senders, receivers, geometry)
    for k in range(exam.model.n_hops):
        h = exam.model.interact(k, h, species, senders, receivers, geometry)
    return exam.model.features(h).detach()


def tilt(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation by a small angle about a direction at right angles to `axis`, none of whose components is zero."""
    helper = np.array([0.6, -0.5, 0.62])
    normal = np.cross(axis, helper)
    return about(normal / np.linalg.norm(normal), angle)


def onto(vector: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Rotation that turns `vector` into the direction of `axis`."""
    unit = vector / np.linalg.norm(vector)
    normal = np.cross(unit, axis)
    return about(normal / np.linalg.norm(normal), np.arctan2(np.linalg.norm(normal), unit @ axis))


def about(unit: np.ndarray, angle: float) -> np.ndarray:
    """Rotation matrix, Rodrigues' formula."""
    K = np.array([[0, -unit[2], unit[1]], [unit[2], 0, -unit[0]], [-unit[1], unit[0], 0]])
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * (K @ K)
