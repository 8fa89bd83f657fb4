"""Random structures: every species, plausible distances; moves that change nothing but names and places."""

import numpy as np
import pytest
import torch

from eqff.graph import edge_vectors
from eqff.validation.random_structures import permuted, random_structures
from eqff.validation.turns import rotation_matrix

SPECIES = ("C", "H", "O")


@pytest.mark.parametrize("species", [("H",), SPECIES, tuple("H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar".split())])
@pytest.mark.parametrize("r_max", [0.7, 5.0])
def test_random_structures(species, r_max):
    structures = random_structures(species, r_max, np.random.default_rng(0))
    assert {k for structure in structures for k in structure.species.tolist()} == set(range(len(species)))
    for structure in structures:
        length = edge_vectors(structure).norm(dim=1)
        assert len(length) > 0
        assert float(length.min()) > 0.1 * r_max
    assert bool(structures[-1].pbc.all())
    assert bool((structures[-1].edge_shift != 0).any())
    again = random_structures(species, r_max, np.random.default_rng(0))
    assert torch.equal(again[0].positions, structures[0].positions)


def test_moves():
    random = np.random.default_rng(3)
    turn = rotation_matrix(random)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), rtol=0, atol=1e-14)
    assert np.linalg.det(turn) == pytest.approx(1.0)
    for structure in random_structures(SPECIES, 4.0, random):
        other, order = permuted(structure, random)
        assert torch.equal(other.species, structure.species[order])
        key = other.receivers * len(order) + other.senders
        assert bool((key.diff() >= 0).all())
        mine = {(*order[torch.stack([r, s])].tolist(), *v) for r, s, v in edges(other)}
        assert mine == {(int(r), int(s), *v) for r, s, v in edges(structure)}


def edges(structure):
    vectors = [tuple(v) for v in edge_vectors(structure).tolist()]
    return zip(structure.receivers, structure.senders, vectors, strict=True)
