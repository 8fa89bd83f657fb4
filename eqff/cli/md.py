"""eqff md: molecular dynamics with a potential."""

import json
import logging
import math
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from eqff.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ase import Atoms

    from eqff.engines.ase import EqffCalculator
    from eqff.tasks.md import MDConfig, MDReport, MDSample


class Ensemble(StrEnum):
    """What is held constant besides the number of atoms."""

    nve = "nve"
    nvt = "nvt"
    npt = "npt"


class Thermostat(StrEnum):
    """How nvt holds the temperature."""

    langevin = "langevin"
    nose_hoover = "nose-hoover"


class Accelerate(StrEnum):
    """Which program runs: the file's own, what `eqff compile` made of it, or that as soon as it is made."""

    off = "off"
    ready = "ready"
    auto = "auto"


FEW_ATOMS = 50
UNITS = {  # names in JSON
    "mean_temperature": "mean_temperature_K",
    "drift": "drift_meV_per_atom_per_ps",
    "drift_resolution": "drift_resolution_meV_per_atom_per_ps",
    "fluctuation": "fluctuation_meV_per_atom",
    "max_force": "max_force_eV_A",
}


def command(
    potential: Annotated[str, typer.Argument(help="A potential file, or the name of a shipped potential.")],
    structure: Annotated[
        Optional[str],
        typer.Option(
            help="Any file ASE reads; its last frame, or frame N with FILE@N.", show_default="the potential's own"
        ),
    ] = None,
    ensemble: Annotated[
        Ensemble, typer.Option(help="Constant energy, temperature, or pressure.", case_sensitive=False)
    ] = Ensemble.nve,
    thermostat: Annotated[
        Thermostat, typer.Option(help="Of nvt; npt always has Nosé-Hoover chains.", case_sensitive=False)
    ] = Thermostat.langevin,
    temperature: Annotated[float, typer.Option(help="K, of the start and of the thermostat.")] = 300.0,
    timestep: Annotated[float, typer.Option(help="fs; 0.5 with hydrogen, 1 to 2 without.")] = 0.5,
    steps: Annotated[int, typer.Option(help="Number of time steps; more than before continues a finished run.")] = 1000,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Trajectory: .extxyz, .xyz, .traj or .h5 (H5MD); the other files stand beside it."
        ),
    ] = Path("traj.extxyz"),
    pressure: Annotated[float, typer.Option(help="GPa, for npt; 0.0001 GPa = 1 bar.")] = 1e-4,
    thermostat_time: Annotated[float, typer.Option(help="fs, in which the temperature is brought back.")] = 100.0,
    barostat_time: Annotated[float, typer.Option(help="fs, in which the pressure is brought back.")] = 1000.0,
    seed: Annotated[int, typer.Option(help="Of initial velocities and noise.")] = 0,
    keep_momenta: Annotated[
        bool, typer.Option("--keep-momenta", help="Start with the momenta in the structure file.")
    ] = False,
    interval: Annotated[int, typer.Option(help="Steps between frames of the trajectory.")] = 10,
    checkpoint_interval: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 1000,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint, with the same options.")
    ] = False,
    replicas: Annotated[int, typer.Option(min=1, help="Runs with seeds SEED, SEED + 1, ...; files are numbered.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Replicas at the same time, one thread each.")] = 1,
    guard: Annotated[
        bool,
        typer.Option("--guard/--no-guard", help="Stop, naming the atoms, when one of the next four limits is passed."),
    ] = True,
    min_distance: Annotated[
        Optional[float],
        typer.Option(
            help="Å, of two atoms.",
            show_default="half the sum of covalent radii, or 0.8 x the shortest in training if larger",
        ),
    ] = None,
    max_force: Annotated[float, typer.Option(help="eV/Å, on an atom.")] = 100.0,
    max_temperature: Annotated[
        Optional[float], typer.Option(help="K, at any step.", show_default="10 x the temperature, more for a few atoms")
    ] = None,
    max_jump: Annotated[float, typer.Option(help="eV/atom, of the total energy in one step.")] = 0.5,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Of the weights: float32, float64 or auto (as stored).")] = "auto",
    accelerate: Annotated[
        Accelerate,
        typer.Option(
            help="off: the file's program; ready: the compiled one if `eqff compile` was run; "
            "auto: compile in the background and change over (not bit-reproducible).",
            case_sensitive=False,
        ),
    ] = Accelerate.ready,
    exact: Annotated[bool, typer.Option("--exact", help="Of compiled programs, only those without splines.")] = False,
    threads: Annotated[
        Optional[int],
        typer.Option(min=1, help="CPU threads.", show_default="1 for up to 50 atoms, else torch's choice"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    plot: Annotated[
        bool, typer.Option("--plot/--no-plot", help="Draw energies, temperature, drift, distances and spectrum.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON for machines.")] = False,
) -> None:
    """Run molecular dynamics; the run can be continued, and stops when it leaves the physics."""
    from eqff.tasks.md import Limits, MDConfig
    from eqff.tasks.md.replicas import replica_configs, run_replicas

    limits = Limits(min_distance=min_distance, max_force=max_force, max_temperature=max_temperature, max_jump=max_jump)
    config = MDConfig(
        ensemble=ensemble.value,
        thermostat=thermostat.value,
        temperature=temperature,
        timestep=timestep,
        steps=steps,
        pressure_gpa=pressure,
        thermostat_time=thermostat_time,
        barostat_time=barostat_time,
        seed=seed,
        keep_momenta=keep_momenta,
        interval=interval,
        trajectory=output,
        checkpoint_interval=checkpoint_interval,
        resume=resume,
        force=force,
        guard=limits if guard else None,
    )
    configs = replica_configs(config, replicas)
    for one in configs:  # before anything is loaded
        one.refuse_existing()
    pictures = [one.trajectory.with_suffix(".png") if plot else None for one in configs]
    for picture in pictures:
        if picture is not None and picture.exists() and not (force or resume):
            raise ConfigError(
                "EQ1210", f"{picture} exists; choose another name, --no-plot, or overwrite it with --force"
            )
    atoms = _structure(structure, potential)
    for one in configs:
        if structure is not None and _file(structure).resolve() in (one.trajectory.resolve(), one.log.resolve()):
            raise ConfigError(
                "EQ1212", f"output={str(output)!r} would overwrite the structure it starts from; choose another"
            )
    options = {"device": device, "dtype": dtype, "accelerate": accelerate.value, "exact": exact}
    calculator = _calculator(potential, atoms, threads, options)
    title = f"{Path(potential).name.removesuffix('.eqff.pt')}: {atoms.get_chemical_formula()}, {ensemble.value}"
    if ensemble == Ensemble.nvt:
        title += f" ({thermostat.value})"
    with _Bar(title, config, replicas, hidden=as_json) as bar:
        try:
            reports = run_replicas(
                config, atoms, calculator, replicas, processes, bar.advance, bar.announce, _one_thread
            )
        except KeyboardInterrupt:
            typer.echo(
                f"interrupted; what was done is beside {output}, continue with the same command and --resume", err=True
            )
            raise
    for one, report, picture in zip(configs, reports, pictures, strict=True):
        name = title if replicas == 1 else f"{title}, seed {one.seed}"
        if picture is not None:
            _draw(picture, one, report, f"{name}, {timestep:g} fs")
        if not as_json:
            _show(name, one, report, picture, _program(calculator))
    if as_json:
        program = {"program": calculator.program}
        plain = [{**_plain(report, picture), **program} for report, picture in zip(reports, pictures, strict=True)]
        typer.echo(json.dumps(plain[0] if replicas == 1 else {"replicas": plain}))


def _calculator(potential: str, atoms: "Atoms", threads: int | None, options: dict[str, Any]) -> "EqffCalculator":
    """The one place where the engine of this verb is made."""
    import torch

    from eqff.engines.ase import EqffCalculator

    if threads is None and len(atoms) <= FEW_ATOMS:
        threads = 1  # more would only wait for each other, for seconds on a busy machine
    if threads is not None:
        torch.set_num_threads(threads)  # this process is ours
    return EqffCalculator(potential, **options)


def _program(calculator: "EqffCalculator") -> str:
    """What computed the forces, and what would be faster."""
    from eqff.kernels import build

    program = calculator.program
    if program != "TorchScript" or calculator.parameters["accelerate"] == "off" or build.compiler() is None:
        return program
    return f"{program}; `eqff compile` with this potential makes runs on this machine several times faster"


def _one_thread() -> None:
    """In each process of --processes."""
    import torch

    torch.set_num_threads(1)


def _structure(structure: str | None, potential: str) -> "Atoms":
    import ase.io

    from eqff import artifact
    from eqff.data.reading.xyz import check_layout

    source: str | Path | None = structure
    if source is None:
        source = artifact.default_structure(potential)
    if source is None:
        raise ConfigError("EQ1211", f"{potential} brings no structure along; give one with --structure FILE")
    try:
        if _file(source).suffix in (".xyz", ".extxyz"):
            check_layout(_file(source))
        atoms = ase.io.read(source)
    except DataError:
        raise
    except (StopIteration, IndexError) as error:
        raise DataError("EQ3903", f"structure={str(source)!r}: the file has no such frame") from error
    except FileNotFoundError as error:
        raise DataError("EQ3901", f"structure={str(source)!r}: no such file") from error
    except Exception as error:  # ASE's readers raise whatever they meet
        reason = f"{type(error).__name__}: {error}"
        raise DataError(
            "EQ3902", f"structure={str(source)!r}: ASE cannot read it ({reason}); give e.g. an XYZ file"
        ) from error
    if isinstance(atoms, list):
        raise DataError("EQ3904", f"structure={str(source)!r}: {len(atoms)} frames; choose one with FILE@N")
    return atoms


def _file(source: str | Path) -> Path:
    """The file of FILE or FILE@N."""
    path = Path(source)
    return path if path.exists() else Path(str(source).rpartition("@")[0] or source)


class _Bar:
    """Progress on stderr with temperature, speed and time left; nothing where nobody looks."""

    def __init__(self, title: str, config: "MDConfig", replicas: int, hidden: bool) -> None:
        from rich.console import Console
        from rich.logging import RichHandler
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True, highlight=False)
        self.hidden = hidden
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
        self.progress = Progress(
            *columns,
            TimeRemainingColumn(),
            "left",
            console=self.console,
            disable=hidden or not self.console.is_terminal,
            transient=True,
        )
        self.config, self.replicas, self.title = config, replicas, title
        self.task = self.progress.add_task(title, total=config.steps, speed="")
        self.logger = logging.getLogger("eqff.accelerate")
        self.handler = RichHandler(console=self.console, show_path=False, show_level=False)
        self.replica = -1
        self.shown_at = -math.inf
        self.started_at, self.started_fs = math.nan, 0.0

    def __enter__(self) -> "_Bar":
        self.progress.start()
        if not self.hidden:
            self.logger.addHandler(self.handler)
            self.logger.setLevel(logging.INFO)
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()
        self.logger.removeHandler(self.handler)

    def announce(self, limits: str) -> None:
        """What the guard watches."""
        if not self.hidden:
            self.console.print(limits, markup=False, soft_wrap=True)

    def advance(self, replica: int, sample: "MDSample") -> None:
        now = time.monotonic()
        if replica != self.replica:
            self.replica, self.started_at, self.started_fs = replica, now, sample.time_fs
            part = f" ({replica + 1} of {self.replicas})" if self.replicas > 1 else ""
            self.progress.reset(self.task, description=self.title + part)
        if now - self.shown_at < 0.1 and sample.step < self.config.steps:
            return
        self.shown_at = now
        speed = f"{sample.temperature:4.0f} K"
        if sample.time_fs > self.started_fs and now > self.started_at:
            speed += f"  {(sample.time_fs - self.started_fs) * 1e-6 / (now - self.started_at) * 86400.0:.3g} ns/day"
        self.progress.update(self.task, completed=sample.step, speed=speed)


