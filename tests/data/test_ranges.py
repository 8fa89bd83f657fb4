import numpy as np
import pytest

from eqff.data.frame import Frame
from eqff.data.ranges import Ranges, Span


def test_span_is_that_of_numpy():
    values = np.random.default_rng(0).normal(loc=-4000.0, scale=0.1, size=500)
    span = Span()
    for value in values:
        span.add(float(value))
    assert (span.smallest, span.largest, span.n) == (values.min(), values.max(), 500)
    assert span.mean == pytest.approx(values.mean(), rel=1e-14)
    assert span.deviation == pytest.approx(values.std(), rel=1e-10)
    assert Span().plain() is None


@pytest.mark.parametrize("n_frames", [1, 7, 8, 9, 100, 1000])
def test_the_sample_is_even_and_small(n_frames):
    ranges = Ranges(n_sample=8)
    block = np.zeros((n_frames, 1, 3))
    for k in range(n_frames):
        block[k, 0, 0] = k
        ranges.add(Frame(atomic_numbers=np.array([1]), positions=block[k]))
    chosen = [int(frame.positions[0, 0]) for frame in ranges.sample]
    assert len(chosen) == min(n_frames, len(chosen))
    assert n_frames <= 8 or 4 <= len(chosen) <= 8
    assert len(set(np.diff(chosen))) <= 1
    assert chosen[0] == 0
    assert all(frame.positions.base is None for frame in ranges.sample)  # it does not hold the block


def test_of_frames(water_file):
    from eqff.data.reading.read import read_frames

    frames, ranges = read_frames(water_file), Ranges()
    for frame in frames:
        ranges.add(frame)
    assert ranges.energy.mean == pytest.approx(np.mean([f.energy for f in frames]))
    assert ranges.volume.largest == pytest.approx(7.830181431598573**3 / 48)
    assert ranges.pressure.smallest == pytest.approx(min(-f.stress[:3].mean() for f in frames))
    assert ranges.elements == {1, 8}
