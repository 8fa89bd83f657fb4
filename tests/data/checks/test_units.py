import numpy as np
import pytest

from eqff.data.forensics.examination import check_frames
from eqff.units import BOHR, HARTREE, KCAL_PER_MOL


def faults(findings) -> set[str]:
    return {f.fault for f in findings if f.severity in ("warning", "fail")}


def test_right_labels_pass(examine, ethanol, crystal, trajectory):
    for frames in (ethanol, crystal, trajectory):
        assert faults(examine("units", frames)) == set()


def test_consecutive_frames_are_tested_along_the_file(examine, trajectory):
    found = next(f for f in examine("units", trajectory) if "along the file" in f.message)
    assert found.severity == "pass"
    assert found.numbers["slope"] == pytest.approx(1.0, abs=0.01)
    assert found.numbers["correlation"] > 0.999
    assert found.numbers["n_pairs"] == len(trajectory) - 1


def test_frames_far_apart_are_not_testable_along_the_file(examine, ethanol):
    first = examine("units", ethanol)[0]
    assert first.severity == "not testable"
    assert "not consecutive" in first.message


@pytest.mark.parametrize(
    ("fault", "energy", "forces"),
    [
        ("force unit", 1.0, 1 / KCAL_PER_MOL),
        ("force unit", 1.0, BOHR / HARTREE),
        ("force unit", 1.0, BOHR),
        ("force sign", 1.0, -1.0),
        ("force sign", 1.0, -BOHR / HARTREE),
        ("energy unit", 1 / HARTREE, 1.0),
        ("energy unit", 1 / KCAL_PER_MOL, 1.0),
        ("energy sign", -1.0, 1.0),
        ("energy per atom", 1 / 9, 1.0),
    ],
)
def test_wrong_units_and_signs_are_named(examine, changed, ethanol, fault, energy, forces):
    broken = changed(ethanol, energy=lambda f: f.energy * energy, forces=lambda f: f.forces * forces)
    found = examine("units", broken)
    assert faults(found) == {fault}
    assert any(f.remedy.startswith("multiply") for f in found)


def test_the_remedy_repairs(examine, changed, trajectory):
    broken = changed(trajectory, forces=lambda f: f.forces / KCAL_PER_MOL)
    remedy = next(f.remedy for f in examine("units", broken) if f.fault == "force unit")
    factor = float(remedy.removeprefix("multiply the forces by "))
    assert faults(examine("units", changed(broken, forces=lambda f: f.forces * factor))) == set()


def test_lengths_in_bohr(examine, changed, ethanol):
    broken = changed(ethanol, positions=lambda f: f.positions / BOHR)
    assert faults(examine("units", broken)) == {"length unit"}


def test_labels_of_other_frames(examine, changed, ethanol):
    order = iter(np.random.default_rng(0).permutation(len(ethanol)))
    shuffled = changed(ethanol, energy=lambda f: ethanol[next(order)].energy)
    assert faults(examine("units", shuffled)) == {"energies shuffled"}
    rows = np.random.default_rng(0).permutation(9)
    permuted = changed(ethanol, forces=lambda f: f.forces[rows])
    assert faults(examine("units", permuted)) == {"forces of other atoms"}


def test_without_labels_nothing_is_tested(examine, changed, ethanol):
    for missing in ({"forces": lambda f: None}, {"energy": lambda f: None}):
        found = examine("units", changed(ethanol, **missing))
        assert found[0].severity == "not testable"
        assert not any("slope" in f.numbers for f in found)


def test_the_temperature_of_the_dynamics_comes_out(ethanol):
    """Sampled at 500 K with these forces; 60 frames leave 20 %."""
    found = next(f for f in check_frames(ethanol).findings if "temperature_estimate" in f.numbers)
    assert found.numbers["temperature_estimate"] == pytest.approx(500.0, rel=0.25)
    assert "0 K, estimated from forces and positions to test units and signs" in found.message  # no thermometer
