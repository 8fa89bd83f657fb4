"""eqff reproduce: train a shipped potential anew and compare its errors with the published ones."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from eqff.errors import RunError


def command(
    name: Annotated[str, typer.Argument(help="Name of a shipped potential, e.g. ethanol-nequip.")],
    data: Annotated[
        Path, typer.Option(help="Folder with the data files that its recipe names, or with rMD17 as published.")
    ] = Path(),
    output: Annotated[
        Optional[Path], typer.Option("--output", "-o", help="Run folder.", show_default="runs/NAME")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in this folder.")] = False,
    band: Annotated[float, typer.Option(min=0.0, help="Allowed relative increase of the force error.")] = 0.15,
    assignments: Annotated[
        Optional[list[str]], typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe.")
    ] = None,
) -> None:
    """Train a shipped potential from its recipe on the same frames, test it, compare; exit code 1 if it is worse."""
    import logging

    from eqff.report.terminal import FramesBar
    from eqff.tasks.reproduce import reproduce

    logging.basicConfig(format="%(message)s")
    logging.getLogger("eqff").setLevel(logging.INFO)
    folder = output or Path("runs") / Path(name).name.removesuffix(".eqff.pt")
    with FramesBar("test") as bar:
        found = reproduce(name, data, folder, resume, band, tuple(assignments or ()), bar.advance)
    for key, expected in found.expected.items():
        typer.echo(f"{key:20} published {expected:8.3f}   this run {found.found[key]:8.3f}")
    typer.echo(f"wrote {folder / f'{found.name}.eqff.pt'}, card.md, metrics.json")
    if not found.reproduced:
        limit = found.expected["forces_mae_meV_A"] * (1.0 + band)
        raise RunError("EQ5210", f"{name}: force error above {limit:.2f} meV/Å; see {folder / 'card.md'}")
