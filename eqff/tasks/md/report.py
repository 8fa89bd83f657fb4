"""Results of a run: rows of its log, and the summary at the end."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eqff.tasks.md.config import MDConfig
from eqff.tasks.md.integrators import CONSERVED
from eqff.tasks.md.observables import PairDistances, Spectrum, drift

LOG_HEADER = ("step", "time_fs", "potential_eV", "kinetic_eV", "total_eV", "temperature_K", "conserved_eV", "volume_A3")


class MDSample(NamedTuple):
    """The run at one step; one row of the log."""

    step: int
    time_fs: float
    potential: float  # eV
    kinetic: float  # eV
    total: float  # eV
    temperature: float  # K
    conserved: float  # eV, what the equations of motion conserve; NaN for Langevin
    volume: float  # Å^3, NaN unless npt


SAMPLE_TYPE = np.dtype([(name, "i8" if name == "step" else "f8") for name in MDSample._fields])


class MDReport(NamedTuple):
    """Results of a run; times and speed of a continued run are those of its last part."""

    n_atoms: int
    n_steps: int
    time_ps: float
    wall_seconds: float
    ns_per_day: float  # without the warm-up steps; NaN if the run is too short
    mean_temperature: float  # K, second half of the run
    conserved: str  # name of the conserved quantity, "" for Langevin
    drift: float | None  # meV/atom/ps, least-squares slope of the conserved quantity; None without one
    drift_resolution: float | None  # meV/atom/ps, sqrt(12) fluctuation / duration: a slope that fluctuations can mimic
    fluctuation: float | None  # meV/atom, RMS around that line
    max_force: float  # eV/Å, largest of the run
    trajectory: Path
    log: Path
    checkpoint: Path
    resumed_at: int | None  # step, None for a run in one part
    samples: np.ndarray  # [n_samples] structured array with the fields of MDSample
    pair_distances: PairDistances | None
    spectrum: Spectrum | None


def log_row(sample: MDSample) -> str:
    """A line of the log; numbers read back are the same bits."""
    return ",".join([str(sample.step), *(repr(float(value)) for value in sample[1:])]) + "\n"


def read_log(path: Path, n_bytes: int, n_rows: int) -> np.ndarray:
    """The first rows of a log, with room for more.

    Returns: [n_rows] structured array; missing rows have step -1
    """
    samples = np.zeros(n_rows, dtype=SAMPLE_TYPE)
    samples["step"] = -1
    with path.open("rb") as file:
        lines = file.read(n_bytes).decode().splitlines()[1:]
    for index, line in enumerate(lines):
        step, *values = line.split(",")
        samples[index] = (int(step), *map(float, values))
    return samples


def make_report(
    config: MDConfig,
    n_atoms: int,
    samples: np.ndarray,
    max_force: float,
    wall_seconds: float,
    timed: tuple[int, float],
    resumed_at: int | None,
    pair_distances: PairDistances | None,
    spectrum: Spectrum | None,
) -> MDReport:
    """Figures of a finished run.  Args: timed: number of steps after the warm-up, and their seconds"""
    duration_ps = config.steps * config.timestep * 1e-3
    slope, fluctuation, resolution = None, None, None
    conserved = CONSERVED[config.integrator]
    if conserved and len(samples) >= 3:
        slope, fluctuation = drift(samples["time_fs"] * 1e-3, samples["conserved"] * 1e3 / n_atoms)
        resolution = math.sqrt(12.0) * fluctuation / duration_ps
    n_timed, seconds = timed
    return MDReport(
        n_atoms=n_atoms,
        n_steps=config.steps,
        time_ps=duration_ps,
        wall_seconds=wall_seconds,
        ns_per_day=n_timed * config.timestep * 1e-6 / seconds * 86400.0 if n_timed > 0 and seconds > 0 else math.nan,
        mean_temperature=float(samples["temperature"][len(samples) // 2 :].mean()),
        conserved=conserved,
        drift=slope,
        drift_resolution=resolution,
        fluctuation=fluctuation,
        max_force=max_force,
        trajectory=config.trajectory,
        log=config.log,
        checkpoint=config.checkpoint,
        resumed_at=resumed_at,
        samples=samples,
        pair_distances=pair_distances,
        spectrum=spectrum,
    )
