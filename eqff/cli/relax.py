"""eqff relax: geometry optimisation with a potential."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from eqff.cli._options import (
    EVALUATION,
    READING,
    STRUCTURE,
    AsJson,
    Evaluation,
    Force,
    Potential,
    evaluates,
    reads,
    starting_file,
)
from eqff.cli._output import composition_warning, plain, potential_name, print_report
from eqff.data.reading.options import ReadOptions
from eqff.errors import ConfigError, RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eqff.tasks.relax import RelaxConfig, Relaxed, RelaxReport, RelaxStep


class Optimizer(StrEnum):
    """ASE's optimiser."""

    bfgs = "bfgs"
    lbfgs = "lbfgs"
    fire = "fire"


MAX_ROWS = 30  # of the table
UNITS = {  # names in JSON
    "start_energy": "start_energy_eV",
    "energy": "energy_eV",
    "energy_change": "energy_change_eV",
    "max_force": "max_force_eV_A",
    "max_stress_gpa": "max_stress_GPa",
    "start_cell": "start_cell_A_degrees",
    "cell": "cell_A_degrees",
    "start_volume": "start_volume_A3",
    "volume": "volume_A3",
}


@reads(*STRUCTURE)
@evaluates(few_atoms=True)
def command(
    potential: Potential,
    structures: Annotated[
        Optional[str],
        typer.Argument(
            metavar="IN",
            help="Structures in any format that `eqff data` reads; FILE or FILE@INDEX.",
            show_default="the potential's own structure",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Final structures (.extxyz, .xyz or .traj); trajectory and picture stand beside it."
        ),
    ] = Path("relaxed.extxyz"),
    fmax: Annotated[float, typer.Option(help="eV/Å, largest remaining force.")] = 0.01,
    optimizer: Annotated[
        Optimizer, typer.Option(help="ASE's; lbfgs for large systems, fire for bad starts.", case_sensitive=False)
    ] = Optimizer.bfgs,
    steps: Annotated[int, typer.Option(help="Largest number of steps per structure.")] = 500,
    cell: Annotated[bool, typer.Option("--cell", help="Relax the cell, too (periodic in three directions).")] = False,
    constant_volume: Annotated[
        bool, typer.Option("--constant-volume", help="Of the cell, relax the shape only (with --cell).")
    ] = False,
    fix_symmetry: Annotated[
        bool, typer.Option("--fix-symmetry", help="Keep the space group of the start (to 0.01 Å; needs spglib).")
    ] = False,
    reading: ReadOptions = READING,
    evaluation: Evaluation = EVALUATION,
    force: Force = False,
    trajectory: Annotated[
        bool, typer.Option("--trajectory/--no-trajectory", help="Write every step of every structure.")
    ] = True,
    plot: Annotated[bool, typer.Option("--plot/--no-plot", help="Draw energies and largest forces.")] = True,
    as_json: AsJson = False,
) -> None:
    """Relax one or many structures; constraints in the file are kept.  Exit code 1 if any did not converge."""
    from eqff.data.reading.index import split_index
    from eqff.data.reading.structures import read_structures
    from eqff.report.terminal import StatusLine
    from eqff.tasks.relax import RelaxConfig, run_relax

    config = RelaxConfig(
        fmax=fmax,
        optimizer=optimizer.value,
        steps=steps,
        cell=cell,
        constant_volume=constant_volume,
        fix_symmetry=fix_symmetry,
        output=output,
        keep_trajectory=trajectory,
        force=force,
    )
    picture = output.with_suffix(".png") if plot else None
    if picture is not None and picture.exists() and not force:
        raise ConfigError("EQ1247", f"{picture} exists; choose another name, --no-plot, or overwrite it with --force")
    source = starting_file(potential, structures)
    file = split_index(source)[0]
    if file.resolve() in [path.resolve() for path in (output, config.trajectory) if path is not None]:
        raise ConfigError(
            "EQ1249", f"output={str(output)!r} would overwrite the structures it starts from; choose another name"
        )
    frames = read_structures(source, reading)
    calculator = evaluation.calculator(potential, max(len(atoms) for atoms in frames))
    foreign = calculator.foreign_compositions(frames)
    if foreign:
        typer.echo(composition_warning(foreign), err=True)
    with StatusLine(hidden=as_json) as line:
        try:
            report = run_relax(config, frames, calculator, lambda step: line.show(_progress(step, len(frames), fmax)))
        except (KeyboardInterrupt, SystemExit):
            typer.echo(f"interrupted; what was done is in {output}", err=True)
            raise
    if picture is not None:
        _draw(picture, config, report, f"{potential_name(potential, evaluation.add)}: {file.name}")
    if as_json:
        typer.echo(
            json.dumps({**_plain(report, picture), "unknown_compositions": foreign, "program": calculator.program})
        )
    else:
        _show(config, report, picture, calculator.program)
    left = [result.structure for result in report.results if not result.converged]
    if left:
        names = ", ".join(map(str, left[:10])) + (", ..." if len(left) > 10 else "")
        n_stopped = sum(bool(result.problem) for result in report.results)
        stopped = f"; {n_stopped} of them stopped by an error, see relax_problem" if n_stopped else ""
        raise RunError(
            "EQ5320",
            f"{len(left)} of {len(frames)} structures did not converge (structure {names}) within {steps} steps to "
            f"fmax={fmax:g} eV/Å{stopped}; they are written with relax_converged=False; allow more --steps, try "
            "another --optimizer or a better start",
        )


