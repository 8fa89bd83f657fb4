"""Molecular dynamics: constant energy, temperature or pressure, with trajectory, log and a judgement of the drift.

nve  velocity Verlet                                        conserves the total energy
nvt  Langevin, BAOAB (Leimkuhler & Matthews, J. Chem. Phys. 138, 174102 (2013))
npt  Nosé-Hoover chains and isotropic barostat (Martyna, Tobias & Klein, J. Chem. Phys. 101, 4177 (1994))
"""

import contextlib
import csv
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io.extxyz import write_xyz

from eqff.errors import ConfigError, EqffError, ResourceError, RunError
from eqff.graph import check_atoms
from eqff.tasks.velocities import n_degrees_of_freedom, set_momenta

MAX_FORCE = 1e3  # eV/Å; far above anything physical, so the run has left the potential's domain
MAX_CHANGE = 1.0  # eV/atom, of the conserved energy since the start; a sound integration keeps 1e-3
MAX_HEATING = 15.0  # times the temperature that was asked for, or 1000 K if that is more
MAX_LOG_ROWS = 20_000


@dataclass(frozen=True, kw_only=True)
class MDConfig:
    """How to run; `trajectory` names the extended XYZ file, the log stands beside it with the suffix .csv."""

    ensemble: Literal["nve", "nvt", "npt"] = "nve"
    temperature: float = 300.0  # K, of the initial velocities and of the thermostat
    timestep: float = 0.5  # fs
    steps: int = 1000
    pressure_gpa: float = 1e-4  # GPa, npt only; 1e-4 GPa = 1 bar
    thermostat_time: float = 100.0  # fs, 1 / friction (nvt) or damping time (npt)
    barostat_time: float = 1000.0  # fs
    seed: int = 0  # of initial velocities and Langevin noise
    keep_momenta: bool = False  # start with the momenta that the atoms carry
    interval: int = 10  # steps between frames of the trajectory
    log_interval: int | None = None  # steps between log rows; None: every step up to 20,000 rows
    trajectory: Path = Path("traj.extxyz")
    force: bool = False  # overwrite existing files

    def __post_init__(self) -> None:
        object.__setattr__(self, "trajectory", Path(self.trajectory))
        if self.ensemble not in ("nve", "nvt", "npt"):
            raise ConfigError("EQ1201", f"ensemble={self.ensemble!r}: expected nve, nvt or npt")
        for name in ("timestep", "thermostat_time", "barostat_time", "interval"):
            _require(name, getattr(self, name), above=0.0)
        _require("steps", self.steps, at_least=0)
        _require("seed", self.seed, at_least=0)
        _require("pressure_gpa", self.pressure_gpa)
        if self.ensemble == "npt":
            _require("temperature", self.temperature, above=0.0)
        _require("temperature", self.temperature, at_least=0.0)
        if self.log_interval is not None:
            _require("log_interval", self.log_interval, above=0.0)
        if self.trajectory.suffix not in (".extxyz", ".xyz"):
            raise ConfigError("EQ1203", f"trajectory={self.trajectory}: expected a name that ends in .extxyz or .xyz")

    @property
    def log(self) -> Path:
        """The CSV file of energies and temperature."""
        return self.trajectory.with_suffix(".csv")


class MDSample(NamedTuple):
    """The run at one step; one row of the log."""

    step: int
    time_fs: float
    potential: float  # eV
    kinetic: float  # eV
    total: float  # eV
    temperature: float  # K
    conserved: float  # eV, what the equations of motion conserve; NaN for nvt
    volume: float  # Å^3, NaN unless npt


class MDReport(NamedTuple):
    """What a run gave."""

    n_atoms: int
    n_steps: int
    time_ps: float
    wall_seconds: float
    ns_per_day: float  # without the first steps, which warm up; NaN for a run too short to tell
    mean_temperature: float  # K, second half of the run
    conserved: str  # name of the conserved quantity, "" for nvt
    drift: float | None  # meV/atom/ps, least-squares slope of the conserved quantity; None without one
    drift_resolution: float | None  # meV/atom/ps, sqrt(12) fluctuation / duration: a slope fluctuations can mimic
    fluctuation: float | None  # meV/atom, RMS around that line
    max_force: float  # eV/Å, largest of the run
    trajectory: Path
    log: Path
    samples: np.ndarray  # [n_samples] structured array with the fields of MDSample


