"""Two sources of frames, numbered one after the other."""

import numpy as np
import pytest

from eqff.data.frame import Frame
from eqff.data.frame_list import FrameList
from eqff.data.joined import Joined


def frame(number: int, n_atoms: int, energy: float | None = None) -> Frame:
    return Frame(atomic_numbers=np.full(n_atoms, number), positions=np.zeros((n_atoms, 3)), energy=energy)


def test_frames_of_both_sources_in_any_order() -> None:
    own, foreign = [frame(1, 2, 0.5), frame(8, 1)], [frame(14, 3), frame(1, 4), frame(6, 5, 2.0)]
    joined = Joined(FrameList(own), FrameList(foreign))
    everything = [*own, *foreign]
    assert [id(one) for one in joined] == [id(one) for one in everything]
    assert (len(joined), joined.species) == (5, [1, 6, 8, 14])
    assert joined.n_atoms.tolist() == [2, 1, 3, 4, 5]
    assert joined.has("energy").tolist() == [True, False, False, False, True]
    order = [4, 0, 2, 1, 4]
    assert [id(one) for one in joined.frames_at(order)] == [id(everything[k]) for k in order]
    assert [id(joined[k]) for k in (1, 2, -1)] == [id(everything[k]) for k in (1, 2, 4)]
    for outside in (5, -6):
        with pytest.raises(IndexError):
            joined[outside]
