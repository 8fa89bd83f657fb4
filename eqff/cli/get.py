"""eqff get: a published potential by name."""

from pathlib import Path
from typing import Annotated, Optional

import typer


def command(
    name: Annotated[
        Optional[str], typer.Argument(help="A potential, e.g. 7net-0.", show_default="list what there is")
    ] = None,
    from_file: Annotated[
        Optional[Path], typer.Option("--from-file", help="The package's file, for machines without a network.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make it again.")] = False,
) -> None:
    """Fetch a published potential for many elements; `eqff md`, `relax`, `predict` then know it by name.

    Example: eqff get 7net-0 && eqff relax 7net-0 crystal.cif --cell
    """
    from eqff.report.terminal import StatusLine
    from eqff.tasks.get import OFFERS, get

    if name is None:
        width = max(map(len, OFFERS))
        for known, offer in OFFERS.items():
            source = f"{offer.package.name} {offer.package.version}, {offer.package.megabytes} MB"
            typer.echo(f"{known:{width}}  {offer.about} ({source})")
        return
    with StatusLine() as line:
        report = get(name, from_file, force, line.show)
    known = report.path.parent.name
    typer.echo(f"{known}: {report.family}, {report.n_parameters} parameters, {len(report.config['species'])} elements")
    typer.echo(f"kept in {report.path}; licence {report.header['licence']}; `eqff inspect {known}` says what to cite")
    typer.echo(f"next: eqff relax {known} STRUCTURE --cell; eqff compile {known} makes it several times faster")
