"""eqff predict: energies, forces and stress for every frame of a file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eqff.cli._options import (
    EVALUATION,
    LABELLED,
    READING,
    AsJson,
    ElementsFrom,
    Evaluation,
    Force,
    MaxEdges,
    Potential,
    evaluates,
    reads,
)
from eqff.cli._output import composition_warning, plain
from eqff.data.reading.options import ReadOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eqff.tasks.predict import FrameResult, PredictReport

UNITS = {  # names in JSON
    "energy": "energy_eV",
    "max_force": "max_force_eV_A",
    "energy_error": "energy_error_eV",
    "energy_error_aligned": "energy_error_aligned_eV",
    "forces_mae": "forces_mae_eV_A",
    "cohesive_energy": "cohesive_energy_eV_atom",
    "formation_energy": "formation_energy_eV_atom",
}


@reads(*LABELLED)
@evaluates()
def command(
    potential: Potential,
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Structures in any format that `eqff data` reads; FILE or FILE@INDEX.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Extended XYZ, e.g. out.extxyz.")],
    as_calculator: Annotated[
        bool,
        typer.Option(
            "--as-calculator", help="Write energy, forces, stress, not eqff_energy ...; labels become REF_energy ..."
        ),
    ] = False,
    shard: Annotated[
        str, typer.Option(metavar="i/n", help="Only the i-th of n consecutive parts; `cat` joins the n outputs.")
    ] = "1/1",
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped, or begin.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Write frames that cannot be evaluated without results.")
    ] = False,
    elements_from: ElementsFrom = None,
    reading: ReadOptions = READING,
    max_edges: MaxEdges = None,
    evaluation: Evaluation = EVALUATION,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Predict energies, forces and stress of every frame of a file; compare with its labels, if it has any."""
    from eqff.report.terminal import FramesBar
    from eqff.tasks.binding import References, elemental_energies, isolated_energies
    from eqff.tasks.predict import PredictConfig, parse_shard, run_predict

    config = PredictConfig(
        source=source,
        output=output,
        as_calculator=as_calculator,
        shard=parse_shard(shard),
        skip_bad=skip_bad,
        resume=resume,
        force=force,
        max_edges=max_edges,
        add=evaluation.add,
        reading=reading,
    )
    loaded = evaluation.load(potential)
    elemental = {}
    if elements_from is not None:
        from eqff.data.reading.structures import read_structures
        from eqff.engines.ase import EqffCalculator

        phases = read_structures(elements_from, ReadOptions())
        elemental = elemental_energies(
            phases, EqffCalculator(loaded, accelerate=evaluation.accelerate, add=evaluation.add)
        )
    config = replace(config, references=References(isolated_energies(loaded), elemental))
    with FramesBar(f"predict {source.name}", hidden=as_json) as bar:
        try:
            report = run_predict(config, loaded, progress=bar.advance)
        except (KeyboardInterrupt, SystemExit):
            typer.echo(
                f"interrupted; continue with the same command and --resume, {output} is not written yet", err=True
            )
            raise
    if as_json:
        listed = [plain(one._asdict(), UNITS) for one in report.listed]
        typer.echo(json.dumps(plain({**report._asdict(), "listed": listed})))
    else:
        _show(report, shard)
    _warn(report)


def _warn(report: "PredictReport") -> None:
    if report.unknown_compositions:
        typer.echo(composition_warning(report.unknown_compositions), err=True)
    for note in report.notes:
        typer.echo(f"warning: {note}", err=True)
    if report.n_bad:
        typer.echo(f"warning: {report.n_bad} of {report.n_frames} frames have no results:", err=True)
        for reason in report.bad.values():
            typer.echo(f"  {reason}", err=True)
        if report.n_bad > len(report.bad):
            typer.echo(f"  and {report.n_bad - len(report.bad)} more", err=True)


def _show(report: "PredictReport", shard: str) -> None:
    from eqff.report.terminal import error_table
    from eqff.tasks.metrics import QUANTITIES

    if report.already_there and not report.n_frames:
        typer.echo(f"{report.output} is finished; nothing was done")
        return
    part = "" if shard == "1/1" else f" (shard {shard}, from frame {report.first})"
    before = f", {report.n_resumed} of them done before" if report.n_resumed else ""
    typer.echo(f"{report.output}: {report.n_frames} frames{part}, {report.n_atoms} atoms{before}")
    typer.echo(f"  {report.frames_per_second:.3g} frames/s, {report.wall_seconds:.1f} s; {report.program}")
    if report.listed:
        _show_frames(report.listed)
    if report.errors:
        typer.echo("errors against the labels of the file:")
        typer.echo(error_table(report.errors, QUANTITIES))


def _show_frames(results: "Sequence[FrameResult]") -> None:
    """Energy and largest force of each frame, and its errors where there are labels."""
    from eqff.report.terminal import number, table

    columns = [["frame", *(str(one.frame) for one in results)], ["formula", *(one.formula for one in results)]]
    columns.append(["energy eV", *(f"{one.energy:.6f}" for one in results)])
    columns.append(["largest force eV/Å", *(f"{one.max_force:.4f}" for one in results)])
    binding = {
        "cohesive eV/atom": [one.cohesive_energy for one in results],
        "formation eV/atom": [one.formation_energy for one in results],
    }
    for name, energies in binding.items():
        if any(energy is not None for energy in energies):
            columns.append([name, *("" if energy is None else f"{energy:.4f}" for energy in energies)])
    optional = {  # divisors give meV/atom and meV/Å
        "energy error meV/atom": [(one.energy_error, one.n_atoms) for one in results],
        "aligned meV/atom": [(one.energy_error_aligned, one.n_atoms) for one in results],
        "force MAE meV/Å": [(one.forces_mae, 1) for one in results],
    }
    for name, values in optional.items():
        if any(value is not None for value, _ in values):
            columns.append([name, *("" if value is None else number(1e3 * value / n) for value, n in values)])
    typer.echo(table(list(zip(*columns, strict=True))))
    if any(one.energy_error_aligned is not None for one in results):
        typer.echo("  aligned: without the mean error of the composition, which differs between levels of theory")