LOG_HEADER = ("step", "time_fs", "potential_eV", "kinetic_eV", "total_eV", "temperature_K", "conserved_eV", "volume_A3")
CONSERVED = {"nve": "total energy", "nvt": "", "npt": "extended-system energy"}
SAMPLE_TYPE = np.dtype([(name, "i8" if name == "step" else "f8") for name in MDSample._fields])


def run_md(
    config: MDConfig, atoms: Atoms, calculator: Any, progress: Callable[[MDSample], None] | None = None
) -> MDReport:
    """Run molecular dynamics; the caller's atoms stay as they are.

    Args:    config; atoms: starting structure; calculator: any ASE calculator (stress for npt);
             progress: called after every step
    Returns: MDReport
    Raises:  GraphError for a structure that cannot be simulated; ConfigError for options that do not fit it, or files
             that exist; ResourceError for files that cannot be written; RunError when the run blows up, naming step and
             atom.  Also when interrupted, the last good frame is the last one of the trajectory
    """
    started = time.perf_counter()
    _check(config, atoms)
    atoms = atoms.copy()
    atoms.calc = calculator
    rng = np.random.default_rng(config.seed)
    # Langevin noise moves and turns the whole; Verlet and the barostat leave it at rest
    whole = int(atoms.get_number_of_degrees_of_freedom())
    n_free = whole if config.ensemble == "nvt" else n_degrees_of_freedom(atoms)
    if not config.keep_momenta:
        set_momenta(atoms, config.temperature, rng, n_free)
    log_interval = config.log_interval or max(1, math.ceil(config.steps / MAX_LOG_ROWS))
    warm_up = min(10, config.steps // 2)
    samples: list[MDSample] = []
    try:
        good, max_force = _checked_frame(config, atoms, step=0)  # before any file is touched
    except RunError as error:
        raise RunError(error.id, f"step 0: {error.message}; repair or relax the starting structure") from error
    written, warm_at = -1, started
    first: MDSample | None = None
    with _written(config.trajectory) as trajectory, _written(config.log) as log, np.errstate(all="ignore"):
        table = csv.writer(log, lineterminator="\n")
        table.writerow(LOG_HEADER)
        try:
            for dynamics in _integrate(config, atoms, rng):
                step = dynamics.nsteps
                frame, force = _checked_frame(config, atoms, step)
                sample = _sample(config, dynamics, frame, n_free)
                first = first or sample
                _check_course(config, len(atoms), first, sample)
                good, max_force = frame, max(max_force, force)
                if step == warm_up:
                    warm_at = time.perf_counter()
                if step % config.interval == 0 or step == config.steps:
                    _write_frame(trajectory, good)
                    written = step
                if step % log_interval == 0 or step == config.steps:
                    samples.append(sample)
                    table.writerow([step, *(f"{value:.12g}" for value in sample[1:])])
                if progress is not None:
                    progress(sample)
        except BaseException as error:  # Ctrl-C too
            if good.info["step"] != written and not isinstance(error, OSError):
                _write_frame(trajectory, good)
            if not isinstance(error, EqffError):
                raise
            raise RunError(
                error.id if isinstance(error, RunError) else "EQ5101",
                f"step {good.info['step'] + 1} of {config.steps}: {error.message}; the last good frame is the last of "
                f"{config.trajectory}; try a smaller timestep (now {config.timestep} fs) or a lower temperature, and "
                "see whether the potential knows such structures",
            ) from error
    elapsed = time.perf_counter() - warm_at
    return _report(config, len(atoms), np.array(samples, dtype=SAMPLE_TYPE), max_force, started, elapsed, warm_up)


def drift(time_ps: np.ndarray, energy: np.ndarray) -> tuple[float, float]:
    """Least-squares slope of energy against time and RMS deviation from that line.

    Args:    time_ps [n] ps; energy [n] in any unit, n >= 3
    Returns: (slope per ps, RMS deviation), in the unit of energy
    """
    centred = time_ps - time_ps.mean()
    slope = float(centred @ (energy - energy.mean()) / (centred @ centred))
    return slope, float(np.std(energy - energy.mean() - slope * centred))


def _require(name: str, value: float, above: float | None = None, at_least: float | None = None) -> None:
    if above is not None and not (value > above and math.isfinite(value)):
        raise ConfigError("EQ1202", f"{name}={value}: expected a number > {above:g}")
    if at_least is not None and not (value >= at_least and math.isfinite(value)):
        raise ConfigError("EQ1202", f"{name}={value}: expected a number >= {at_least:g}")
    if not math.isfinite(value):
        raise ConfigError("EQ1202", f"{name}={value}: expected a finite number")


def _check(config: MDConfig, atoms: Atoms) -> None:
    """Refuse what would fail later, or silently give nonsense."""
    for path in (config.trajectory, config.log):
        if (path.exists() or path.is_symlink()) and not config.force:
            raise ConfigError("EQ1204", f"{path} exists; choose another name or overwrite it with --force")
    check_atoms(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, "structure")
    massless = np.flatnonzero(~(atoms.get_masses() > 0))
    if massless.size:
        raise ConfigError("EQ1209", f"structure: atom {massless[0]} has mass 0; give every atom a mass")
    if config.keep_momenta and not atoms.has("momenta"):
        raise ConfigError("EQ1206", "keep_momenta: the structure carries no momenta; leave the option out to draw them")
    if config.ensemble == "npt" and not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise ConfigError(
            "EQ1207",
            f"ensemble=npt: pbc={atoms.pbc.tolist()}, cell rank {atoms.cell.rank}; constant pressure needs a structure "
            "periodic in three directions; use nvt",
        )
    allowed = {"nve": object, "nvt": FixAtoms, "npt": ()}[config.ensemble]
    for constraint in atoms.constraints:
        if not isinstance(constraint, allowed):
            raise ConfigError(
                "EQ1208", f"ensemble={config.ensemble}: cannot keep {type(constraint).__name__}; remove it"
            )


@contextlib.contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    """A text file to write; its folder is made.  Raises: ResourceError EQ6202 if that fails, or the disk is full"""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="", buffering=1) as file:
            yield file
    except OSError as error:
        raise ResourceError(
            "EQ6202", f"{path}: cannot be written ({error.strerror}); check name, rights and space on the disk"
        ) from error


