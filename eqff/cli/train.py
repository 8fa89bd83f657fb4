"""eqff train: from a TOML file to a trained model in a run folder."""

from pathlib import Path
from typing import Annotated, Optional

import typer


def command(
    config: Annotated[Path, typer.Argument(help="TOML file that says what to train on what.")],
    output: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="Run folder.  [default: runs/<name of CONFIG>]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in this folder where it stopped.")] = False,
    assignments: Annotated[
        Optional[list[str]], typer.Option("--set", metavar="KEY=VALUE", help="Override one key, e.g. model.l_max=2.")
    ] = None,
) -> None:
    """Train a model."""
    from eqff.training.run import train

    train(config, output or Path("runs") / config.stem, resume=resume, overrides=tuple(assignments or ()))