def _draw(picture: Path, config: "MDConfig", report: "MDReport", title: str) -> None:
    from eqff.report.md import plot_md

    samples, distances, spectrum = report.samples, report.pair_distances, report.spectrum
    plot_md(
        picture,
        samples["time_fs"],
        samples["potential"],
        samples["kinetic"],
        samples["temperature"],
        title,
        n_atoms=report.n_atoms,
        conserved_eV=samples["conserved"] if report.conserved else None,
        conserved_name=report.conserved,
        drift=report.drift,
        target_temperature_K=None if config.ensemble == "nve" else config.temperature,
        distances=None if distances is None else distances._asdict(),
        spectrum=None if spectrum is None else spectrum._asdict(),
    )


def _plain(report: "MDReport", picture: Path | None) -> dict[str, Any]:
    """The report for JSON: paths as text, NaN as null, without arrays (files have them)."""
    fields = {**report._asdict(), "picture": picture}
    for name in ("samples", "pair_distances", "spectrum"):
        del fields[name]
    values = {UNITS.get(name, name): value for name, value in fields.items()}
    for name, value in values.items():
        if isinstance(value, Path):
            values[name] = str(value)
        elif isinstance(value, float) and not math.isfinite(value):
            values[name] = None
    return values


def _show(title: str, config: "MDConfig", report: "MDReport", picture: Path | None, program: str) -> None:
    from rich.console import Console

    lines = [
        f"{title}: {report.n_atoms} atoms, {report.n_steps} steps of {config.timestep:g} fs"
        f" = {report.time_ps:g} ps in {report.wall_seconds:.1f} s"
    ]
    if report.resumed_at is not None:
        lines.append(f"  resumed      at step {report.resumed_at}")
    if math.isfinite(report.ns_per_day):
        lines.append(f"  speed        {report.ns_per_day:.3g} ns/day")
    if report.drift is not None:
        value = f"{report.drift:+.2g} ± {report.drift_resolution:.1g} meV/atom/ps"
        lines.append(f"  drift        {value} of the {report.conserved} (a longer run narrows the ±)")
        lines.append(f"  fluctuation  {report.fluctuation:.2g} meV/atom RMS around that line")
    elif not report.conserved:
        lines.append("  drift        not applicable: the thermostat exchanges energy")
    lines.append(f"  temperature  {report.mean_temperature:.0f} K, mean of the second half")
    lines.append(f"  max. force   {report.max_force:.2f} eV/Å")
    lines.append(f"  program      {program}")
    lines.append(f"  trajectory   {report.trajectory}")
    lines.append(f"  log          {report.log}")
    lines.append(f"  checkpoint   {report.checkpoint}")
    if picture is not None:
        lines.append(f"  picture      {picture}")
    console = Console(highlight=False)
    console.print(lines[0], style="bold", markup=False, soft_wrap=True)
    console.print("\n".join(lines[1:]), markup=False, soft_wrap=True)
