"""Are forces the negative gradient of these energies at these positions?  Units, signs, and labels of other frames."""

from collections.abc import Iterator

import numpy as np

from eqff.data.forensics.examination import EXPLAINED, N_PAIRS, Finding, Subject, unrelated
from eqff.data.forensics.work import STEP, Work

WEAK = 0.5  # least correlation of work and energy that is usable
FOREIGN = "forces of other atoms"
MIXED = "check how the arrays were assembled: rows may be permuted, or labels belong to other frames"
HOT = 8000.0  # K, implausible beyond it; there is no lower limit, as small displacements look like a low temperature


def check(subject: Subject) -> Iterator[Finding]:
    """Compare work with energy along the file and between neighbours, measure the temperature, and diagnose faults."""
    if not subject.census.labels["forces"]:
        yield Finding(
            check="units",
            severity="not testable",
            message="no forces, so the units of energies and forces cannot be tested",
        )
        return
    yield from _along(subject)
    yield from _between(subject)
    yield from _temperature(subject)
    if subject.diagnosis.name:
        fault = subject.diagnosis
        yield _finding("fail", fault.message, fault.remedy, fault.name)


def _along(subject: Subject) -> Iterator[Finding]:
    if not subject.census.labels["energy"]:
        yield _finding("not testable", "no energies: F.dx has nothing to be compared with")
        return
    work = subject.consecutive
    if work is None or not work.complete:
        reason = f"some atom moves more than {STEP} Å from one to the next, or the atoms differ"
        yield _finding("not testable", f"F.dx against dE: the frames are not consecutive ({reason})")
    if work is not None and work.n_pairs >= N_PAIRS:
        which = "along the file" if work.complete else "of the few frames that do follow each other"
        # a trajectory's steps follow the forces closely; anything less is noise in the labels
        yield _judged(subject, work, f"F.dx against dE {which}", noise=0.95, place="along")


def _between(subject: Subject) -> Iterator[Finding]:
    work = subject.neighbours
    if not subject.census.labels["energy"]:
        return
    what = "F.dx against dE between the most similar frames"
    if work is None or work.n_pairs < N_PAIRS:
        yield _finding("not testable", f"{what}: too few frames have the same atoms and the same cell")
        return
    yield _judged(subject, work, what, noise=WEAK, place="between")


def _judged(subject: Subject, work: Work, what: str, noise: float, place: str) -> Finding:
    """Whether the labels of these pairs of frames belong together."""
    numbers = {
        "slope": work.slope,
        "correlation": work.correlation,
        "n_pairs": work.n_pairs,
        "residual_rms": float(np.sqrt((work.residual**2).mean())),
    }
    curves = {f"work_{place}": work.work, f"change_{place}": work.change}
    text = f"{what}: slope {work.slope:.4g}, correlation {work.correlation:.4f}, {work.n_pairs} pairs"
    related = abs(work.correlation)
    fault, severity, remedy = "", "pass", ""
    if unrelated(work):
        severity, remedy = "fail", MIXED
        r2 = numbers["force_r2"] = subject.model.force_r2 if subject.model is not None else 0.0
        if r2 > EXPLAINED:
            fault = "energies shuffled"
            text += ": energies do not belong to these frames"
        else:
            fault = FOREIGN
            text += f": forces do not belong to these positions, pairs of atoms explain {100 * r2:.0f} % of them"
    elif subject.diagnosis.slope != 1.0:
        fault, severity, remedy = subject.diagnosis.name, "fail", subject.diagnosis.remedy
        text += f": {subject.diagnosis.message}"
    elif related < noise:
        fault, severity = "noisy labels", "warning"
        text += ": the slope is right, but energies and forces agree poorly"
        remedy = "check the frames with the largest residuals (outliers), and the convergence of the labels"
    return _finding(severity, text, remedy, fault, numbers, curves)


def _temperature(subject: Subject) -> Iterator[Finding]:
    """The estimate is too high if frames were sampled with another method than that of the labels (rMD17: 700 K)."""
    model, kelvin = subject.model, subject.temperature
    if model is None:
        return
    if kelvin is None:
        text = (
            f"pairs of atoms explain only {100 * model.force_r2:.0f} % of the forces: do they belong to the positions?"
        )
        yield _finding("warning", text, MIXED, FOREIGN, {"force_r2": model.force_r2})
        return
    numbers = {"temperature_estimate": kelvin, "force_r2": model.force_r2}
    estimate = f"{float(f'{kelvin:.2g}'):.0f} K"
    text = f"as if sampled at {estimate}, estimated from forces and positions to test units and signs"
    if subject.diagnosis.temperature != 1.0:
        fault = subject.diagnosis
        yield _finding("fail", f"{text}: {fault.message}", fault.remedy, fault.name, numbers)
    elif not 0.0 < kelvin < HOT:
        text += "; unusual for data from simulations: are the forces in eV/Å?"
        yield _finding("warning", text, "check the unit of the forces", "force unit", numbers)
    else:
        yield _finding("pass", text, numbers=numbers)


def _finding(
    severity: str,
    message: str,
    remedy: str = "",
    fault: str = "",
    numbers: dict[str, float] | None = None,
    curves: dict[str, np.ndarray] | None = None,
) -> Finding:
    return Finding(
        check="units",
        severity=severity,
        message=message,
        remedy=remedy,
        fault=fault,
        numbers=numbers or {},
        curves=curves or {},
    )
