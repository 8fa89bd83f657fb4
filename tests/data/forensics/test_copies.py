import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqff.data.forensics.copies import copies
from eqff.data.forensics.survey import survey
from eqff.data.frame import Frame

NUMBERS = np.array([6, 6, 8, 1, 1, 1])
SPECIES = np.array([1, 6, 8])


def molecule(seed: int) -> Frame:
    random = np.random.default_rng(seed)
    grid = np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)])[:6]
    return Frame(atomic_numbers=NUMBERS, positions=1.5 * grid + random.normal(scale=0.15, size=(6, 3)))


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_fingerprints_do_not_see_place_orientation_and_numbering(seed):
    random = np.random.default_rng(seed)
    frame = molecule(seed)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    order = np.concatenate([random.permutation(2), [2], 3 + random.permutation(3)])
    same = Frame(atomic_numbers=NUMBERS, positions=(frame.positions @ turn + 7.0)[order])
    found = survey([frame, same], SPECIES).fingerprint
    assert found[0] == pytest.approx(found[1], abs=1e-9)


def test_distances_between_fingerprints_are_displacements():
    """Atoms moved at random by a known amount: the typical distance is that amount, over atoms."""
    random = np.random.default_rng(5)
    frames = [molecule(seed) for seed in range(60)]
    moved = [
        Frame(atomic_numbers=NUMBERS, positions=f.positions + random.normal(scale=0.005, size=(6, 3))) for f in frames
    ]
    one = survey(frames, SPECIES)
    other = survey(moved, SPECIES, one.scale)
    distance = np.linalg.norm(one.fingerprint - other.fingerprint, axis=1)
    assert np.median(distance) == pytest.approx(0.005 * np.sqrt(3.0), rel=0.35)


def test_periodic_copies_in_another_cell_of_the_same_crystal():
    cell = np.array([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 5.0]])
    frame = Frame(
        atomic_numbers=np.array([6, 8]),
        positions=np.array([[0.1, 0, 0], [1.5, 2.0, 2.5]]),
        cell=cell,
        pbc=np.ones(3, dtype=bool),
    )
    sheared = cell + np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    images = np.array([[3.0, 0.0, 0.0], [0.0, -4.0, 5.0]])
    moved = Frame(**{**vars(frame), "cell": sheared, "positions": frame.positions + images})
    prints = survey([frame, moved], SPECIES).fingerprint
    found = copies([frame, moved], prints, SPECIES)
    assert found.equal.tolist() == [[0, 1]]


def test_nearest_distances_in_covalent_radii():
    water = Frame(atomic_numbers=np.array([8, 1, 1]), positions=np.array([[0, 0, 0], [0.97, 0, 0], [-0.24, 0.93, 0]]))
    found = survey([water], SPECIES)
    assert found.closest[0] == pytest.approx(0.9605 / (0.66 + 0.31), abs=1e-3)
    assert found.closest_pair[0].tolist() == [0, 2]
    assert found.coordination[0].tolist() == [2, 1, 1]
    alone = survey([Frame(atomic_numbers=np.array([8]), positions=np.zeros((1, 3)))], SPECIES)
    assert np.isinf(alone.closest[0])
    assert np.isnan(alone.bond[0])


def test_copies_between_two_sets():
    ours, theirs = [molecule(s) for s in range(10)], [molecule(s) for s in (3, 40, 41, 7)]
    one = survey(ours, SPECIES)
    other = survey(theirs, SPECIES, one.scale)
    found = copies(ours, one.fingerprint, SPECIES, (theirs, other.fingerprint))
    assert sorted(map(tuple, found.equal.tolist())) == [(3, 0), (7, 3)]
    assert len(found.near) == 0
