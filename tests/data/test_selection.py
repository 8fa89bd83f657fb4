import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqff.data.selection import distinct, farthest_points
from eqff.errors import ConfigError


@given(st.integers(1, 40), st.integers(0, 1000), st.data())
def test_farthest_points_by_brute_force(n_frames, seed, data):
    vectors = np.random.default_rng(seed).normal(size=(n_frames, 3))
    n_chosen = data.draw(st.integers(1, n_frames))
    found = farthest_points(vectors, n_chosen)
    chosen = found.indices.tolist()
    assert len(set(chosen)) == n_chosen
    from_mean = np.linalg.norm(vectors - vectors.mean(axis=0), axis=1)
    assert from_mean[chosen[0]] == pytest.approx(from_mean.max())  # of equally far ones, two frames say, any
    between = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    for k in range(1, n_chosen):
        nearest = between[:, chosen[:k]].min(axis=1)
        assert nearest[chosen[k]] == pytest.approx(nearest.max())
    assert found.radius == pytest.approx(between[:, chosen].min(axis=1).max(), abs=1e-12)
    assert (np.diff(found.distance[1:]) <= 1e-12).all()  # each is nearer than the one before
    if n_chosen > 1:
        assert found.distance[-1] >= found.radius - 1e-12


def test_corners_before_the_crowd():
    """A crowd in the middle and four corners: five points are one of the crowd and all corners."""
    crowd = np.random.default_rng(0).normal(scale=0.1, size=(500, 2))
    corners = np.array([[9.0, 9], [9, -9], [-9, 9], [-9, -9]])
    found = farthest_points(np.concatenate([crowd, corners]), 5)
    assert {500, 501, 502, 503} < set(found.indices.tolist())
    beside = farthest_points(np.concatenate([crowd, corners]), 1, near=np.array([[9.0, 9], [9, -9], [0.0, 0], [-9, 9]]))
    assert beside.indices.tolist() == [503]


def test_frames_that_repeat_are_not_chosen_twice():
    found = farthest_points(np.array([[0.0], [1.0], [0.0], [1.0], [0.0]]), 4)
    assert sorted(found.indices.tolist()) == [0, 1]
    assert found.radius == 0.0


def test_numbers_that_cannot_be():
    for n_chosen in (0, 4):
        with pytest.raises(ConfigError, match="EQ1952"):
            farthest_points(np.zeros((3, 2)), n_chosen)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.floats(0.0, 3.0), st.integers(1, 3))
def test_distinct_by_brute_force(places, tolerance, size):
    vectors = np.array(places, dtype=float)[:, None] * np.arange(1, size + 1)
    kept, original = distinct(vectors, tolerance)
    expected, first = [], []
    for i, vector in enumerate(vectors):
        same = [k for k in expected if np.linalg.norm(vectors[k] - vector) <= tolerance]
        first.append(same[0] if same else i)
        if not same:
            expected.append(i)
    assert kept.tolist() == expected
    assert original.tolist() == first
