"""Single frames that do not fit the others: their energies, their forces, or the two to each other."""

from collections.abc import Iterator

import numpy as np

from eqff.data.forensics.examination import Finding, Subject
from eqff.data.forensics.work import Work
from eqff.data.statistics import reference_energies

FAR, ABSURD = 8.0, 40.0  # robust standard deviations
N_SHOWN = 20


def check(subject: Subject) -> Iterator[Finding]:
    """Energies per atom, largest forces, and residuals of work against energy, by median and its absolute deviation."""
    energies = [row for row, frame in enumerate(subject.frames) if frame.energy is not None]
    if len(energies) >= 10:
        values = np.array([subject.frames[row].energy for row in energies], dtype=float)
        references, _, _ = reference_energies(subject.counts[energies], values, len(subject.species))
        n_atoms = subject.counts[energies].sum(axis=1)
        rest = (values - subject.counts[energies] @ references) / n_atoms
        yield _finding(subject, np.array(energies), rest, "energies per atom", "eV/atom", "energy")
    forces = [row for row, frame in enumerate(subject.frames) if frame.forces is not None]
    if len(forces) >= 10:
        largest = np.array([np.linalg.norm(np.asarray(subject.frames[row].forces), axis=1).max() for row in forces])
        yield _finding(subject, np.array(forces), largest, "largest forces", "eV/Å", "force")
    for work, rows, where in (
        (subject.consecutive, None, "along the file"),
        (subject.neighbours, subject.sample, "between similar frames"),
    ):
        if work is not None and work.n_pairs >= 20:
            yield _disagreement(subject, work, rows, where)


def _finding(subject: Subject, rows: np.ndarray, values: np.ndarray, what: str, unit: str, name: str) -> Finding:
    deviation = _robust(values)
    far = np.flatnonzero(deviation > FAR)
    order = far[np.argsort(-deviation[far])][:N_SHOWN]
    text = f"{what}: median {np.median(values):.4g} {unit}, largest deviation {deviation.max():.1f} robust sigma"
    numbers = {"median": float(np.median(values)), "largest_deviation": float(deviation.max()), "n_far": int(far.size)}
    return Finding(
        check="outliers",
        severity="note" if far.size else "pass",
        message=text + (f"; {far.size} frames beyond {FAR:.0f}" if far.size else ""),
        remedy="look at these frames: rare events, or calculations that failed" if far.size else "",
        numbers=numbers,
        frames=subject.file_frames(rows[order]),
        curves={name: values},
    )


def _disagreement(subject: Subject, work: Work, rows: list[int] | None, where: str) -> Finding:
    """Frames both of whose neighbours disagree, or the only one they have."""
    deviation = _robust(work.residual)
    suspicious = (deviation > ABSURD) & (np.abs(work.residual) > 3.0 * np.sqrt(np.mean(work.change**2)))
    n_rows = len(subject.frames) if rows is None else len(rows)
    met, odd = np.zeros(n_rows, dtype=int), np.zeros(n_rows, dtype=int)
    for ends in (work.first, work.second):
        np.add.at(met, ends, 1)
        np.add.at(odd, ends, suspicious.astype(int))
    found = np.flatnonzero((odd > 0) & (odd == met) & (odd >= odd.max(initial=1)))
    found = found if rows is None else np.array(rows, dtype=int)[found]
    largest = float(np.abs(work.residual).max())
    text = f"energies against forces {where}: largest residual {largest:.3g} eV, {deviation.max():.1f} robust sigma"
    return Finding(
        check="outliers",
        severity="warning" if found.size else "pass",
        fault="outliers" if found.size else "",
        message=text + (f"; {found.size} frames disagree with all their neighbours" if found.size else ""),
        remedy="their energies or forces are wrong: calculate them again, or remove the frames" if found.size else "",
        numbers={"largest_residual": largest, "n_far": int(found.size)},
        frames=subject.file_frames(found),
    )


def _robust(values: np.ndarray) -> np.ndarray:
    """Distance from the median in standard deviations, those of a normal distribution with the same quartiles."""
    distance = np.abs(values - np.median(values))
    scale = 1.4826 * float(np.median(distance))
    return distance / scale if scale > 0 else np.where(distance > 0, np.inf, 0.0)
