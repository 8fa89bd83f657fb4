import numpy as np
import pytest

GPA = 160.21766208


def volume(frame) -> float:
    return abs(float(np.linalg.det(frame.cell)))


def test_a_right_stress_passes(examine, crystal):
    found = [f for f in examine("stress", crystal) if f.numbers]
    assert [f.severity for f in found] == ["pass"]
    assert found[0].numbers["slope"] == pytest.approx(1.0, abs=0.1)  # Lennard-Jones is a pair model
    assert found[0].numbers["correlation"] > 0.99


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("stress sign", lambda f: -f.stress),
        ("stress unit", lambda f: f.stress * GPA),
        ("stress unit", lambda f: f.stress * 10 * GPA),
        ("stress unit and sign", lambda f: -f.stress * GPA),
        ("stress unit and sign", lambda f: -f.stress * 10 * GPA),
        ("virial for stress", lambda f: -f.stress * volume(f)),
        ("virial for stress", lambda f: f.stress * volume(f)),
        ("stress order", lambda f: f.stress[[0, 1, 2, 5, 3, 4]]),
        ("stress order", lambda f: f.stress[[0, 1, 2, 4, 3, 5]]),
    ],
)
def test_wrong_stress_is_named(examine, changed, crystal, fault, change):
    assert fault in {f.fault for f in examine("stress", changed(crystal, stress=change)) if f.severity == "fail"}


def test_stress_of_other_frames(examine, changed, crystal):
    order = iter(np.random.default_rng(0).permutation(len(crystal)))
    shuffled = changed(crystal, stress=lambda f: crystal[next(order)].stress)
    assert "stress of other frames" in {f.fault for f in examine("stress", shuffled)}


def test_strained_copies_test_the_stress(examine, changed, perfect_crystals):
    """The same sites in many cells: dE = V stress : d strain."""
    right = examine("stress", perfect_crystals)
    found = next(f for f in right if "strained copies" in f.message)
    assert found.severity == "pass"
    assert found.numbers["slope"] == pytest.approx(1.0, abs=0.03)
    assert found.numbers["correlation"] > 0.999
    wrong = examine("stress", changed(perfect_crystals, stress=lambda f: -f.stress * volume(f)))
    assert "virial for stress" in {f.fault for f in wrong if "strained copies" in f.message}


def test_nothing_to_test(examine, changed, crystal, ethanol):
    assert examine("stress", ethanol) == []
    without = examine("stress", changed(crystal, stress=lambda f: None))
    assert [f.severity for f in without] == ["not testable"]
    broken = examine("stress", changed(crystal, forces=lambda f: -f.forces))
    assert [f.severity for f in broken] == ["not testable"]
