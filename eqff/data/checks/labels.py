"""Which labels exist, compositions, and elements that do not fit the energies."""

from collections.abc import Iterator

import numpy as np

from eqff.data.forensics.examination import Finding, Subject
from eqff.data.frame import LABELS
from eqff.data.statistics import reference_energies
from eqff.elements import SYMBOLS
from eqff.units import ENERGY, HARTREE

MATCH = 0.02  # largest relative deviation of total energies from the formula
NEARLY = (0.6, 1.6)  # ratios that suggest all-electron energies of other elements


def check(subject: Subject) -> Iterator[Finding]:
    """Count labels, fit reference energies per element, and compare the size of total energies with the elements."""
    yield _census(subject)
    if subject.census.labels["energy"]:
        yield _references(subject)
        yield _total_energies(subject)


def _census(subject: Subject) -> Finding:
    census = subject.census
    partial = [name for name in LABELS if 0 < census.labels[name] < census.n_frames]
    message = f"labels: {', '.join(f'{name} {n}' for name, n in census.labels.items())} of {census.n_frames} frames"
    if not any(census.labels.values()):
        severity, remedy = "fail", "name the labels with --energy-key and --forces-key"
    elif partial:
        severity, remedy = "warning", f"some frames have no {' and '.join(partial)}: make sure that this is intended"
    else:
        severity, remedy = "pass", ""
    incomplete = [row for row, f in enumerate(subject.frames) if any(getattr(f, name) is None for name in partial)]
    return Finding(
        check="labels",
        severity=severity,
        fault="" if severity == "pass" else "labels missing",
        message=message,
        remedy=remedy,
        numbers={f"n_{name}": n for name, n in census.labels.items()},
        frames=subject.file_frames(incomplete),
    )


def _references(subject: Subject) -> Finding:
    rows = [row for row, frame in enumerate(subject.frames) if frame.energy is not None]
    counts, energies = subject.counts[rows], np.array([subject.frames[row].energy for row in rows], dtype=float)
    values, rank, residual = reference_energies(counts, energies, len(subject.species))
    n_present = int((counts.sum(axis=0) > 0).sum())
    n_compositions = len(subject.census.compositions)
    named = ", ".join(f"{SYMBOLS[z]} {e:.3f}" for z, e in zip(subject.species, values, strict=True))
    shown = ", ".join(f"{name} ({n})" for name, n in list(subject.census.compositions.items())[:5])
    more = f" and {n_compositions - 5} more" if n_compositions > 5 else ""
    determined = rank == n_present
    what = f"reference energies {named} eV" if determined else "the energies of single elements are not determined"
    return Finding(
        check="labels",
        severity="pass" if determined else "note",
        message=f"{n_compositions} compositions: {shown}{more}; rank {rank} of {n_present}: {what}, "
        f"the rest varies by {residual or 0.0:.4f} eV/atom",
        remedy="" if determined else "differences between compositions cannot be learnt from these frames alone",
        numbers={
            "rank": rank,
            "n_species": n_present,
            "n_compositions": n_compositions,
            "residual_std": residual or 0.0,
        },
    )


def _total_energies(subject: Subject) -> Finding:
    """All-electron total energies follow from the elements to a percent."""
    rows = [row for row, frame in enumerate(subject.frames) if frame.energy is not None]
    expected = subject.counts[rows] @ _atomic_energies(subject.species)
    energies = np.array([subject.frames[row].energy for row in rows], dtype=float)
    ratio = float(np.median(energies / expected))
    per_atom = float(np.median(energies / subject.counts[rows].sum(axis=1)))
    numbers = {"energy_per_atom": per_atom, "over_all_electron": ratio}
    for unit, factor in ENERGY.items():
        if unit == "Rydberg":  # totals of valence electrons in eV are often near all-electron ones in Rydberg
            continue
        if abs(ratio * factor - 1.0) > MATCH:
            continue
        if unit == "eV":
            text = f"{per_atom:.4g} eV per atom: all-electron total energies in eV of these elements (within 2 %)"
            return Finding(check="labels", severity="pass", message=text, numbers=numbers)
        return Finding(
            check="labels",
            severity="fail",
            fault="energy unit",
            message=f"{per_atom:.4g} per atom: these are all-electron total energies in {unit}, not in eV",
            remedy=f"say so with --energy-unit {unit}, or multiply the energies by {factor:.6g}",
            numbers=numbers,
        )
    if NEARLY[0] < ratio < NEARLY[1] and subject.species.max() <= 18:
        return Finding(
            check="labels",
            severity="warning",
            fault="wrong element",
            message=f"{per_atom:.4g} eV per atom is {ratio:.3f} times the all-electron total energy of these "
            "atoms, expected 1.00: are these the right elements?",
            remedy="compare the atomic numbers with the structure",
            numbers=numbers,
        )
    text = f"{per_atom:.4g} eV per atom: these are not all-electron total energies, so their size cannot be tested"
    return Finding(check="labels", severity="not testable", message=text, numbers=numbers)


def _atomic_energies(species: np.ndarray) -> np.ndarray:
    """Total energies of neutral atoms, eV.  Source: Thomas-Fermi with Scott's and Schwinger's terms; hydrogen exact"""
    z = species.astype(float)
    hartree = -0.768745 * z ** (7 / 3) + 0.5 * z**2 - 0.2699 * z ** (5 / 3)
    return np.where(species == 1, -0.5, hartree) * HARTREE
