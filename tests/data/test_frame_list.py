"""A list, a store and differences answer the same questions about the same frames."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eqff.artifact.potential import Prediction
from eqff.data.differences import Differences
from eqff.data.frame import Frame
from eqff.data.frame_list import READ_TOGETHER, FrameList, Frames, read_in_groups
from eqff.data.store.store import Store, write_store


def water(n_atoms: int, energy: float | None) -> Frame:
    numbers = np.array([8, 1, 1, 6][:n_atoms])
    positions = np.arange(3.0 * n_atoms).reshape(n_atoms, 3)
    return Frame(atomic_numbers=numbers, positions=positions, energy=energy, forces=np.ones((n_atoms, 3)))


FRAMES = [water(3, 1.0), water(4, None), water(2, 3.0)]


def check_answers(frames: Frames) -> None:
    assert len(frames) == 3
    assert frames.species == [1, 6, 8]
    assert frames.n_atoms.tolist() == [3, 4, 2]
    assert frames.has("energy").tolist() == [True, False, True]
    assert frames.has("forces").all()
    assert not frames.has("stress").any()
    assert [len(frame.positions) for frame in frames.frames_at([2, 0])] == [2, 3]
    assert [len(frame.positions) for frame in frames] == [3, 4, 2]
    np.testing.assert_array_equal(frames[1].positions, FRAMES[1].positions)


def test_all_three_answer_alike(tmp_path: Path) -> None:
    check_answers(FrameList(FRAMES))
    write_store(tmp_path / "a.h5", FRAMES)
    with Store(tmp_path / "a.h5") as store:
        check_answers(store)
        check_answers(Differences(store, {}))
    check_answers(Differences(FrameList(FRAMES), {}))


def test_differences_are_the_same_one_by_one_and_together() -> None:
    results = {2: Prediction(1.0, None, np.full((2, 3), 0.25), None)}
    frames = Differences(FrameList(FRAMES), results)
    for frame in (frames[2], frames.frames_at([0, 2])[1], list(frames)[2]):
        assert frame.energy == 2.0
        assert (frame.forces == 0.75).all()
    assert np.isnan(frames[0].energy)  # nobody may train on it by mistake
    assert frames[1].energy is None


@pytest.mark.parametrize("n_frames", [1, READ_TOGETHER, READ_TOGETHER + 1])
def test_frames_are_read_in_groups_in_the_order_asked_for(n_frames: int) -> None:
    frames = FrameList([replace(FRAMES[0], energy=float(k)) for k in range(n_frames)])
    rows = np.random.default_rng(0).permutation(n_frames)
    assert [(row, frame.energy) for row, frame in read_in_groups(frames, rows)] == [(row, float(row)) for row in rows]
