"""Make a data set: frames of Langevin dynamics, labelled by any ASE calculator, the way MD17 was made.

Several trajectories start from one structure, each with different velocities and noise.  After equilibration every
`interval`-th frame is kept; a share of the frames of periodic structures is strained first, so that a potential can
learn stress from them.

A run that is killed continues to the same frames and loses one block at most.  After every block the labelled frames
and the state of the dynamics are on disk (`ResumableFile`, whatever the format of the output), and the calculator is
made anew, so that its memory (a converged density) does not depend on where the run was stopped.  When the last frame
is there, `write_frames` streams all of them into the output, which appears whole.
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
from eqff.engines.ase.calculators import Maker
from eqff.errors import ConfigError, RunError
from eqff.files import new_file
from eqff.graph import check_atoms
from eqff.tasks.md.config import MDConfig
from eqff.tasks.md.integrators import make_integrator
from eqff.tasks.md.velocities import set_momenta
from eqff.tasks.resumable import ResumableFile

SUFFIXES = (".h5", ".extxyz", ".xyz")
BLOCK = 200  # steps between states on disk; a block has at least one kept frame
RUNAWAY = 20.0  # a trajectory that is hotter than the thermostat by this factor is stopped


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How to sample: n_frames of each of n_seeds trajectories."""

    output: Path
    temperature: float = 500.0  # K
    timestep: float = 0.5  # fs
    thermostat_time: float = 100.0  # fs, 1 / friction
    interval: int = 20  # steps between kept frames
    equilibration: int = 4000  # steps before the first kept frame
    n_frames: int = 500
    n_seeds: int = 2
    seed: int = 0  # of the random numbers; every trajectory derives a different seed from it
    volume: float = 0.0  # strained frames: largest relative change of volume
    strain: float = 0.0  # strained frames: largest component of the strain at constant volume
    strained_share: float = 0.5  # share of strained frames if volume or strain is not 0
    resume: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Path(self.output))
        if self.output.suffix not in SUFFIXES:
            raise ConfigError(
                "EQ1956",
                f"output={self.output} has an unknown suffix; give a name that ends in {' or '.join(SUFFIXES)}",
            )
        for name in ("temperature", "timestep", "thermostat_time"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ConfigError("EQ1938", f"{name}={value}: expected a number > 0; give a positive number")
        for name, least in (("interval", 1), ("equilibration", 0), ("n_frames", 1), ("n_seeds", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    "EQ1939", f"{name}={getattr(self, name)}: expected a whole number >= {least}; give a larger one"
                )
        for name, most in (("volume", 0.5), ("strain", 0.2), ("strained_share", 1.0)):
            if not 0.0 <= getattr(self, name) <= most:
                raise ConfigError(
                    "EQ1940",
                    f"{name}={getattr(self, name)}: expected a number from 0 to {most}; give a value in this range",
                )

    @property
    def strains(self) -> bool:
        """Whether some frames are strained."""
        return (self.volume > 0.0 or self.strain > 0.0) and self.strained_share > 0.0


class SampleReport(NamedTuple):
    """Summary of a finished run."""

    output: Path
    n_frames: int
    n_strained: int
    mean_temperature: float  # K, over the kept frames
    provenance: dict[str, str]
    resumed_at: int | None  # number of frames left by an earlier run, None without an earlier run


def run_sample(
    config: SampleConfig, atoms: Atoms, maker: Maker, progress: Callable[[int, int], None] | None = None
) -> SampleReport:
    """Make a data set.

    Args:    config; atoms: starting structure, not changed; maker: returns a new calculator whenever it is called;
             progress: called with the number of labelled frames and the number of all
    Returns: counts, mean temperature and provenance
    Raises:  GraphError for the structure; ConfigError EQ1957 if a molecule is to be strained, EQ1958 if the output is
             finished already, EQ1221 to EQ1223 for files of another run; RunError EQ5922 when a trajectory runs away
    """
    check_atoms(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, "structure")
    if config.strains and not atoms.pbc.all():
        raise ConfigError("EQ1957", "volume and strain need a structure periodic in three directions; leave them out")
    n_total = config.n_frames * config.n_seeds
    settings = _settings(config, atoms, maker)
    file = ResumableFile(config.output, settings, {"seed": 0, "step": 0}, config.resume, config.force)
    with file:
        if file.finished:
            raise ConfigError(
                "EQ1958", f"{config.output} is finished; choose another name, or make it anew with --force"
            )
        n_before = n_frames = _count_lines(file.partial)
        for text, memory in _blocks(config, atoms, maker, file.memory):
            file.append(text, memory)
            n_frames += text.count("\n")
            if progress is not None:
                progress(n_frames, n_total)
        provenance = _provenance(config, atoms, maker)
        infos = [frame.info for frame in _read(file.partial)]
        _write(config, _read(file.partial), provenance)
        file.partial.unlink()
        file.state.unlink()
    temperature = float(np.mean([float(info["temperature_K"]) for info in infos]))
    n_strained = sum(bool(info.get("strained")) for info in infos)
    return SampleReport(config.output, len(infos), n_strained, temperature, provenance, n_before or None)


def _blocks(
    config: SampleConfig, atoms: Atoms, maker: Maker, memory: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Lines of the kept frames of each block, and the state of the dynamics after it."""
    n_steps = config.equilibration + config.interval * config.n_frames
    n_block = max(BLOCK // config.interval, 1) * config.interval
    first_seed, state = int(memory["seed"]), memory if memory["step"] else None
    for seed in range(first_seed, config.n_seeds):
        moving, rng, step = _begin(config, atoms, seed, state)
        state = None
        while step < n_steps:
            moving.calc = maker()
            dynamics = make_integrator(_md(config), moving, rng)
            lines = []
            end = min(step + n_block, n_steps)
            while step < end:
                stop = min(end, step + config.interval - (step - config.equilibration) % config.interval)
                dynamics.run(stop - step)
                step = stop
                _check_temperature(config, moving, seed, step)
                if step > config.equilibration and (step - config.equilibration) % config.interval == 0:
                    lines.append(_line(_labelled(config, moving, maker, seed, step)))
            yield "".join(lines), {"seed": seed + 1, "step": 0} if step >= n_steps else _state(moving, rng, seed, step)


def _begin(
    config: SampleConfig, atoms: Atoms, seed: int, state: dict[str, Any] | None
) -> tuple[Atoms, np.random.Generator, int]:
    """Atoms, random generator and step at the start of a trajectory, or in the state of a stopped run."""
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


def _check_temperature(config: SampleConfig, moving: Atoms, seed: int, step: int) -> None:
    temperature = _temperature(moving)
    if not math.isfinite(temperature) or temperature > RUNAWAY * config.temperature:
        raise RunError(
            "EQ5922",
            f"seed {seed}, step {step}: temperature={temperature:.3g} K, expected about {config.temperature:g} K; try "
            f"a smaller timestep (now {config.timestep} fs), or check that the calculator is made for this structure",
        )


def _labelled(config: SampleConfig, moving: Atoms, maker: Maker, seed: int, step: int) -> Frame:
    """The current frame, or a strained copy of it, with labels."""
    info: dict[str, Any] = {"seed": seed, "step": step, "temperature_K": _temperature(moving)}
    labelled = moving
    random = np.random.default_rng([config.seed, seed, step])  # not the generator of the dynamics
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
    """[3, 3] a change of volume times a symmetric strain at constant volume, both uniform within their limits."""
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
    """Everything that decides the frames, as JSON values."""
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


def _write(config: SampleConfig, frames: Iterator[Frame], provenance: dict[str, str]) -> None:
    """The finished data set; formats without room for provenance get it in OUTPUT.json."""
    if config.output.suffix != ".h5":
        with new_file(f"{config.output}.json", force=True) as temporary:
            temporary.write_text(json.dumps(provenance, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    # a resumed run may have been killed after this very file appeared
    write_frames(config.output, frames, provenance=provenance, force=config.force or config.resume)


def _line(frame: Frame) -> str:
    """A frame as a line of JSON, with every digit."""
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


def _count_lines(path: Path) -> int:
    with path.open(encoding="utf-8") as file:
        return sum(1 for _ in file)
