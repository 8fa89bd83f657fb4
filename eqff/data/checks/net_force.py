"""Net forces and torques: they should be zero, and the remainder is noise that no potential can learn."""

from collections.abc import Iterator

import numpy as np

from eqff.data.forensics.examination import Finding, Subject

NOTHING = 1e-4  # eV/Å per component
MUCH = 0.05  # of the force RMS
PERMUTED = 0.3


def check(subject: Subject) -> Iterator[Finding]:
    """Estimate the noise of a force component from net forces, and for molecules from net torques."""
    rows = [row for row, f in enumerate(subject.frames) if f.forces is not None and len(f.atomic_numbers) > 1]
    if not rows:
        yield Finding(check="net_force", severity="not testable", message="no forces on more than one atom")
        return
    frames = [subject.frames[row] for row in rows]
    forces = [np.asarray(frame.forces, dtype=float) for frame in frames]
    rms = float(np.sqrt(np.mean(np.concatenate([f.ravel() for f in forces]) ** 2)))
    net = np.array([f.sum(axis=0) for f in forces])
    n_atoms = np.array([len(f) for f in forces])
    # noise of size s on every component adds up to a net force of s sqrt(n_atoms)
    yield _judged(subject, rows, "net force", np.sqrt((net**2).mean(axis=1) / n_atoms), rms, float(np.abs(net).max()))
    free = [i for i, frame in enumerate(frames) if not frame.pbc.any()]
    if free:
        arms = [frames[i].positions - frames[i].positions.mean(axis=0) for i in free]
        turning = [forces[i] - forces[i].mean(axis=0) for i in free]
        torque = np.array([np.cross(arm, force).sum(axis=0) for arm, force in zip(arms, turning, strict=True)])
        inertia = np.array([2.0 * (arm**2).sum() for arm in arms])
        noise = np.sqrt((torque**2).sum(axis=1) / np.maximum(inertia, 1e-12))
        yield _judged(subject, [rows[i] for i in free], "net torque", noise, rms, float(np.abs(torque).max()))


def _judged(subject: Subject, rows: list[int], what: str, noise: np.ndarray, rms: float, largest: float) -> Finding:
    floor = float(np.sqrt((noise**2).mean()))
    unit = "eV/Å" if what == "net force" else "eV"
    numbers = {"noise": floor, "largest": largest, "force_rms": rms}
    text = f"{what} up to {largest:.2g} {unit}: noise of about {1e3 * floor:.2g} meV/Å on each force component"
    worst = subject.file_frames(np.array(rows)[np.argsort(-noise)[:5]])
    curves = {what.replace(" ", "_"): noise}
    if what == "net torque" and floor > PERMUTED * rms:
        return Finding(
            check="net_force",
            severity="fail",
            fault="forces of other atoms",
            message=f"{what} as large as the forces themselves: they do not belong to these positions (rows permuted, "
            "axes exchanged, or of other frames)",
            remedy="check how the arrays were assembled: their orders differ",
            numbers=numbers,
            frames=worst,
            curves=curves,
        )
    if floor > MUCH * rms:
        return Finding(
            check="net_force",
            severity="warning",
            fault="noisy labels",
            message=f"{text}, {100 * floor / rms:.0f} % of their RMS",
            remedy="tighten the convergence of the labels; if atoms were held fixed or a field acts, expect this",
            numbers=numbers,
            frames=worst,
            curves=curves,
        )
    if floor > NOTHING:
        return Finding(
            check="net_force",
            severity="note",
            message=f"{text}; no potential will be better than that on these labels",
            remedy="do not aim below this floor",
            numbers=numbers,
            frames=worst,
            curves=curves,
        )
    return Finding(check="net_force", severity="pass", message=text, numbers=numbers, curves=curves)
