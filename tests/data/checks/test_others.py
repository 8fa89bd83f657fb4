"""frames, labels, distances, net_force, outliers: each fault alone, and nothing on right data."""

from dataclasses import replace

import numpy as np
import pytest

from eqff.data.frame import Frame
from eqff.units import HARTREE, KCAL_PER_MOL


def faults(findings) -> set[str]:
    return {f.fault for f in findings if f.severity in ("warning", "fail")}


@pytest.mark.parametrize("check", ["frames", "labels", "distances", "net_force", "outliers"])
def test_right_data_pass(examine, ethanol, crystal, trajectory, check):
    for frames in (ethanol, crystal, trajectory):
        assert faults(examine(check, frames)) == set()


def test_one_nan(examine, ethanol):
    forces = ethanol[4].forces.copy()
    forces[2, 1] = np.nan
    found = examine("frames", [*ethanol[:4], replace(ethanol[4], forces=forces), *ethanol[5:]])
    assert [(f.severity, f.fault, f.frames) for f in found] == [("fail", "not finite", (4,))]
    assert "atom 2" in found[0].message


def test_wrong_shape(examine, ethanol):
    found = examine("frames", [replace(ethanol[0], forces=ethanol[0].forces.T), *ethanol[1:]])
    assert [(f.fault, f.frames) for f in found] == [("unusable frames", (0,))]


def test_a_cell_in_nanometres_is_refused_before_its_images_are_counted(whole, changed, crystal):
    report = whole(changed(crystal, positions=lambda f: f.positions * 0.1, cell=lambda f: f.cell * 0.1))
    assert report.faults == ["length unit"]


def test_missing_labels(examine, changed, ethanol):
    partial = [*ethanol[:50], *changed(ethanol[50:], forces=lambda f: None)]
    found = next(f for f in examine("labels", partial) if f.fault)
    assert (found.severity, found.fault, found.frames) == ("warning", "labels missing", tuple(range(50, 60)))
    nothing = examine("labels", changed(ethanol, energy=lambda f: None, forces=lambda f: None))
    assert nothing[0].severity == "fail"


def atoms_alone(energies: dict[int, float]) -> list[Frame]:
    return [Frame(atomic_numbers=np.array([z]), positions=np.zeros((1, 3)), energy=e) for z, e in energies.items()]


def test_references_and_rank(examine, ethanol):
    one = next(f for f in examine("labels", ethanol) if "rank" in f.numbers)
    assert (one.severity, one.numbers["rank"], one.numbers["n_species"]) == ("note", 1, 3)
    # wB97X/6-31G(d) atoms of 3BPA
    all_known = examine("labels", atoms_alone({1: -13.587, 6: -1029.49, 7: -1484.98, 8: -2041.98}))
    assert [f.severity for f in all_known] == ["pass", "pass", "pass"]


@pytest.mark.parametrize(("unit", "factor"), [("Hartree", HARTREE), ("kcal/mol", KCAL_PER_MOL)])
def test_total_energies_tell_their_unit(examine, unit, factor):
    found = examine("labels", atoms_alone({1: -13.587 / factor, 6: -1029.49 / factor, 8: -2041.98 / factor}))
    assert faults(found) == {"energy unit"}
    assert any(f"in {unit}, not in eV" in f.message for f in found)


def test_total_energies_tell_elements(examine, changed, ethanol):
    """-154.6 Hartree is ethanol by any method with all electrons, not C2H6N."""
    numbers = ethanol[0].atomic_numbers.copy()
    right = changed(ethanol, energy=lambda f: f.energy - ethanol[0].energy - 154.6 * HARTREE)
    assert faults(examine("labels", right)) == set()
    numbers[numbers == 8] = 7
    assert faults(examine("labels", changed(right, atomic_numbers=lambda f: numbers))) == {"wrong element"}


def test_overlap_is_named_with_its_atoms(examine, ethanol):
    positions = ethanol[8].positions.copy()
    positions[3] = positions[0] + [0.2, 0.0, 0.1]
    found = examine("distances", [*ethanol[:8], replace(ethanol[8], positions=positions), *ethanol[9:]])
    overlap = next(f for f in found if f.fault == "overlapping atoms")
    assert (overlap.severity, overlap.frames) == ("fail", (8,))
    assert "C0-H3" in overlap.message


def test_a_wrong_element_shows_in_its_bonds(examine, changed, ethanol):
    numbers = ethanol[0].atomic_numbers
    called_carbon = numbers.copy()
    called_carbon[np.argmax(numbers == 1)] = 6
    for wrong in (called_carbon, np.roll(numbers, 1), numbers[::-1].copy()):
        assert faults(examine("distances", changed(ethanol, atomic_numbers=lambda f, w=wrong: w))) == {"wrong element"}


def test_noise_of_forces_is_measured(examine, changed, ethanol):
    random = np.random.default_rng(0)
    noisy = changed(ethanol, forces=lambda f: f.forces + random.normal(scale=0.004, size=(9, 3)))
    found = examine("net_force", noisy)
    assert [f.severity for f in found] == ["note", "note"]
    for finding in found:  # force and torque agree on it
        assert finding.numbers["noise"] == pytest.approx(0.004, rel=0.15)


def test_forces_that_turn_the_molecule(examine, changed, ethanol):
    rows = np.random.default_rng(0).permutation(9)
    found = examine("net_force", changed(ethanol, forces=lambda f: f.forces[rows]))
    assert faults(found) == {"forces of other atoms"}


def test_an_energy_that_its_forces_deny(examine, trajectory):
    frames = list(trajectory)
    frames[20] = replace(frames[20], energy=frames[20].energy + 3.0)
    found = next(f for f in examine("outliers", frames) if f.fault)
    assert (found.severity, found.fault, found.frames) == ("warning", "outliers", (20,))
