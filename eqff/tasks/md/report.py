"""Results of a run: rows of its log, and the summary at the end."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.geometry import cell_to_cellpar

from eqff.tasks.md.config import MDConfig
from eqff.tasks.md.integrators import CONSERVED
from eqff.tasks.md.observables import PairDistances, Spectrum, drift
from eqff.units import G_PER_CM3

LOG_HEADER = (
    *("step", "time_fs", "potential_eV", "kinetic_eV", "total_eV", "temperature_K", "conserved_eV", "volume_A3"),
    "pressure_GPa",
)
COOLED = 0.7  # mean temperature over that of the start: well below 1, and above the half that remains at a minimum
SETTLED = 100.0  # fs after which kinetic and potential energy have exchanged what they exchange


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
    pressure: float  # GPa, of virial and motion, NaN unless npt


SAMPLE_TYPE = np.dtype([(name, "i8" if name == "step" else "f8") for name in MDSample._fields])


class CellReport(NamedTuple):
    """The cell of a structure periodic in three directions; means are those of the second half of the run."""

    mass: float  # amu
    start: tuple[float, ...]  # a, b, c in Å, alpha, beta, gamma in degrees
    mean: tuple[float, ...]  # of the cell with the mean volume
    volume: float  # Å^3, mean
    volume_deviation: float | None  # Å^3, standard deviation; None unless npt, as below
    density: float  # g/cm^3, of the mean volume
    pressure: float | None  # GPa, mean
    pressure_deviation: float | None  # GPa, standard deviation


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
    cell: CellReport | None  # None unless periodic in three directions
    notes: tuple[str, ...]  # what a user may wonder about


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
        values += ["nan"] * (len(LOG_HEADER) - 1 - len(values))  # a log from before the pressure was written
        samples[index] = (int(step), *map(float, values))
    return samples


def make_report(
    config: MDConfig,
    atoms: Atoms,
    start_cell: np.ndarray,
    samples: np.ndarray,
    max_force: float,
    wall_seconds: float,
    timed: tuple[int, float],
    resumed_at: int | None,
    pair_distances: PairDistances | None,
    spectrum: Spectrum | None,
) -> MDReport:
    """Figures of a finished run.

    Args: atoms: at its end; start_cell [3, 3] Å; timed: number of steps after the warm-up, and their seconds
    """
    n_atoms = len(atoms)
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
        cell=cell_report(atoms, start_cell, samples),
        notes=cooling_note(config, samples),
    )


def cell_report(atoms: Atoms, start_cell: np.ndarray, samples: np.ndarray) -> CellReport | None:
    """The cell and, at constant pressure, how it changed.  Args: atoms: at the end of a run"""
    if not (atoms.pbc.all() and atoms.cell.rank == 3):
        return None
    second = samples[len(samples) // 2 :]
    final = float(atoms.get_volume())
    moving = bool(np.isfinite(second["volume"]).all())
    volume = float(second["volume"].mean()) if moving else final
    mass = float(atoms.get_masses().sum())
    mean = cell_to_cellpar(atoms.cell.array * (volume / final) ** (1.0 / 3.0))  # the barostat keeps the shape
    return CellReport(
        mass=mass,
        start=tuple(cell_to_cellpar(start_cell).tolist()),
        mean=tuple(mean.tolist()),
        volume=volume,
        volume_deviation=float(second["volume"].std()) if moving else None,
        density=mass / volume * G_PER_CM3,
        pressure=float(second["pressure"].mean()) if moving else None,
        pressure_deviation=float(second["pressure"].std()) if moving else None,
    )


def cooling_note(config: MDConfig, samples: np.ndarray) -> tuple[str, ...]:
    """Why a run at constant energy is colder than the temperature it was given: it began at a minimum."""
    if config.ensemble != "nve" or config.keep_momenta or config.steps * config.timestep < SETTLED:
        return ()
    start, second = samples[0], samples[len(samples) // 2 :]
    mean, rise = float(second["temperature"].mean()), float(second["potential"].mean() - start["potential"])
    if rise <= 0.0 or not mean < COOLED * start["temperature"]:
        return ()
    kelvin = start["temperature"]
    return (
        f"the run began near a minimum of the energy with velocities of {kelvin:.0f} K, and a part of the kinetic "
        f"energy (half of it, if bonds are springs) became potential energy: the mean is {mean:.0f} K. For a mean of "
        f"about {kelvin:.0f} K start with --temperature {2.0 * kelvin:.0f}, or run --ensemble nvt first and continue "
        "from its last frame with --structure TRAJECTORY --keep-momenta",
    )
