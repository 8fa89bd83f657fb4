"""What `eqff md` prints and draws: progress, report, JSON, picture."""

import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqff.cli._output import plain, print_report

if TYPE_CHECKING:
    from eqff.engines.ase import EqffCalculator
    from eqff.tasks.md import MDConfig, MDReport, MDSample

UNITS = {  # names in JSON
    "mean_temperature": "mean_temperature_K",
    "drift": "drift_meV_per_atom_per_ps",
    "drift_resolution": "drift_resolution_meV_per_atom_per_ps",
    "fluctuation": "fluctuation_meV_per_atom",
    "max_force": "max_force_eV_A",
}


class Bar:
    """Progress on stderr with temperature, speed and time left; nothing if stderr is not a terminal."""

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
            part = f" ({replica + 1} of {self.replicas})" if self.replicas > 1 else ""
            self.progress.reset(self.task, description=self.title + part)
        if now - self.shown_at < 0.1 and sample.step < self.config.steps:
            return
        self.shown_at = now
        speed = f"{sample.temperature:4.0f} K"
        if sample.time_fs > self.started_fs and now > self.started_at:
            speed += f"  {(sample.time_fs - self.started_fs) * 1e-6 / (now - self.started_at) * 86400.0:.3g} ns/day"
        self.progress.update(self.task, completed=sample.step, speed=speed)


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
    )


def plain_report(report: "MDReport", picture: Path | None) -> dict[str, Any]:
    """The report for JSON, without arrays (they are in the files)."""
    values = {**report._asdict(), "picture": picture}
    for name in ("samples", "pair_distances", "spectrum"):
        del values[name]
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
    lines.append(f"max. force   {report.max_force:.2f} eV/Å")
    lines.append(f"program      {program}")
    lines.append(f"trajectory   {report.trajectory}")
    lines.append(f"log          {report.log}")
    lines.append(f"checkpoint   {report.checkpoint}")
    if picture is not None:
        lines.append(f"picture      {picture}")
    print_report(head, lines)


def describe_program(calculator: "EqffCalculator") -> str:
    """The program that computed the forces, and how to get a faster one."""
    from eqff.kernels import build

    program = calculator.program
    if program != "TorchScript" or calculator.parameters["accelerate"] == "off" or build.compiler() is None:
        return program
    return f"{program}; `eqff compile` with this potential makes runs on this machine several times faster"
