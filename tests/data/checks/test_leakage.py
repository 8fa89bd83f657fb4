from dataclasses import replace

import numpy as np

from eqff.data.forensics.examination import check_frames, check_split
from eqff.data.splits import split_from_indices


def test_separate_parts(examine, ethanol):
    found = examine("leakage", ethanol[:30], ethanol[30:])
    assert {f.severity for f in found} == {"pass"}


def test_without_another_part_there_is_nothing_to_say(examine, ethanol):
    assert examine("leakage", ethanol) == []


def test_known_frames_are_named_even_if_turned(examine, ethanol):
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned = replace(ethanol[5], positions=ethanol[5].positions @ turn + 2.0)
    found = examine("leakage", ethanol[:30], [*ethanol[30:], turned])
    known = [f for f in found if f.fault == "leakage"]
    assert [(f.severity, f.frames) for f in known] == [("fail", (5,))]
    assert "frame 5 is 30 there" in known[0].message


def test_neighbours_in_time(examine, trajectory):
    found = examine("leakage", trajectory[::2], trajectory[1::2])
    assert [(f.severity, f.fault) for f in found] == [("fail", "neighbours in time")]
    blocks = examine("leakage", trajectory[:5], trajectory[-5:])
    assert [f.severity for f in blocks] == ["pass"]


def test_a_split_is_looked_at(ethanol):
    frames = [*ethanol, ethanol[2]]
    report = check_frames(frames[:60])
    split = split_from_indices(61, train=range(40), validation=range(40, 50), test=range(50, 61))
    found = [f for f in check_split(report, frames, split).findings if f.fault == "leakage"]
    assert [f.frames for f in found] == [(60,)]
    assert found[0].message.startswith("test: ")
