"""eqff md: molecular dynamics with a potential."""

import json
import math
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from eqff.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ase import Atoms

    from eqff.tasks.md import MDConfig, MDReport, MDSample


class Ensemble(StrEnum):
    """What is held constant besides the number of atoms."""

    nve = "nve"
    nvt = "nvt"
    npt = "npt"


FEW_ATOMS = 50


def command(
    potential: Annotated[str, typer.Argument(help="A potential file, or the name of a shipped potential.")],
    structure: Annotated[
        Optional[str],
        typer.Option(
            help="Any file ASE reads; its last frame, or frame N with FILE@N.  [default: the potential's own]"
        ),
    ] = None,
    ensemble: Annotated[
        Ensemble, typer.Option(help="Constant energy, temperature, or pressure.", case_sensitive=False)
    ] = Ensemble.nve,
    temperature: Annotated[float, typer.Option(help="K, of the start and of the thermostat.")] = 300.0,
    timestep: Annotated[float, typer.Option(help="fs")] = 0.5,
    steps: Annotated[int, typer.Option(help="Number of time steps.")] = 1000,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Trajectory (extended XYZ); the log and picture stand beside it.")
    ] = Path("traj.extxyz"),
    pressure: Annotated[float, typer.Option(help="GPa, for npt; 0.0001 GPa = 1 bar.")] = 1e-4,
    thermostat_time: Annotated[float, typer.Option(help="fs")] = 100.0,
    barostat_time: Annotated[float, typer.Option(help="fs")] = 1000.0,
    seed: Annotated[int, typer.Option(help="Of initial velocities and noise.")] = 0,
    keep_momenta: Annotated[
        bool, typer.Option("--keep-momenta", help="Start with the momenta in the structure file.")
    ] = False,
    interval: Annotated[int, typer.Option(help="Steps between frames of the trajectory.")] = 10,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Of the weights: float32, float64 or auto (as stored).")] = "auto",
    threads: Annotated[
        Optional[int], typer.Option(min=1, help="CPU threads.  [default: 1 for up to 50 atoms, else torch's choice]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    plot: Annotated[bool, typer.Option("--plot/--no-plot", help="Draw energies and temperature.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON for machines.")] = False,
) -> None:
    """Run molecular dynamics."""
    from eqff.tasks.md import MDConfig, run_md

    config = MDConfig(
        ensemble=ensemble.value,
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
        force=force,
    )
    picture = output.with_suffix(".png") if plot else None
    if picture is not None and picture.exists() and not force:
        raise ConfigError("EQ1210", f"{picture} exists; choose another name, --no-plot, or overwrite it with --force")
    atoms = _structure(structure, potential)
    if structure is not None and _file(structure).resolve() in (output.resolve(), config.log.resolve()):
        raise ConfigError(
            "EQ1212", f"output={str(output)!r} would overwrite the structure it starts from; choose another"
        )

    import torch

    from eqff.engines.ase import EqffCalculator

    if threads is None and len(atoms) <= FEW_ATOMS:
        threads = 1  # more would only wait for each other, for seconds on a busy machine
    if threads is not None:
        torch.set_num_threads(threads)  # this process is ours
    calculator = EqffCalculator(potential, device=device, dtype=dtype)
    title = f"{Path(potential).name.removesuffix('.eqff.pt')}: {atoms.get_chemical_formula()}, {ensemble.value}"
    with _Bar(title, config, hidden=as_json) as bar:
        try:
            report = run_md(config, atoms, calculator, progress=bar.advance)
        except KeyboardInterrupt:
            typer.echo(f"interrupted; what was done is in {output} and {config.log}", err=True)
            raise
    if picture is not None:
        _draw(picture, config, report, f"{title}, {timestep:g} fs")
    if as_json:
        typer.echo(json.dumps(_plain(report, picture)))
    else:
        _show(title, config, report, picture)


def _structure(structure: str | None, potential: str) -> "Atoms":
    import ase.io

    from eqff import artifact
    from eqff.data.xyz import check_layout

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

    def __init__(self, title: str, config: "MDConfig", hidden: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
        self.progress = Progress(
            *columns,
            TimeRemainingColumn(),
            "left",
            console=console,
            disable=hidden or not console.is_terminal,
            transient=True,
        )
        self.config = config
        self.task = self.progress.add_task(title, total=config.steps, speed="")
        self.shown_at = -math.inf
        self.started_at = math.nan

    def __enter__(self) -> "_Bar":
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def advance(self, sample: "MDSample") -> None:
        now = time.monotonic()
        if sample.step == 0:
            self.started_at = now
        if now - self.shown_at < 0.1 and sample.step < self.config.steps:
            return
        self.shown_at = now
        speed = f"{sample.temperature:4.0f} K"
        if sample.step > 0 and now > self.started_at:
            speed += f"  {sample.time_fs * 1e-6 / (now - self.started_at) * 86400.0:.3g} ns/day"
        self.progress.update(self.task, completed=sample.step, speed=speed)


def _draw(picture: Path, config: "MDConfig", report: "MDReport", title: str) -> None:
    from eqff.report.plots import plot_md

    samples = report.samples
    plot_md(
        picture,
        samples["time_fs"],
        samples["potential"],
        samples["kinetic"],
        samples["total"],
        samples["temperature"],
        title,
        n_atoms=report.n_atoms,
        target_temperature_K=None if config.ensemble == "nve" else config.temperature,
    )


def _plain(report: "MDReport", picture: Path | None) -> dict[str, Any]:
    """The report for JSON: paths as text, NaN as null, without the samples (the log has them)."""
    values = {**report._asdict(), "picture": picture}
    del values["samples"]
    for name, value in values.items():
        if isinstance(value, Path):
            values[name] = str(value)
        elif isinstance(value, float) and not math.isfinite(value):
            values[name] = None
    return values


def _show(title: str, config: "MDConfig", report: "MDReport", picture: Path | None) -> None:
    from rich.console import Console

    lines = [
        f"{title}: {report.n_atoms} atoms, {report.n_steps} steps of {config.timestep:g} fs"
        f" = {report.time_ps:g} ps in {report.wall_seconds:.1f} s"
    ]
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
    lines.append(f"  trajectory   {report.trajectory}")
    lines.append(f"  log          {report.log}")
    if picture is not None:
        lines.append(f"  picture      {picture}")
    console = Console(highlight=False)
    console.print(lines[0], style="bold", markup=False, soft_wrap=True)
    console.print("\n".join(lines[1:]), markup=False, soft_wrap=True)
