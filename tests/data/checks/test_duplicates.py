from dataclasses import replace

import numpy as np


def named(findings) -> dict[str, tuple[int, ...]]:
    return {f.fault: f.frames for f in findings if f.severity == "fail"}


def test_no_copies(examine, ethanol, crystal, trajectory):
    for frames in (ethanol, crystal, trajectory):
        assert [f.severity for f in examine("duplicates", frames)] == ["pass"]


def test_copies_are_named_with_their_frames(examine, ethanol):
    frames = [*ethanol, ethanol[3], ethanol[40]]
    assert named(examine("duplicates", frames)) == {"duplicates": (60, 61)}


def test_near_copies(examine, ethanol):
    moved = ethanol[7].positions + np.random.default_rng(0).normal(scale=3e-4, size=(9, 3))
    frames = [*ethanol, replace(ethanol[7], positions=moved)]
    assert named(examine("duplicates", frames)) == {"near duplicates": (60,)}


def test_turned_and_renumbered_copies_are_a_note(examine, ethanol):
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned = replace(ethanol[5], positions=ethanol[5].positions @ turn + 2.0, forces=ethanol[5].forces @ turn)
    order = np.array([0, 1, 2, 4, 3, 5, 6, 8, 7])  # equal atoms
    renumbered = replace(ethanol[9], positions=ethanol[9].positions[order], forces=ethanol[9].forces[order])
    found = examine("duplicates", [*ethanol, turned, renumbered])
    assert [(f.severity, f.frames) for f in found] == [("note", (60, 61))]
    assert "by symmetry" in found[0].message


def test_copies_with_other_labels(examine, ethanol):
    found = examine("duplicates", [*ethanol, replace(ethanol[11], energy=ethanol[11].energy + 0.1)])
    assert named(found)["contradicting labels"] == (60,)


def test_few_copies_among_many_are_a_note(examine, ethanol):
    """One in more than a hundred: shaken copies fill the set."""
    random = np.random.default_rng(3)
    shaken = [replace(f, positions=f.positions + random.normal(scale=0.1, size=(9, 3))) for f in ethanol]
    found = examine("duplicates", [*ethanol, *shaken, ethanol[0]])
    assert [f.severity for f in found] == ["note"]


def test_other_molecules_of_the_same_size_are_no_copies(examine, ethanol):
    numbers = ethanol[0].atomic_numbers.copy()
    numbers[2] = 16
    found = examine("duplicates", [ethanol[0], replace(ethanol[0], atomic_numbers=numbers)])
    assert [f.severity for f in found] == ["pass"]
