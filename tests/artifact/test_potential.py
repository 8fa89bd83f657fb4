"""Potential.predict: the same as one by one, whatever is packed together."""

from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given
from hypothesis import strategies as st
from toys import Bonds, potential_of

from eqff.engines.ase import EqffCalculator
from eqff.errors import ConfigError, GraphError, RunError
from eqff.graph import grouped


def mixture():
    """Molecules, an atom alone, a slab and crystals, none alike."""
    slab = Atoms("C2H", [[0, 0, 0], [1.5, 0, 0], [0, 0, 1.1]], cell=[3.1, 2.9, 0], pbc=[True, True, False])
    crystal = bulk("C", "diamond", a=3.2)
    frames = [molecule("CH3CH2OH"), Atoms("O"), crystal, molecule("H2O"), slab, crystal * (2, 1, 1), molecule("CH4")]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=seed)
    return frames


@pytest.mark.parametrize("max_edges", [1, 100, 10_000, None])
def test_predict_equals_one_by_one_in_order(max_edges):
    frames = mixture()
    predictions = potential_of(Bonds()).predict(frames, max_edges=max_edges)
    assert len(predictions) == len(frames)
    for atoms, found in zip(frames, predictions, strict=True):
        calculator = EqffCalculator(potential_of(Bonds()))
        calculator.calculate(atoms)
        assert found.energy == pytest.approx(calculator.results["energy"], abs=1e-10)
        np.testing.assert_allclose(found.energies, calculator.results["energies"], atol=1e-10)
        np.testing.assert_allclose(found.forces, calculator.results["forces"], atol=1e-10)
        assert (found.stress is None) == (not atoms.pbc.all())
        if found.stress is not None:
            np.testing.assert_allclose(found.stress, calculator.results["stress"], atol=1e-10)
        assert found.forces.flags.owndata


def test_batches_are_packed_by_edges():
    potential = potential_of(Bonds())
    frames = [molecule("H2O")] * 10  # 6 edges each
    potential.predict(frames, max_edges=13)
    assert potential.evaluator.n_edges == [12] * 5
    potential.evaluator.n_edges.clear()
    potential.predict([molecule("CH3CH2OH"), *frames[:2]], max_edges=13)
    assert potential.evaluator.n_edges == [70, 12]  # larger than allowed: alone


@given(st.lists(st.integers(1, 50)), st.integers(1, 60))
def test_groups_are_full_keep_order_and_lose_nothing(sizes, limit):
    groups = list(grouped(sizes, int, limit))
    assert [size for group in groups for size in group] == sizes
    assert all(sum(group) <= limit or len(group) == 1 for group in groups)
    assert all(sum(one) + other[0] > limit for one, other in pairwise(groups))


def test_groups_are_made_when_needed():
    taken = []
    stream = grouped((taken.append(k) or k for k in range(100)), lambda _: 1, 3)
    assert next(stream) == [0, 1, 2]
    assert len(taken) == 4


def test_nothing_gives_nothing():
    assert potential_of(Bonds()).predict([]) == []


def test_what_cannot_be_predicted_is_named():
    potential = potential_of(Bonds())
    with pytest.raises(GraphError, match=r"EQ2101: structure 1: species: atom 0 is Ar"):
        potential.predict([molecule("H2O"), Atoms("Ar")])
    with pytest.raises(GraphError, match="structure 2: positions: atom 0 is not finite"):
        potential.predict([molecule("H2O"), molecule("H2O"), Atoms("O", [[np.nan, 0, 0]])])
    with pytest.raises(GraphError, match=r"structure 0: positions: atoms 0 and 1"):
        potential.predict([Atoms("H2", [[0, 0, 0], [0, 0, 0.001]])])
    with pytest.raises(ConfigError, match="EQ1220: max_edges=0"):
        potential.predict([], max_edges=0)


def test_results_that_are_not_finite_are_refused():
    class Broken(Bonds):
        def forward(self, species, senders, receivers, edge_vector):
            energy = super().forward(species, senders, receivers, edge_vector)
            return energy + (float("nan") * energy[species == 2]).sum()  # oxygen spoils all that is evaluated with it

    with pytest.raises(RunError, match=r"EQ5301: structure 1: atom 0 "):
        potential_of(Broken()).predict([molecule("CH4"), molecule("H2O")])


def test_an_unknown_composition_is_told_once():
    header = {"training_data": {"compositions": ["C2H6O", "H2O"]}}
    potential = potential_of(Bonds(), header=header)
    dimer = molecule("CH3CH2OH")
    other = molecule("CH3CH2OH")
    other.translate([0, 0, 5])
    potential.predict([dimer + other, molecule("H2O")])  # sums of what is known: a warning would be an error here
    with pytest.warns(UserWarning, match="trained on C2H6O, H2O only") as caught:
        potential.predict([molecule("CH4")] * 50, max_edges=30)
    assert len(caught) == 1
    assert potential.knows_composition([6, 2, 1])
    assert potential.knows_composition([4, 2, 0])  # ethanol - water
    assert not potential.knows_composition([4, 1, 0])
    assert potential_of(Bonds()).knows_composition([4, 1, 0])  # nothing is said: nothing is claimed
