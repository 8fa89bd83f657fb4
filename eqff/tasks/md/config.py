"""The settings of a run of molecular dynamics."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from eqff.errors import ConfigError
from eqff.tasks.md.guard import Limits

MAX_LOG_ROWS = 20_000
SUFFIXES = (".extxyz", ".xyz", ".traj", ".h5", ".hdf5", ".h5md")


@dataclass(frozen=True, kw_only=True)
class MDConfig:
    """Settings.  The suffix of `trajectory` chooses its format; log and checkpoint are written to the same folder.

    nve  velocity Verlet                                        conserves the total energy
    nvt  Langevin, BAOAB (Leimkuhler & Matthews, J. Chem. Phys. 138, 174102 (2013)), or
         Nosé-Hoover chain (Martyna, Klein & Tuckerman, J. Chem. Phys. 97, 2635 (1992))
    npt  Nosé-Hoover chains and isotropic barostat (Martyna, Tobias & Klein, J. Chem. Phys. 101, 4177 (1994))
    """

    ensemble: Literal["nve", "nvt", "npt"] = "nve"
    thermostat: Literal["langevin", "nose-hoover"] = "langevin"  # of nvt; npt always has Nosé-Hoover chains
    temperature: float = 300.0  # K, of the initial velocities and of the thermostat
    timestep: float = 0.5  # fs
    steps: int = 1000
    pressure_gpa: float = 1e-4  # GPa, npt only; 1e-4 GPa = 1 bar
    thermostat_time: float = 100.0  # fs, 1 / friction (Langevin) or damping time
    barostat_time: float = 1000.0  # fs
    seed: int = 0  # of initial velocities and Langevin noise
    keep_momenta: bool = False  # start with the momenta that the atoms carry
    interval: int = 10  # steps between frames of the trajectory
    log_interval: int | None = None  # steps between log rows; None: every step up to 20,000 rows
    trajectory: Path = Path("traj.extxyz")
    checkpoint_interval: int = 1000  # steps between checkpoints; affects only how much a crash can lose
    resume: bool = False  # continue from the checkpoint
    force: bool = False  # overwrite existing files
    guard: Limits | None = field(default_factory=Limits)  # None: only non-finite numbers stop the run

    def __post_init__(self) -> None:
        object.__setattr__(self, "trajectory", Path(self.trajectory))
        if self.ensemble not in ("nve", "nvt", "npt"):
            raise ConfigError("EQ1201", f"ensemble={self.ensemble!r} is unknown; choose nve, nvt or npt")
        if self.thermostat not in ("langevin", "nose-hoover"):
            raise ConfigError("EQ1260", f"thermostat={self.thermostat!r} is unknown; choose langevin or nose-hoover")
        for name in ("timestep", "thermostat_time", "barostat_time", "interval", "checkpoint_interval"):
            _require(name, getattr(self, name), above=0.0)
        _require("steps", self.steps, at_least=0)
        _require("seed", self.seed, at_least=0)
        _require("pressure_gpa", self.pressure_gpa)
        if self.integrator in ("nose-hoover", "npt"):
            _require("temperature", self.temperature, above=0.0)
        _require("temperature", self.temperature, at_least=0.0)
        if self.log_interval is not None:
            _require("log_interval", self.log_interval, above=0.0)
        if self.trajectory.suffix not in SUFFIXES:
            raise ConfigError(
                "EQ1203",
                f"trajectory={self.trajectory} has an unknown suffix; give a name that ends in {', '.join(SUFFIXES)}",
            )
        if self.resume and self.force:
            raise ConfigError("EQ1261", "resume and force: a run is continued or overwritten, not both; leave one out")

    @property
    def integrator(self) -> str:
        """nve, langevin, nose-hoover or npt."""
        return self.thermostat if self.ensemble == "nvt" else self.ensemble

    @property
    def rows_interval(self) -> int:
        """Steps between log rows."""
        return self.log_interval or max(1, math.ceil(self.steps / MAX_LOG_ROWS))

    @property
    def log(self) -> Path:
        """The CSV file of energies and temperature."""
        return self.trajectory.with_suffix(".csv")

    @property
    def checkpoint(self) -> Path:
        """The file that `resume` continues from."""
        return self.trajectory.with_suffix(".restart.npz")

    @property
    def last_good(self) -> Path:
        """Where the guard puts the last frame within its limits."""
        return self.trajectory.with_name(f"{self.trajectory.stem}_last_good.extxyz")

    @property
    def offending(self) -> Path:
        """Where the guard puts the frame that stopped the run."""
        return self.trajectory.with_name(f"{self.trajectory.stem}_offending.extxyz")

    def refuse_existing(self) -> None:
        """Raises: ConfigError EQ1204 for a file of an earlier run that would be lost."""
        mine = (self.trajectory, self.log, self.checkpoint, self.last_good, self.offending)
        for path in () if self.force or self.resume else mine:
            if path.exists() or path.is_symlink():
                remedy = ", continue it with --resume," if self.checkpoint.exists() else ""
                raise ConfigError("EQ1204", f"{path} exists; choose another name{remedy} or overwrite it with --force")


def _require(name: str, value: float, above: float | None = None, at_least: float | None = None) -> None:
    if above is not None and not (value > above and math.isfinite(value)):
        raise ConfigError("EQ1202", f"{name}={value}: expected a number > {above:g}; correct the value")
    if at_least is not None and not (value >= at_least and math.isfinite(value)):
        raise ConfigError("EQ1922", f"{name}={value}: expected a number >= {at_least:g}; correct the value")
    if not math.isfinite(value):
        raise ConfigError("EQ1966", f"{name}={value}: expected a finite number; correct the value")