def _write_frame(trajectory: TextIO, frame: Atoms) -> None:
    """In one piece, so that no half frame is left when the run is interrupted."""
    text = io.StringIO()
    write_xyz(text, [frame])
    trajectory.write(text.getvalue())


def _check_course(config: MDConfig, n_atoms: int, first: MDSample, sample: MDSample) -> None:
    """Stop a run whose energy or temperature shows that it is no dynamics any more.  Raises: RunError EQ5105, EQ5106"""
    change = (sample.conserved - first.conserved) / n_atoms
    if abs(change) > MAX_CHANGE:
        raise RunError(
            "EQ5105",
            f"the {CONSERVED[config.ensemble]} has changed by {change:+.3g} eV/atom since the start, but should be "
            f"conserved (limit {MAX_CHANGE:g})",
        )
    limit = MAX_HEATING * max(config.temperature, first.temperature, 1000.0)
    if sample.temperature > limit:
        raise RunError("EQ5106", f"the temperature is {sample.temperature:.0f} K, above {limit:.0f} K")


def _integrate(config: MDConfig, atoms: Atoms, rng: np.random.Generator) -> Iterator[Any]:
    """The integrator, at step 0 and after each step; atoms move."""
    timestep = config.timestep * units.fs
    dynamics: Any
    if config.ensemble == "nve":
        from ase.md.verlet import VelocityVerlet

        dynamics = VelocityVerlet(atoms, timestep)
    elif config.ensemble == "nvt":
        from ase.md.langevinbaoab import LangevinBAOAB

        dynamics = LangevinBAOAB(
            atoms,
            timestep,
            temperature_K=config.temperature,
            T_tau=config.thermostat_time * units.fs,
            hydrostatic=True,  # the cell is fixed; this spares a matrix exponential per step
            rng=rng,
        )
    else:
        from ase.md.nose_hoover_chain import IsotropicMTKNPT

        dynamics = IsotropicMTKNPT(
            atoms,
            timestep,
            # ASE's chain counts 3 n_atoms; the momentum of the whole is conserved and stays zero
            temperature_K=config.temperature * n_degrees_of_freedom(atoms) / (3 * len(atoms)),
            pressure_au=config.pressure_gpa * units.GPa,
            tdamp=config.thermostat_time * units.fs,
            pdamp=config.barostat_time * units.fs,
        )
    for _ in dynamics.irun(config.steps):
        yield dynamics


