"""Overlapping atoms, lengths in the wrong unit, wrong elements."""

from collections.abc import Iterator

import numpy as np

from eqff.data.forensics.examination import Finding, Subject
from eqff.elements import SYMBOLS

OVERLAP, CLOSE = 0.4, 0.55  # of the sum of covalent radii
TOO_SHORT = 0.74  # shorter than any bond: N2, CO and HCN have 0.78
MOST_BONDS = {1: 2, 6: 4, 7: 4, 8: 3, 9: 2}  # in molecules, without hydrogen bonds


def check(subject: Subject) -> Iterator[Finding]:
    """Find overlaps, nearest distances that are no bond lengths, and atoms with more bonds than their element forms."""
    survey = subject.survey
    if not np.isfinite(survey.closest).any():
        yield Finding(check="distances", severity="not testable", message="no two atoms are within 6 Å of each other")
        return
    yield _overlap(subject)
    yield _bonds(subject)
    valence = _valence(subject)
    if valence is not None:
        yield valence


def _overlap(subject: Subject) -> Finding:
    survey = subject.survey
    row = int(survey.closest.argmin())
    frame, (a, b) = subject.frames[row], survey.closest_pair[row]
    pair = f"{SYMBOLS[frame.atomic_numbers[a]]}{a}-{SYMBOLS[frame.atomic_numbers[b]]}{b}"
    rows = np.flatnonzero(survey.closest < CLOSE)
    where = f"{survey.closest_distance[row]:.3f} Å, {pair} of frame {subject.file_frames([row])[0]}"
    overlap = survey.closest[row] < OVERLAP
    return Finding(
        check="distances",
        severity="fail" if overlap else "warning" if rows.size else "pass",
        fault="overlapping atoms" if rows.size else "",
        message=f"closest atoms: {where}, {survey.closest[row]:.2f} of the sum of their covalent radii",
        remedy="remove frames whose atoms overlap" if rows.size else "",
        numbers={"shortest": float(survey.closest_distance[row]), "over_covalent": float(survey.closest[row])},
        frames=subject.file_frames(rows),
        curves={"over_covalent": survey.closest[np.isfinite(survey.closest)]},
    )


def _bonds(subject: Subject) -> Finding:
    """Lengths in general: a wrong unit, or a wrong element in all frames."""
    shortest = float(np.median(subject.survey.closest[np.isfinite(subject.survey.closest)]))
    if subject.bond is None:
        return Finding(check="distances", severity="not testable", message="noble gases form no bonds to measure")
    numbers = {"nearest_over_covalent": subject.bond, "shortest_over_covalent": shortest}
    text = f"nearest distances are {subject.bond:.2f} times the sum of covalent radii"
    if subject.diagnosis.bond != 1.0:
        return Finding(
            check="distances",
            severity="fail",
            fault="length unit",
            message=f"{text}, they should be about 1: {subject.diagnosis.message}",
            remedy=subject.diagnosis.remedy,
            numbers=numbers,
        )
    if shortest < TOO_SHORT:
        row = int(np.argsort(subject.survey.closest)[len(subject.frames) // 2])
        frame, (a, b) = subject.frames[row], subject.survey.closest_pair[row]
        names = [f"{SYMBOLS[frame.atomic_numbers[i]]} (atom {i})" for i in (a, b)]
        return Finding(
            check="distances",
            severity="fail",
            fault="wrong element",
            message=f"in most frames two atoms are closer than any bond, e.g. {names[0]} and {names[1]} at "
            f"{subject.survey.closest_distance[row]:.3f} Å: one of them seems to be another element",
            remedy="compare the atomic numbers with the structure",
            numbers=numbers,
            frames=subject.file_frames([row]),
        )
    odd = not 0.7 < subject.bond < 1.4
    return Finding(
        check="distances",
        severity="warning" if odd else "pass",
        fault="length unit" if odd else "",
        message=f"{text}{', which is unusual' if odd else ', as they should be in Å'}",
        remedy="make sure that lengths are in Å" if odd else "",
        numbers=numbers,
    )


def _valence(subject: Subject) -> Finding | None:
    """Numbers of bonds, of molecules only: metals and crystals have other numbers of neighbours."""
    rows = [row for row, frame in enumerate(subject.frames) if not frame.pbc.any()]
    if not rows or not set(subject.species.tolist()) & set(MOST_BONDS):
        return None
    wrong, example = [], ""
    for row in rows:
        numbers = subject.frames[row].atomic_numbers
        n_bonds = subject.survey.coordination[row]
        most = np.array([MOST_BONDS.get(int(z), 99) for z in numbers])
        odd = np.flatnonzero((n_bonds > most) | ((numbers == 1) & (n_bonds == 0)))
        if odd.size and len(numbers) > 1:
            wrong.append(row)
            atom = int(odd[0])
            example = example or f"atom {atom} is {SYMBOLS[numbers[atom]]} and has {n_bonds[atom] or 'no'} bonds"
    share = len(wrong) / len(rows)
    if share <= 0.5:
        return Finding(
            check="distances",
            severity="pass" if not wrong else "note",
            message="all atoms have numbers of bonds that their elements form"
            if not wrong
            else f"in {len(wrong)} of {len(rows)} frames an atom has more bonds than it should, or a hydrogen none",
            numbers={"n_overbonded": len(wrong)},
            frames=subject.file_frames(wrong),
        )
    return Finding(
        check="distances",
        severity="fail",
        fault="wrong element",
        message=f"in {len(wrong)} of {len(rows)} frames an atom has a number of bonds that its element does not form "
        f"({example}): atomic numbers and positions do not belong together",
        remedy="compare the atomic numbers, and their order, with the structure",
        numbers={"n_overbonded": len(wrong)},
        frames=subject.file_frames(wrong),
    )
