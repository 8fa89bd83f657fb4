"""Structures that every exported file is proved on."""

from eqff.graph import edge_vectors
from eqff.validation.structures import example_structures


def test_example_structures_are_the_three_shapes():
    atom, molecule, crystal = example_structures(3, 5.0)
    assert (atom.positions.shape[0], atom.senders.shape[0]) == (1, 0)
    assert set(molecule.species.tolist()) == {0, 1, 2}
    assert not molecule.pbc.any()
    assert float(edge_vectors(molecule).norm(dim=1).min()) > 0.5
    assert bool(crystal.pbc.all())
    assert bool((crystal.senders == crystal.receivers).any())
