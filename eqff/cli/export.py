"""eqff export: training run -> potential file."""

from pathlib import Path
from typing import Annotated, Optional

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Potential file to write, <name>.eqff.pt.")],
    card: Annotated[Optional[Path], typer.Option("--card", help="Markdown card to store in the file.")] = None,
    metrics: Annotated[
        Optional[Path], typer.Option("--metrics", help="JSON of further metrics for the header, e.g. on test frames.")
    ] = None,
    structure: Annotated[
        Optional[Path], typer.Option("--structure", help="Its first frames become test vectors in the file.")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="Licence of the potential, e.g. MIT.")] = "not stated",
    citation: Annotated[str, typer.Option("--citation", help="What users should cite.")] = "not stated",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write the best model of a training run as a potential file, verified in a fresh process."""
    from eqff.artifact import read
    from eqff.training.folder.trained import export_run

    export_run(run, output, force, card, metrics, structure, licence, citation)
    contents = read(output)
    typer.echo(f"{output}: {len(contents.content) / 1e6:.2f} MB, sha256 {contents.digest}")
    typer.echo("proved in a fresh process: energies and forces of all test vectors, three calls each")
