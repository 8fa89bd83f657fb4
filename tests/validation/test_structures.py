"""Structures that every exported file is proved on."""

import numpy as np
from ase.data import covalent_radii

from eqff.elements import SYMBOLS, atomic_number
from eqff.graph import edge_vectors
from eqff.validation.structures import example_structures


def test_example_structures_are_the_three_shapes():
    atom, molecule, crystal = example_structures(["H", "C", "O"], 5.0)
    assert (atom.positions.shape[0], atom.senders.shape[0]) == (1, 0)
    assert set(molecule.species.tolist()) == {0, 1, 2}
    assert not molecule.pbc.any()
    assert float(edge_vectors(molecule).norm(dim=1).min()) > 0.5
    assert bool(crystal.pbc.all())
    assert bool((crystal.senders == crystal.receivers).any())


def test_large_atoms_are_not_pressed_together():
    for species in (["Si", "Mo"], ["Cs", "I"], ["H", "C", "O"], [*SYMBOLS[1:90]]):
        radius = np.array([covalent_radii[atomic_number(symbol)] for symbol in species])
        _, molecule, _ = example_structures(species, 5.0)
        largest = radius[molecule.species].max()
        assert float(edge_vectors(molecule).norm(dim=1).min()) > min(1.2 * largest, 0.35 * 5.0)
        assert len(molecule.senders) > 0
