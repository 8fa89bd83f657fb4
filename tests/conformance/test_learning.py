"""Training and dynamics of every family."""

import pytest

from . import learning
from .exam import Exam, prepared
from .faults import FAULTS, planted

BREAKERS = ("envelope removed", "direction of edges detached", "softmax as published")


@pytest.mark.slow
def test_five_frames_are_learnt_by_heart(exam: Exam) -> None:
    assert learning.over_fit(exam) < learning.WANTED


@pytest.mark.slow
def test_energy_is_conserved(exam: Exam) -> None:
    assert learning.conservation(exam) == pytest.approx(4.0, abs=0.4)


@pytest.mark.slow
@pytest.mark.parametrize("what", BREAKERS)
def test_energy_is_not_conserved_by_a_broken_model(what: str) -> None:
    (fault,) = [fault for fault in FAULTS if fault.what == what]
    with (
        planted(fault, prepared("se3_transformer")) as broken,
        pytest.raises(AssertionError, match=r"instead of 4|drifts"),
    ):
        learning.conservation(broken)
