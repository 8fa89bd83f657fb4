"""Frames that occur more than once."""

from collections.abc import Iterator

import numpy as np

from eqff.data.forensics.copies import EQUAL, copies
from eqff.data.forensics.examination import Finding, Subject

MANY = 0.01  # share of copies that is a fault
SAME_ENERGY, SAME_FORCES = 1e-3, 1e-3  # eV, eV/Å, largest difference between labels of copies


def check(subject: Subject) -> Iterator[Finding]:
    """Find copies (equal coordinates), copies by symmetry, almost copies, and copies with different labels."""
    if len(subject.frames) < 2:
        yield Finding(check="duplicates", severity="not testable", message="a single frame has no copies")
        return
    pairs_found = copies(subject.frames, subject.survey.fingerprint, subject.species)
    equal = pairs_found.equal
    same = np.array([_same_coordinates(subject, *pair) for pair in equal], dtype=bool)
    contradicting = [pair for pair in equal if _labels_differ(subject, *pair)]
    if contradicting:
        yield _finding(subject, np.array(contradicting), "copies with different labels", "fail", "contradicting labels")
    groups = (
        (equal[same], "copies of other frames", "duplicates"),
        (pairs_found.near, "almost copies of other frames", "near duplicates"),
    )
    any_copy = bool(contradicting)
    for pairs, what, fault in groups:
        share = len(np.unique(pairs[:, 1])) / len(subject.frames) if len(pairs) else 0.0
        if share > 0:
            any_copy = True
            yield _finding(subject, pairs, what, "fail" if share >= MANY else "note", fault if share >= MANY else "")
    if len(equal[~same]):
        any_copy = True
        what = "the same as other frames by symmetry (turned, mirrored or renumbered)"
        yield _finding(subject, equal[~same], what, "note", "")
    if pairs_found.truncated:
        message = "more frames are similar than could be compared in full"
        yield Finding(check="duplicates", severity="note", message=message)
    if not any_copy:
        yield Finding(check="duplicates", severity="pass", message="no frame is a copy of another")


def _finding(subject: Subject, pairs: np.ndarray, what: str, severity: str, fault: str) -> Finding:
    rows = np.unique(pairs[:, 1])
    first = subject.file_frames(pairs[0])
    n = len(subject.frames)
    return Finding(
        check="duplicates",
        severity=severity,
        fault=fault,
        message=f"{len(rows)} of {n} frames ({100 * len(rows) / n:.2g} %) are {what}, e.g. {first[1]} of {first[0]}",
        remedy="keep one of each; a random split would put the same structure into training and test",
        numbers={"n_copies": len(rows), "share": len(rows) / n},
        frames=subject.file_frames(rows),
    )


def _same_coordinates(subject: Subject, a: int, b: int) -> bool:
    one, other = subject.frames[a], subject.frames[b]
    if not np.array_equal(one.atomic_numbers, other.atomic_numbers):
        return False
    return bool(
        np.allclose(one.positions, other.positions, rtol=0.0, atol=EQUAL)
        and np.allclose(one.cell, other.cell, rtol=0.0, atol=EQUAL)
    )


def _labels_differ(subject: Subject, a: int, b: int) -> bool:
    one, other = subject.frames[a], subject.frames[b]
    if one.energy is not None and other.energy is not None and abs(one.energy - other.energy) > SAME_ENERGY:
        return True
    if one.forces is None or other.forces is None:
        return False
    lengths = [
        np.sort(np.linalg.norm(np.asarray(frame.forces), axis=1)) for frame in (one, other)
    ]  # invariant under rotation
    return bool(np.abs(lengths[0] - lengths[1]).max() > SAME_FORCES)
