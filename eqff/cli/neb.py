"""eqff neb: the energy barrier between two structures."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from eqff.cli._options import (
    EVALUATION,
    READING,
    STRUCTURE,
    AsJson,
    Evaluation,
    FolderForce,
    Potential,
    evaluates,
    reads,
)
from eqff.cli._output import plain, potential_name, print_report
from eqff.data.reading.options import ReadOptions


@reads(*(name for name in STRUCTURE if name != "index"))
@evaluates(dtype="float64", few_atoms=True)
def command(
    potential: Potential,
    first: Annotated[str, typer.Argument(metavar="A", help="Start of the path; the last frame, or FILE@N.")],
    last: Annotated[str, typer.Argument(metavar="B", help="Its end: the same atoms in the same order and cell.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the path, the saddle point, energies and picture.")
    ] = Path("neb"),
    images: Annotated[int, typer.Option(help="Images between the ends.")] = 7,
    fmax: Annotated[float, typer.Option(help="eV/Å, largest force of the band at the end.")] = 0.05,
    steps: Annotated[int, typer.Option(help="Largest number of steps.")] = 500,
    relax: Annotated[bool, typer.Option("--relax/--no-relax", help="Relax both ends first.")] = True,
    climb: Annotated[bool, typer.Option("--climb/--no-climb", help="Move the highest image to the saddle.")] = True,
    reading: ReadOptions = READING,
    evaluation: Evaluation = EVALUATION,
    force: FolderForce = False,
    as_json: AsJson = False,
) -> None:
    """Energy barrier between two structures: climbing-image nudged elastic band, all images in one evaluation."""
    from eqff.data.reading.structures import read_structure
    from eqff.report.path import plot_path
    from eqff.report.terminal import StatusLine
    from eqff.tasks import neb

    config = neb.NebConfig(images=images, fmax=fmax, steps=steps, relax=relax, climb=climb, output=output, force=force)
    start, end = (read_structure(place, reading) for place in (first, last))
    with StatusLine(hidden=as_json) as line:
        report = neb.run_neb(config, start, end, evaluation.calculator(potential, len(start)), line.show)
    title = f"{potential_name(potential, evaluation.add)}: {report.images[0].get_chemical_formula()}"
    picture = output / "neb.png"
    plot_path(picture, report.distances, report.energies, report.curve, f"{title}, path")
    if as_json:
        typer.echo(json.dumps(plain(neb.plain(report) | {"files": [*report.files, picture]})))
    else:
        lines = [
            f"barrier          {report.barrier:.4f} eV, back {report.barrier_back:.4f} eV",
            f"reaction energy  {report.energies[-1]:.4f} eV",
            f"highest image    {report.saddle} of {len(report.images) - 1}, at {report.distances[report.saddle]:.3f} Å",
            f"band             {report.n_steps} steps, largest force {report.max_force:.3f} eV/Å",
            f"results          {output}",
        ]
        if report.saddle in (0, len(report.images) - 1):
            lines.insert(1, "note             the highest image is an end: there is no barrier between them")
        print_report(f"{title}: {len(report.images) - 2} images", lines)
    if not report.converged:
        typer.echo(f"warning: above {fmax:g} eV/Å after {report.n_steps} steps; allow more --steps", err=True)
        sys.exit(1)
