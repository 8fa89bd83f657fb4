"""eqff md: molecular dynamics with a potential."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Optional

import typer

from eqff.cli._options import (
    EVALUATION,
    READING,
    STRUCTURE,
    AsJson,
    Evaluation,
    Force,
    Potential,
    ProgramOfLongRuns,
    evaluates,
    reads,
    starting_file,
)
from eqff.cli._output import potential_name
from eqff.data.reading.options import ReadOptions
from eqff.errors import ConfigError


class Ensemble(StrEnum):
    """The quantities that are held constant, besides the number of atoms."""

    nve = "nve"
    nvt = "nvt"
    npt = "npt"


class Thermostat(StrEnum):
    """The thermostat of nvt."""

    langevin = "langevin"
    nose_hoover = "nose-hoover"


@reads(*STRUCTURE)
@evaluates(programs=ProgramOfLongRuns, exact=True, few_atoms=True)
def command(
    potential: Potential,
    structure: Annotated[
        Optional[str],
        typer.Option(
            help="A structure in any format that `eqff data` reads; the last of its frames, or FILE@N.",
            show_default="the potential's own",
        ),
    ] = None,
    ensemble: Annotated[
        Ensemble, typer.Option(help="Constant energy, temperature, or pressure.", case_sensitive=False)
    ] = Ensemble.nve,
    thermostat: Annotated[
        Thermostat, typer.Option(help="Of nvt; npt always has Nosé-Hoover chains.", case_sensitive=False)
    ] = Thermostat.langevin,
    temperature: Annotated[float, typer.Option(help="K, of the initial velocities and of the thermostat.")] = 300.0,
    timestep: Annotated[float, typer.Option(help="fs; 0.5 with hydrogen, 1 to 2 without.")] = 0.5,
    steps: Annotated[
        int, typer.Option(help="Number of time steps; with --resume, a larger number continues a finished run.")
    ] = 1000,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Trajectory: .extxyz, .xyz, .traj or .h5 (H5MD); the other files stand beside it."
        ),
    ] = Path("traj.extxyz"),
    pressure: Annotated[float, typer.Option(help="GPa, for npt; 0.0001 GPa = 1 bar.")] = 1e-4,
    thermostat_time: Annotated[float, typer.Option(help="Time constant of the thermostat, fs.")] = 100.0,
    barostat_time: Annotated[float, typer.Option(help="Time constant of the barostat, fs.")] = 1000.0,
    seed: Annotated[int, typer.Option(help="Seed of initial velocities and noise.")] = 0,
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
        typer.Option(
            "--guard/--no-guard", help="Stop, naming the atoms, when one of the next four limits is exceeded."
        ),
    ] = True,
    min_distance: Annotated[
        Optional[float],
        typer.Option(
            help="Å, between two atoms.",
            show_default="half the sum of covalent radii, or 0.8 x the shortest in training if larger",
        ),
    ] = None,
    max_force: Annotated[float, typer.Option(help="eV/Å, on an atom.")] = 100.0,
    max_temperature: Annotated[
        Optional[float], typer.Option(help="K, at any step.", show_default="10 x the temperature, more for a few atoms")
    ] = None,
    max_jump: Annotated[float, typer.Option(help="eV/atom, of the total energy in one step.")] = 0.5,
    reading: ReadOptions = READING,
    evaluation: Evaluation = EVALUATION,
    force: Force = False,
    plot: Annotated[
        bool, typer.Option("--plot/--no-plot", help="Draw energies, temperature, drift, distances and spectrum.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Run molecular dynamics; the run can be continued, and stops when results become unphysical."""
    from eqff.cli._md_output import Bar, describe_program, draw, plain_report, show
    from eqff.data.reading.index import split_index
    from eqff.data.reading.structures import read_structure
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
    source = starting_file(potential, structure, "give one with --structure FILE")
    for one in configs:
        if structure is not None and split_index(source)[0].resolve() in (one.trajectory.resolve(), one.log.resolve()):
            raise ConfigError(
                "EQ1212", f"output={str(output)!r} would overwrite the structure it starts from; choose another name"
            )
    atoms = read_structure(source, reading)
    if atoms.has("momenta") and atoms.get_momenta().any() and not (keep_momenta or resume):
        typer.echo(
            f"note: the momenta in {split_index(source)[0].name} are not used; velocities are drawn at "
            f"{temperature:g} K, or start with those of the file: --keep-momenta",
            err=True,
        )
    calculator = evaluation.calculator(potential, len(atoms))
    title = f"{potential_name(potential, evaluation.add)}: {atoms.get_chemical_formula()}, {ensemble.value}"
    if ensemble == Ensemble.nvt:
        title += f" ({thermostat.value})"
    with Bar(title, config, replicas, hidden=as_json) as bar:
        try:
            reports = run_replicas(
                config, atoms, calculator, replicas, processes, bar.advance, bar.announce, _one_thread
            )
        except (KeyboardInterrupt, SystemExit):
            saved = [str(one.checkpoint) for one in configs if one.checkpoint.is_file()]
            if saved:
                typer.echo(
                    f"interrupted; the last step is in {', '.join(saved)}, continue with the same command and --resume",
                    err=True,
                )
            else:
                typer.echo(f"interrupted before the first step; there is no {output}", err=True)
            raise
    for one, report, picture in zip(configs, reports, pictures, strict=True):
        name = title if replicas == 1 else f"{title}, seed {one.seed}"
        if picture is not None:
            draw(picture, one, report, f"{name}, {timestep:g} fs")
        if not as_json:
            show(name, one, report, picture, describe_program(calculator))
    if as_json:
        program = {"program": calculator.program}
        found = [
            {**plain_report(report, picture), **program} for report, picture in zip(reports, pictures, strict=True)
        ]
        typer.echo(json.dumps(found[0] if replicas == 1 else {"replicas": found}))


def _one_thread() -> None:
    """Set up each process of --processes."""
    import torch

    torch.set_num_threads(1)
