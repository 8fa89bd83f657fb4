"""eqff predict: energies, forces and stress for every frame of a file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eqff.cli._options import (
    EVALUATION,
    LABELLED,
    READING,
    AsJson,
    Evaluation,
    Force,
    MaxEdges,
    Potential,
    evaluates,
    reads,
)
from eqff.cli._output import plain
from eqff.data.reading.options import ReadOptions

if TYPE_CHECKING:
    from eqff.tasks.predict import PredictReport


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
    reading: ReadOptions = READING,
    max_edges: MaxEdges = None,
    evaluation: Evaluation = EVALUATION,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Predict energies, forces and stress of every frame of a file; compare with its labels, if it has any."""
    from eqff.report.terminal import FramesBar
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
        reading=reading,
    )
    with FramesBar(f"predict {source.name}", hidden=as_json) as bar:
        try:
            report = run_predict(config, evaluation.load(potential), progress=bar.advance)
        except (KeyboardInterrupt, SystemExit):
            typer.echo(
                f"interrupted; continue with the same command and --resume, {output} is not written yet", err=True
            )
            raise
    if as_json:
        typer.echo(json.dumps(plain(report._asdict())))
    else:
        _show(report, shard)
    _warn(report)


def _warn(report: "PredictReport") -> None:
    if report.unknown_compositions:
        shown = ", ".join(report.unknown_compositions[:6]) + (" ..." if len(report.unknown_compositions) > 6 else "")
        typer.echo(
            f"warning: energies of {shown} have an unknown constant, and their forces are extrapolated: the potential "
            "was not trained on these compositions",
            err=True,
        )
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
    if report.errors:
        typer.echo("errors against the labels of the file:")
        typer.echo(error_table(report.errors, QUANTITIES))
