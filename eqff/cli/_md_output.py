"""What `eqff md` prints and draws: progress, report, JSON, picture."""

import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from eqff.cli._output import lattice_text, plain, print_report

if TYPE_CHECKING:
    from eqff.engines.ase import EqffCalculator
    from eqff.tasks.md import MDConfig, MDReport, MDSample
    from eqff.tasks.md.report import CellReport

UNITS = {  # names in JSON
    "mean_temperature": "mean_temperature_K",
    "drift": "drift_meV_per_atom_per_ps",
    "drift_resolution": "drift_resolution_meV_per_atom_per_ps",
    "fluctuation": "fluctuation_meV_per_atom",
    "max_force": "max_force_eV_A",
}
CELL_UNITS = {
    "mass": "mass_amu",
    "start": "start_A_degrees",
    "mean": "mean_A_degrees",
    "volume": "volume_A3",
    "volume_deviation": "volume_deviation_A3",
    "density": "density_g_cm3",
    "pressure": "pressure_GPa",
    "pressure_deviation": "pressure_deviation_GPa",
}


class Bar:
    """Progress on stderr with temperature, speed and time left; a line now and then if stderr is not a terminal."""

    def __init__(self, title: str, config: "MDConfig", replicas: int, hidden: bool) -> None:
        from rich.console import Console
        from rich.logging import RichHandler
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from eqff.report.terminal import Pace

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
        self.part = ""
        self.pace: Pace | None = None
        self.new_pace = None if hidden or self.console.is_terminal else Pace

    def __enter__(self) -> "Bar":
        self.progress.start()
        if not self.hidden:
            self.logger.addHandler(self.handler)
            self.logger.setLevel(logging.INFO)
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()
        self.logger.removeHandler(self.handler)

    def announce(self, limits: str) -> None:
        """The limits of the guard."""
        if not self.hidden:
            self.console.print(limits, markup=False, soft_wrap=True)

    def advance(self, replica: int, sample: "MDSample") -> None:
        now = time.monotonic()
        if replica != self.replica:
            self.replica, self.started_at, self.started_fs = replica, now, sample.time_fs
            self.part = f" ({replica + 1} of {self.replicas})" if self.replicas > 1 else ""
            self.progress.reset(self.task, description=self.title + self.part)
            self.pace = None if self.new_pace is None else self.new_pace()
        left = None if self.pace is None else self.pace.due(sample.step, self.config.steps)
        if left is not None:
            share = f"step {sample.step} of {self.config.steps} ({100 * sample.step / self.config.steps:.0f} %)"
            text = f"{self.title}{self.part}: {share}, {self._state(sample, now, ', ')}, {left}"
            self.console.print(text.removesuffix(", "), markup=False, soft_wrap=True)
        if now - self.shown_at < 0.1 and sample.step < self.config.steps:
            return
        self.shown_at = now
        self.progress.update(self.task, completed=sample.step, speed=self._state(sample, now, "  "))

    def _state(self, sample: "MDSample", now: float, between: str) -> str:
        """Temperature, volume of npt, and speed."""
        parts = [f"{sample.temperature:.0f} K"]
        if math.isfinite(sample.volume):
            parts.append(f"{sample.volume:.1f} Å^3")
        if sample.time_fs > self.started_fs and now > self.started_at:
            speed = (sample.time_fs - self.started_fs) * 1e-6 / (now - self.started_at) * 86400.0
            parts.append(f"{speed:.3g} ns/day")
        return between.join(parts)


def draw(picture: Path, config: "MDConfig", report: "MDReport", title: str) -> None:
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
        cell=_cell_curves(config, report),
    )


def _cell_curves(config: "MDConfig", report: "MDReport") -> dict[str, Any] | None:
    """What `plot_md` draws of the cell at constant pressure."""
    if config.ensemble != "npt" or report.cell is None:
        return None
    samples, cell = report.samples, report.cell
    return {
        "volume_A3": samples["volume"],
        "mass_amu": cell.mass,
        "pressure_GPa": samples["pressure"],
        "target_pressure_GPa": config.pressure_gpa,
        "start_lengths_A": cell.start[:3],
    }


def plain_report(report: "MDReport", picture: Path | None) -> dict[str, Any]:
    """The report for JSON, without arrays (they are in the files)."""
    values = {**report._asdict(), "picture": picture}
    for name in ("samples", "pair_distances", "spectrum"):
        del values[name]
    if report.cell is not None:
        values["cell"] = plain(report.cell._asdict(), CELL_UNITS)
    result: dict[str, Any] = plain(values, UNITS)
    return result


def show(title: str, config: "MDConfig", report: "MDReport", picture: Path | None, program: str) -> None:
    head = (
        f"{title}: {report.n_atoms} atoms, {report.n_steps} steps of {config.timestep:g} fs"
        f" = {report.time_ps:g} ps in {report.wall_seconds:.1f} s"
    )
    lines = []
    if report.resumed_at is not None:
        lines.append(f"resumed      at step {report.resumed_at}")
    if math.isfinite(report.ns_per_day):
        lines.append(f"speed        {report.ns_per_day:.3g} ns/day")
    if report.drift is not None:
        value = f"{report.drift:+.2g} ± {report.drift_resolution:.1g} meV/atom/ps"
        lines.append(f"drift        {value} of the {report.conserved} (a longer run narrows the ±)")
        lines.append(f"fluctuation  {report.fluctuation:.2g} meV/atom RMS around that line")
    elif not report.conserved:
        lines.append("drift        not applicable: the thermostat exchanges energy")
    lines.append(f"temperature  {report.mean_temperature:.0f} K, mean of the second half")
    if report.cell is not None:
        lines += _cell_lines(config, report.cell)
    lines.append(f"max. force   {report.max_force:.2f} eV/Å")
    lines.append(f"program      {program}")
    lines.append(f"trajectory   {report.trajectory}")
    lines.append(f"log          {report.log}")
    lines.append(f"checkpoint   {report.checkpoint}")
    if picture is not None:
        lines.append(f"picture      {picture}")
    print_report(head, lines)
    for note in report.notes:
        typer.echo(f"note: {note}")


def _cell_lines(config: "MDConfig", cell: "CellReport") -> list[str]:
    """Cell and density; at constant pressure, means of the second half with standard deviations, and the start."""
    lengths, angles = lattice_text(cell.mean)
    density = f"{cell.density:.4f} g/cm^3"
    if cell.pressure is None:
        return [f"cell         {lengths}, {angles}; {cell.volume:.2f} Å^3, {density}"]
    spread = 100.0 * cell.volume_deviation / cell.volume if cell.volume_deviation is not None else 0.0
    return [
        f"volume       {cell.volume:.2f} ± {cell.volume_deviation:.2f} Å^3 ({spread:.2g} %), mean of the second half",
        f"density      {density}",
        f"pressure     {cell.pressure:.3g} ± {cell.pressure_deviation:.2g} GPa, target {config.pressure_gpa:g} GPa",
        f"cell         {lengths}, {angles}; at the start {lattice_text(cell.start)[0]}",
    ]


def describe_program(calculator: "EqffCalculator") -> str:
    """The program that computed the forces, and how to get a faster one."""
    from eqff.kernels import build

    program = calculator.program
    if program != "TorchScript" or calculator.parameters["accelerate"] == "off" or build.compiler() is None:
        return program
    return f"{program}; `eqff compile` with this potential makes runs on this machine several times faster"
