"""eqff data sample: a labelled data set from molecular dynamics with any ASE calculator."""

import json
from pathlib import Path
from typing import Annotated

import typer

from eqff.cli._options import READING, STRUCTURE, AsJson, reads
from eqff.data.reading.options import ReadOptions


@reads(*STRUCTURE)
def command(
    structure: Annotated[
        Path,
        typer.Argument(help="Starting structure in any format that `eqff data` reads; the last frame, or FILE@N."),
    ],
    calculator: Annotated[
        str,
        typer.Argument(
            help="A potential (name or file), tblite:GFN2-xTB or tblite:GFN1-xTB (extra `labels`), emt, or "
            "module:function that returns an ASE calculator."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .h5 (every digit), .extxyz or .xyz.")],
    temperature: Annotated[float, typer.Option(help="Temperature of the dynamics, K.")] = 500.0,
    frames: Annotated[int, typer.Option(help="Frames of each trajectory.")] = 500,
    seeds: Annotated[int, typer.Option(help="Number of trajectories; each has its own velocities and noise.")] = 2,
    interval: Annotated[int, typer.Option(help="Steps between frames.")] = 20,
    equilibration: Annotated[int, typer.Option(help="Steps before the first frame.")] = 4000,
    timestep: Annotated[float, typer.Option(help="Time step, fs.")] = 0.5,
    thermostat_time: Annotated[
        float, typer.Option(help="Relaxation time of the Langevin thermostat (1 / friction), fs.")
    ] = 100.0,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    volume: Annotated[float, typer.Option(help="Periodic frames: largest relative change of volume.")] = 0.0,
    strain: Annotated[float, typer.Option(help="Periodic frames: largest strain at constant volume.")] = 0.0,
    strained_share: Annotated[float, typer.Option(help="Share of the frames that are strained.")] = 0.5,
    reading: ReadOptions = READING,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a stopped run; it gives the same frames.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run Langevin dynamics and label its frames with a calculator: energy, forces and, if periodic, stress.

    Example: eqff data sample ethanol.xyz tblite:GFN2-xTB -o ethanol.h5 --frames 1000 --seeds 2
    """
    from eqff.data.reading.structures import read_structure
    from eqff.engines.ase.calculators import calculator_maker
    from eqff.report.terminal import FramesBar
    from eqff.tasks.sample import SampleConfig, run_sample

    config = SampleConfig(
        output=output,
        temperature=temperature,
        timestep=timestep,
        thermostat_time=thermostat_time,
        interval=interval,
        equilibration=equilibration,
        n_frames=frames,
        n_seeds=seeds,
        seed=seed,
        volume=volume,
        strain=strain,
        strained_share=strained_share,
        resume=resume,
        force=force,
    )
    atoms = read_structure(structure, reading)
    maker = calculator_maker(calculator)
    with FramesBar(f"sample {atoms.get_chemical_formula()}", hidden=as_json) as bar:
        report = run_sample(config, atoms, maker, bar.advance)
    if as_json:
        typer.echo(json.dumps({**report._asdict(), "output": str(report.output)}, ensure_ascii=False))
        return
    resumed = f", {report.resumed_at} of them from the stopped run" if report.resumed_at else ""
    strained = f", {report.n_strained} strained" if report.n_strained else ""
    typer.echo(f"wrote    {report.output}: {report.n_frames} frames{strained}{resumed}")
    typer.echo(f"         mean temperature {report.mean_temperature:.0f} K")
    for name, text in report.provenance.items():
        typer.echo(f"         {name.replace('_', ' ')}: {text}")
