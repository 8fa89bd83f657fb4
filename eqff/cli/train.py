"""eqff train: from a TOML file, or labelled frames alone, to a trained model in a run folder."""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Optional

import typer

from eqff.errors import ConfigError


def seconds_so_far() -> float:
    """Wall time since this process was started, as far as the system tells."""
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return max(time.clock_gettime(time.CLOCK_BOOTTIME) - started, 0.0)
    except (OSError, ValueError, IndexError, AttributeError):
        return time.process_time()


def seconds(text: str | None) -> float:
    """`90s`, `30m`, `1.5h` or plain seconds -> s; None: no limit.  Raises: ConfigError EQ1400 for anything else"""
    if text is None:
        return math.inf
    factor = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:].lower())
    try:
        limit = float(text if factor is None else text[:-1]) * (factor or 1.0)
    except ValueError:
        limit = math.nan
    if not limit > 0.0:
        raise ConfigError("EQ1400", f"--time-limit={text!r} is no time above 0; give e.g. 90s, 30m or 8h")
    return limit


def command(
    config: Annotated[
        Path, typer.Argument(help="Recipe (TOML), or labelled frames: FILE or FILE@INDEX (.npz, .extxyz, .h5 ...).")
    ],
    output: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="Run folder.", show_default="runs/<name of CONFIG>")
    ] = None,
    preset: Annotated[
        Optional[str],
        typer.Option(
            metavar="fast|accurate|finetune",
            help="Values for all keys that CONFIG leaves out: for a small molecule half an hour, or several hours, of "
            "training on one core.",
            show_default="for a file of frames: fast, with --init-from finetune",
        ),
    ] = None,
    energy_unit: Annotated[
        Optional[str],
        typer.Option(help="Unit of the energies, if the file of frames does not state it, e.g. kcal/mol."),
    ] = None,
    split: Annotated[
        Optional[Path],
        typer.Option(help="Which frames train and which validate: a file of `eqff data split`.", show_default="random"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in this folder where it stopped.")] = False,
    init_from: Annotated[
        Optional[str],
        typer.Option(help="Begin with the weights of this potential, run folder or .ckpt file."),
    ] = None,
    foreign: Annotated[
        Optional[Path],
        typer.Option(
            metavar="FILE",
            help="Frames of other materials, FILE or FILE@INDEX: errors before and after show what is forgotten.",
        ),
    ] = None,
    replay: Annotated[
        int,
        typer.Option(min=0, help="This number of foreign frames train, too, so that less is forgotten."),
    ] = 0,
    members: Annotated[
        int,
        typer.Option(min=1, help="Train this number of models, with different seeds, in RUN/member-0, member-1, ..."),
    ] = 1,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Do a few steps on the CPU and print size, memory and expected time; nothing is written."
        ),
    ] = False,
    time_limit: Annotated[
        Optional[str],
        typer.Option(help="Stop with a checkpoint after this time, e.g. 90s, 30m, 8h; --resume continues."),
    ] = None,
    assignments: Annotated[
        Optional[list[str]], typer.Option("--set", metavar="KEY=VALUE", help="Override one key, e.g. model.l_max=2.")
    ] = None,
) -> None:
    """Train a model.

    Examples: eqff train examples/data/ethanol_gfn2.toml -o run;  eqff train frames.extxyz --preset accurate
    """
    import logging

    from eqff.config import read_toml
    from eqff.tasks.training_report import training_report
    from eqff.training.fit.stopped import Stopped
    from eqff.training.folder.metrics_file import best_row, read_metrics
    from eqff.training.run import default_folder, train

    folder, limit = output or default_folder(config), seconds(time_limit) - seconds_so_far()
    options = {"preset": preset, "data.energy_unit": energy_unit}
    overrides = tuple(f"{key}={json.dumps(value)}" for key, value in options.items() if value is not None)
    if split is not None:
        overrides += (f"data.split={json.dumps(str(split.resolve()))}",)
    if foreign is not None:
        overrides += (f"data.foreign={json.dumps(str(Path(foreign).absolute()))}",)
    if replay:
        overrides += (f"data.replay={replay}",)
    overrides += tuple(assignments or ())
    if init_from is not None:
        place = str(Path(init_from).resolve()) if Path(init_from).exists() else init_from
        overrides += (f"init_from={json.dumps(place)}",)
    logger = logging.getLogger("eqff")
    handler = logging.StreamHandler()  # stderr
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    folders = [folder]
    try:
        if dry_run:
            from eqff.training.estimate import estimate
            from eqff.training.prepare.recipe import read_config

            typer.echo(estimate(read_config(config, overrides)).report())
            return
        if members > 1:
            from eqff.training.committee import train_members

            folders = [run.folder for run in train_members(config, folder, members, resume, overrides, limit)]
        else:
            train(config, folder, resume=resume, overrides=overrides, time_limit=limit)
    except Stopped as stop:
        typer.echo(f"stopped ({stop}); the same command with --resume continues the run", err=True)
        if stop.signal != 0:
            sys.exit(128 + stop.signal)
    finally:
        logger.removeHandler(handler)
    if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) > 0:
        return  # only the first of several processes prints
    for run in (folder for folder in folders if (folder / "config.toml").is_file()):
        best, ready = best_row(read_metrics(run / "metrics.csv")), run / "best.eqff.pt"
        if best:
            units = {"forces_mae_meV_A": ("forces", "meV/Å"), "energy_mae_meV": ("energy", "meV")}
            errors = ", ".join(f"{what} {best[k]:.2f} {unit}" for k, (what, unit) in units.items() if k in best)
            typer.echo(f"best on validation frames: {errors} (epoch {best['epoch']:g})")
        if ready.is_file() and best and read_toml(run / "config.toml")["training"]["report"]:
            typer.echo(f"report     {training_report(run)}")
        if ready.is_file():
            typer.echo(f"potential  {ready}")
        elif best:
            typer.echo(f"run folder {run}; next: eqff export {run} -o FILE")
        else:
            typer.echo(f"run folder {run}; no epoch was validated yet, so there is nothing to export")
