"""eqff predict: energies, forces and stress for every frame of a file."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from eqff.cli import Accelerate, Program

if TYPE_CHECKING:
    from eqff.tasks.predict import PredictReport


def command(
    potential: Annotated[str, typer.Argument(help="A potential file, or the name of a shipped potential.")],
    source: Annotated[Path, typer.Argument(metavar="IN", help="Any file ASE reads; all its frames are taken.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Extended XYZ, e.g. out.extxyz.")],
    as_calculator: Annotated[
        bool,
        typer.Option(
            "--as-calculator", help="Write energy, forces, stress, not eqff_energy ...; labels become REF_energy ..."
        ),
    ] = False,
    shard: Annotated[
        str, typer.Option(metavar="i/n", help="Only the i-th of n consecutive parts; `cat` of the n outputs is all.")
    ] = "1/1",
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped, or begin.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Pass frames that cannot be computed on without results.")
    ] = False,
    energy_key: Annotated[Optional[str], typer.Option(help="Name of the energy (eV) to compare with.")] = None,
    forces_key: Annotated[Optional[str], typer.Option(help="Name of the forces (eV/Å) to compare with.")] = None,
    stress_key: Annotated[Optional[str], typer.Option(help="Name of the stress (eV/Å^3) to compare with.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Of the weights: float32, float64 or auto (as stored).")] = "auto",
    max_edges: Annotated[
        Optional[int],
        typer.Option(min=1, help="Edges of one batch.", show_default="2000 on a CPU, 50000 on a GPU"),
    ] = None,
    accelerate: Accelerate = Program.ready,
    threads: Annotated[Optional[int], typer.Option(min=1, help="CPU threads.", show_default="torch's choice")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON for machines.")] = False,
) -> None:
    """Predict energies, forces and stress of every frame of a file; compare with its labels, if it has any."""
    import torch

    from eqff import artifact
    from eqff.data.reading.options import ReadOptions
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
        labels=ReadOptions(energy_key=energy_key, forces_key=forces_key, stress_key=stress_key),
    )
    if threads is not None:
        torch.set_num_threads(threads)  # this process is ours
    with FramesBar(f"predict {source.name}", hidden=as_json) as bar:
        try:
            report = run_predict(
                config, artifact.load(potential, device, dtype, accelerate.value), progress=bar.advance
            )
        except KeyboardInterrupt:
            typer.echo(
                f"interrupted; continue with the same command and --resume, {output} is not written yet", err=True
            )
            raise
    if as_json:
        typer.echo(json.dumps(_plain(report)))
    else:
        _show(report, shard)
    _warn(report)


def _plain(report: "PredictReport") -> dict[str, Any]:
    """The report for JSON: the path as text, NaN as null."""
    values = {**report._asdict(), "output": str(report.output)}
    if not math.isfinite(report.frames_per_second):
        values["frames_per_second"] = None
    return values


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
        typer.echo("errors against the labels of the file, taken as eV, eV/Å, eV/Å^3:")
        typer.echo(error_table(report.errors, QUANTITIES))
