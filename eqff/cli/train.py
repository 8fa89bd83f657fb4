"""eqff train: from a TOML file to a trained model in a run folder."""

from pathlib import Path
from typing import Annotated, Optional

import typer


def command(
    config: Annotated[Path, typer.Argument(help="TOML file that says what to train on what.")],
    output: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="Run folder.", show_default="runs/<name of CONFIG>")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in this folder where it stopped.")] = False,
    assignments: Annotated[
        Optional[list[str]], typer.Option("--set", metavar="KEY=VALUE", help="Override one key, e.g. model.l_max=2.")
    ] = None,
) -> None:
    """Train a model.  Example: eqff train examples/data/ethanol_gfn2.toml -o run"""
    import logging

    from eqff.training.metrics_file import read_metrics
    from eqff.training.run import train

    logger = logging.getLogger("eqff")
    handler = logging.StreamHandler()  # stderr
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        folder = train(config, output or Path("runs") / config.stem, resume=resume, overrides=tuple(assignments or ()))
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command with --resume continues from the last checkpoint", err=True)
        raise
    finally:
        logger.removeHandler(handler)
    rows = read_metrics(folder / "metrics.csv")
    if rows:
        best = min(rows, key=lambda row: row["forces_mae_meV_A"])
        typer.echo(
            f"best on validation frames: forces {best['forces_mae_meV_A']:.2f} meV/Å, "
            f"energy {best['energy_mae_meV']:.2f} meV (epoch {best['epoch']:.0f})"
        )
    typer.echo(f"run folder {folder}; next: eqff export {folder} -o {folder.name}.eqff.pt")
