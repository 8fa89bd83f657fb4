"""A data set of one's own: frames of Langevin dynamics, labelled by any ASE calculator, as MD17 was made.

Several trajectories start from one structure with velocities and noise of their own.  Each is equilibrated, then every
`interval`-th frame is kept; of periodic structures a share is strained first, so that there is something to learn
stress from.  A run that is killed continues to the same frames: after every block the state is on disk, and the
calculator is made anew, so that nothing it remembers (a converged density) depends on where the run was stopped.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms, units

from eqff.data.frame import Frame, check_frame, hill_formula
from eqff.data.reading.write import write_frames
from eqff.data.store.store import write_store
from eqff.engines.ase.calculators import Maker
from eqff.errors import ConfigError, RunError
from eqff.graph import check_atoms
from eqff.tasks.md.config import MDConfig
from eqff.tasks.md.integrators import make_integrator
from eqff.tasks.md.velocities import set_momenta
from eqff.tasks.resumable import ResumableFile

SUFFIXES = (".h5", ".extxyz", ".xyz")
BLOCK = 200  # steps between states on disk, at least one kept frame
RUNAWAY = 20.0  # times the temperature, at which a trajectory is given up


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How to sample.  n_frames of each of n_seeds trajectories."""

    output: Path
    temperature: float = 500.0  # K
    timestep: float = 0.5  # fs
    thermostat_time: float = 100.0  # fs, 1 / friction
    interval: int = 20  # steps between kept frames
    equilibration: int = 4000  # steps before the first one
    n_frames: int = 500
    n_seeds: int = 2
    seed: int = 0  # of the first trajectory
    volume: float = 0.0  # largest relative change of the volume of strained frames
    strain: float = 0.0  # largest component of their strain at constant volume
    strained_share: float = 0.5  # of the frames, where volume or strain is not 0
    resume: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Path(self.output))
        if self.output.suffix not in SUFFIXES:
            raise ConfigError("EQ3421", f"output={self.output}: expected a name that ends in {' or '.join(SUFFIXES)}")
        for name in ("temperature", "timestep", "thermostat_time"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ConfigError("EQ3422", f"{name}={value}: expected a number > 0")
        for name, least in (("interval", 1), ("equilibration", 0), ("n_frames", 1), ("n_seeds", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError("EQ3422", f"{name}={getattr(self, name)}: expected a whole number >= {least}")
        for name, most in (("volume", 0.5), ("strain", 0.2), ("strained_share", 1.0)):
            if not 0.0 <= getattr(self, name) <= most:
                raise ConfigError("EQ3422", f"{name}={getattr(self, name)}: expected a number from 0 to {most}")

    @property
    def strains(self) -> bool:
        """Whether some frames are strained."""
        return (self.volume > 0.0 or self.strain > 0.0) and self.strained_share > 0.0


class SampleReport(NamedTuple):
    """What was made."""

    output: Path
    n_frames: int
    n_strained: int
    mean_temperature: float  # K, of the kept frames
    provenance: dict[str, str]
    resumed_at: int | None  # frames that were there already


def run_sample(
    config: SampleConfig, atoms: Atoms, maker: Maker, progress: Callable[[int, int], None] | None = None
) -> SampleReport:
    """Make a data set.

    Args:    config; atoms: starting structure, stays as it is; maker: makes a new calculator whenever it is called;
             progress: told how many frames of how many are there
    Raises:  GraphError for the structure; ConfigError EQ3421 to EQ3424 for options and files that do not fit; RunError
             EQ3430 when a trajectory runs away, naming seed and step
    """
    check_atoms(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, "structure")
    if config.strains and not atoms.pbc.all():
        raise ConfigError("EQ3423", "volume and strain need a structure periodic in three directions; leave them out")
    n_total = config.n_frames * config.n_seeds
    settings = _settings(config, atoms, maker)
    file = ResumableFile(config.output, settings, {"seed": 0, "step": 0}, config.resume, config.force)
    resumed_at = None
    with file:
        if not file.finished:
            n_done = _lines(file.partial)
            resumed_at = n_done if n_done else None
            for text, memory in _pieces(config, atoms, maker, file.memory):
                file.append(text, memory)
                n_done += text.count("\n")
                if progress is not None:
                    progress(n_done, n_total)
            frames = list(_read(file.partial))
            provenance = _provenance(config, atoms, maker)
            _write(config, frames, provenance)
            file.partial.unlink()
            file.state.unlink()
    if file.finished:
        raise ConfigError("EQ3424", f"{config.output} is finished; choose another name, or make it anew with --force")
    heat = [float(frame.info["temperature_K"]) for frame in frames]
    n_strained = sum(bool(frame.info.get("strained")) for frame in frames)
    return SampleReport(config.output, len(frames), n_strained, float(np.mean(heat)), provenance, resumed_at)


def _pieces(
    config: SampleConfig, atoms: Atoms, maker: Maker, memory: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Lines of kept frames, and the state behind them, block by block."""
    n_steps = config.equilibration + config.interval * config.n_frames
    block = max(BLOCK // config.interval, 1) * config.interval
    first_seed, state = int(memory["seed"]), memory if memory["step"] else None
    for seed in range(first_seed, config.n_seeds):
        moving, rng, step = _begin(config, atoms, seed, state)
        state = None
        while step < n_steps:
            moving.calc = maker()
            dynamics = make_integrator(_md(config), moving, rng)
            lines = []
            end = min(step + block, n_steps)
            while step < end:
                pause = min(end, step + config.interval - (step - config.equilibration) % config.interval)
                dynamics.run(pause - step)
                step = pause
                _watch(config, moving, seed, step)
                if step > config.equilibration and (step - config.equilibration) % config.interval == 0:
                    lines.append(_line(_labelled(config, moving, maker, seed, step)))
            finished = step >= n_steps
            kept = {"seed": seed + 1, "step": 0} if finished else _state(moving, rng, seed, step)
            yield "".join(lines), kept


def _begin(
    config: SampleConfig, atoms: Atoms, seed: int, state: dict[str, Any] | None
) -> tuple[Atoms, np.random.Generator, int]:
    """Atoms, source of noise and step, at the start of a trajectory or where it was left."""
    moving = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    rng = np.random.default_rng([config.seed, seed])
    if state is None:
        set_momenta(moving, config.temperature, rng, 3 * len(moving))
        return moving, rng, 0
    moving.positions[:] = state["positions"]
    moving.set_momenta(np.array(state["momenta"]))
    rng.bit_generator.state = state["rng"]
    return moving, rng, int(state["step"])


def _state(moving: Atoms, rng: np.random.Generator, seed: int, step: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "step": step,
        "positions": moving.positions.tolist(),
        "momenta": moving.get_momenta().tolist(),
        "rng": rng.bit_generator.state,
    }


def _watch(config: SampleConfig, moving: Atoms, seed: int, step: int) -> None:
    temperature = _temperature(moving)
    if not math.isfinite(temperature) or temperature > RUNAWAY * config.temperature:
        raise RunError(
            "EQ3430",
            f"seed {seed}, step {step}: the temperature is {temperature:.3g} K; try a smaller timestep (now "
            f"{config.timestep} fs), and see whether the calculator can treat this structure",
        )


def _labelled(config: SampleConfig, moving: Atoms, maker: Maker, seed: int, step: int) -> Frame:
    """The frame of this moment, or a strained copy of it, with labels."""
    info: dict[str, Any] = {"seed": seed, "step": step, "temperature_K": _temperature(moving)}
    labelled = moving
    random = np.random.default_rng([config.seed, seed, step])  # of its own, so that the trajectory is not touched
    if config.strains and random.random() < config.strained_share:
        labelled = moving.copy()
        labelled.set_cell(moving.cell.array @ _deformation(config, random), scale_atoms=True)
        labelled.calc = maker()
        info["strained"] = True
    calculator = labelled.calc
    with_stress = bool(labelled.pbc.all()) and "stress" in calculator.implemented_properties
    frame = Frame(
        atomic_numbers=labelled.numbers.astype(np.int64),
        positions=labelled.positions - (0.0 if labelled.pbc.any() else labelled.get_center_of_mass()),
        cell=labelled.cell.array.copy(),
        pbc=labelled.pbc.copy(),
        energy=float(labelled.get_potential_energy()),
        forces=np.array(labelled.get_forces()),
        stress=np.array(labelled.get_stress()) if with_stress else None,
        info=info,
    )
    check_frame(frame, f"seed {seed}, step {step}")
    return frame


def _deformation(config: SampleConfig, random: np.random.Generator) -> np.ndarray:
    """[3, 3] a change of volume and a symmetric strain that keeps it, both uniform within their limits."""
    strain = random.uniform(-config.strain, config.strain, size=(3, 3))
    deformation = np.eye(3) + 0.5 * (strain + strain.T)
    scale = 1.0 + random.uniform(-config.volume, config.volume)
    return deformation * (scale / np.linalg.det(deformation)) ** (1.0 / 3.0)


def _temperature(moving: Atoms) -> float:
    return float(2.0 * moving.get_kinetic_energy() / (3 * len(moving) * units.kB))


def _md(config: SampleConfig) -> MDConfig:
    return MDConfig(
        ensemble="nvt",
        thermostat="langevin",
        temperature=config.temperature,
        timestep=config.timestep,
        thermostat_time=config.thermostat_time,
    )


def _settings(config: SampleConfig, atoms: Atoms, maker: Maker) -> dict[str, Any]:
    """All that decides the frames, as JSON values."""
    digest = hashlib.sha256()
    for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc):
        digest.update(np.ascontiguousarray(array).tobytes())
    options = {name: value for name, value in asdict(config).items() if name not in ("output", "resume", "force")}
    return {**options, "calculator": maker.name, "structure": digest.hexdigest()[:16]}


def _provenance(config: SampleConfig, atoms: Atoms, maker: Maker) -> dict[str, str]:
    import ase

    from eqff import __version__

    strained = ""
    if config.strains:
        share, volume = f"{100 * config.strained_share:.0f} %", f"{100 * config.volume:g} %"
        strained = f"; {share} of the frames with volumes changed by up to {volume} and strains up to {config.strain:g}"
    return {
        "level_of_theory": maker.level_of_theory,
        "generator": f"eqff {__version__} data sample, ase {ase.__version__}",
        "structure": hill_formula(atoms.numbers),
        "dynamics": f"Langevin (BAOAB), {config.temperature:g} K, {config.timestep:g} fs, 1/friction "
        f"{config.thermostat_time:g} fs, {config.equilibration} steps of equilibration, every {config.interval} steps, "
        f"{config.n_frames} frames of each of {config.n_seeds} seeds from {config.seed}{strained}",
        "units": "eV, Å",
    }


def _write(config: SampleConfig, frames: list[Frame], provenance: dict[str, str]) -> None:
    if config.output.suffix == ".h5":
        write_store(config.output, frames, provenance=provenance, force=config.force)
        return
    write_frames(config.output, frames, force=config.force)
    beside = config.output.with_name(f"{config.output.name}.json")
    beside.write_text(json.dumps(provenance, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _line(frame: Frame) -> str:
    """One frame as a line of JSON, every digit kept."""
    values = {
        name: None if getattr(frame, name) is None else np.asarray(getattr(frame, name)).tolist()
        for name in ("atomic_numbers", "positions", "cell", "pbc", "energy", "forces", "stress")
    }
    return json.dumps({**values, "info": frame.info}) + "\n"


def _read(path: Path) -> Iterator[Frame]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            values: dict[str, Any] = json.loads(line)
            for name in ("atomic_numbers", "positions", "cell", "pbc", "forces", "stress"):
                values[name] = None if values[name] is None else np.array(values[name])
            yield Frame(**values)


def _lines(path: Path) -> int:
    with path.open(encoding="utf-8") as file:
        return sum(1 for _ in file)