def _checked_frame(config: MDConfig, atoms: Atoms, step: int) -> tuple[Atoms, float]:
    """A copy of the atoms with results, and the largest force.  Raises: RunError when something is off."""
    energy = float(atoms.get_potential_energy())
    forces = atoms.get_forces(apply_constraint=False)
    for name, rows in (("force", forces), ("momentum", atoms.get_momenta()), ("position", atoms.positions)):
        bad = np.flatnonzero(~np.isfinite(rows).all(1))
        if bad.size:
            raise RunError("EQ5102", f"{name} of atom {bad[0]} ({atoms.symbols[bad[0]]}) is {rows[bad[0]].tolist()}")
    if not math.isfinite(energy):
        raise RunError("EQ5103", f"potential energy is {energy} eV")
    length = np.linalg.norm(forces, axis=1)
    worst = int(length.argmax())
    if length[worst] > MAX_FORCE:
        raise RunError(
            "EQ5104", f"force on atom {worst} ({atoms.symbols[worst]}) is {length[worst]:.4g} eV/Å, above {MAX_FORCE:g}"
        )
    frame = atoms.copy()
    frame.info = {"step": step, "time_fs": float(step * config.timestep)}
    results = {"energy": energy, "forces": forces}
    if config.ensemble == "npt":
        results["stress"] = atoms.get_stress()
    frame.calc = SinglePointCalculator(frame, **results)
    return frame, float(length[worst])


def _sample(config: MDConfig, dynamics: Any, frame: Atoms, n_free: int) -> MDSample:
    potential, kinetic = float(frame.get_potential_energy()), float(frame.get_kinetic_energy())
    temperature = 2.0 * kinetic / (n_free * units.kB) if n_free else 0.0
    conserved, volume = math.nan, math.nan
    if config.ensemble == "nve":
        conserved = potential + kinetic
    elif config.ensemble == "npt":
        conserved, volume = dynamics.get_conserved_energy(), float(frame.get_volume())
    step, time_fs = frame.info["step"], frame.info["time_fs"]
    return MDSample(step, time_fs, potential, kinetic, potential + kinetic, temperature, conserved, volume)


def _report(
    config: MDConfig,
    n_atoms: int,
    samples: np.ndarray,
    max_force: float,
    started: float,
    elapsed: float,
    warm_up: int,
) -> MDReport:
    timed_ns = (config.steps - warm_up) * config.timestep * 1e-6
    slope, fluctuation, resolution = None, None, None
    if CONSERVED[config.ensemble] and len(samples) >= 3:
        slope, fluctuation = drift(samples["time_fs"] * 1e-3, samples["conserved"] * 1e3 / n_atoms)
        resolution = math.sqrt(12.0) * fluctuation / (config.steps * config.timestep * 1e-3)
    return MDReport(
        n_atoms=n_atoms,
        n_steps=config.steps,
        time_ps=config.steps * config.timestep * 1e-3,
        wall_seconds=time.perf_counter() - started,
        ns_per_day=timed_ns / elapsed * 86400.0 if timed_ns > 0 else math.nan,
        mean_temperature=float(samples["temperature"][len(samples) // 2 :].mean()),
        conserved=CONSERVED[config.ensemble],
        drift=slope,
        drift_resolution=resolution,
        fluctuation=fluctuation,
        max_force=max_force,
        trajectory=config.trajectory,
        log=config.log,
        samples=samples,
    )