def _progress(step: "RelaxStep", n_structures: int, fmax: float) -> str:
    of = f"structure {step.structure + 1} of {n_structures}  " if n_structures > 1 else ""
    size = f"largest force {step.max_force:.4f} eV/Å (to reach: {fmax:g})"
    return f"{of}step {step.step}  {step.energy:.6f} eV  {size}"


def _draw(picture: Path, config: "RelaxConfig", report: "RelaxReport", title: str) -> None:
    import numpy as np

    from eqff.report.relaxation import plot_relaxation

    plot_relaxation(
        picture,
        [np.array([step.energy for step in result.course]) for result in report.results],
        [np.array([step.max_force for step in result.course]) for result in report.results],
        config.fmax,
        [result.converged for result in report.results],
        title,
        [f"{result.structure}: {result.formula}" for result in report.results],
    )


def _plain(report: "RelaxReport", picture: Path | None) -> dict[str, Any]:
    """The report for JSON, without the steps (they are in the trajectory)."""
    results = [{name: value for name, value in one._asdict().items() if name != "course"} for one in report.results]
    for one in results:
        if one["volume"] is not None:
            one["volume_change_percent"] = 100.0 * (one["volume"] / one["start_volume"] - 1.0)
    return {
        "n_converged": report.n_converged,
        "wall_seconds": report.wall_seconds,
        **plain({"output": report.output, "trajectory": report.trajectory, "picture": picture}),
        "results": plain(results, UNITS),
    }


def _show(config: "RelaxConfig", report: "RelaxReport", picture: Path | None, program: str) -> None:
    n_calls = sum(result.n_force_calls for result in report.results)
    title = f"{report.n_converged} of {len(report.results)} converged to fmax={config.fmax:g} eV/Å"
    shown = report.results
    if len(shown) > MAX_ROWS:  # those that need a look first
        shown = tuple(sorted(shown, key=lambda result: result.converged)[:MAX_ROWS])
    lines = ["structure  formula          steps        start eV       energy eV   change eV  force eV/Å"]
    if config.cell:
        lines[0] += "  stress GPa"
    lines += [_row(result) for result in shown]
    if len(shown) < len(report.results):
        lines.append(f"... and {len(report.results) - len(shown)} more")
    if config.cell:
        lines += _cell_lines([result for result in shown if result.cell is not None])
    lines.append(f"program      {program}")
    lines.append(f"structures   {report.output}")
    if report.trajectory is not None:
        lines.append(f"trajectory   {report.trajectory}")
    if picture is not None:
        lines.append(f"picture      {picture}")
    print_report(f"{title}: {n_calls} force calls in {report.wall_seconds:.1f} s ({config.optimizer})", lines)


def _cell_lines(results: "Sequence[Relaxed]") -> list[str]:
    """A table: the cell of each structure at the start, at the end, and the change."""
    from eqff.report.terminal import table

    rows = [["structure", "", "a Å", "b Å", "c Å", "alpha", "beta", "gamma", "volume Å^3"]]
    for result in results:
        before, after = result.start_cell, result.cell
        if before is None or after is None or result.start_volume is None or result.volume is None:
            continue
        lengths = [_percent(new, old) for new, old in zip(after[:3], before[:3], strict=True)]
        angles = [f"{round(new - old, 2) + 0.0:+.2f}" for new, old in zip(after[3:], before[3:], strict=True)]
        name = str(result.structure)
        rows.append([name, "start", *_cell_numbers(before), f"{result.start_volume:.3f}"])
        rows.append(["", "end", *_cell_numbers(after), f"{result.volume:.3f}"])
        rows.append(["", "change", *lengths, *angles, _percent(result.volume, result.start_volume)])
    return table(rows).replace("\n  ", "\n").removeprefix("  ").split("\n") if len(rows) > 1 else []


def _cell_numbers(cell: "Sequence[float]") -> list[str]:
    return [*(f"{length:.4f}" for length in cell[:3]), *(f"{angle:.2f}" for angle in cell[3:])]


def _percent(new: float, old: float) -> str:
    return f"{100.0 * (new / old - 1.0):+.2f} %"


def _row(result: "Relaxed") -> str:
    row = (
        f"{result.structure:9d}  {result.formula:15.15s} {result.n_steps:6d} {result.start_energy:15.6f} "
        f"{result.energy:15.6f} {result.energy_change:11.6f} {result.max_force:11.6f}"
    )
    if result.max_stress_gpa is not None:
        row += f" {result.max_stress_gpa:11.4f}"
    return row + ("" if result.converged else f"  NOT CONVERGED {result.problem}".rstrip())
