"""What the verbs of `eqff data` share: options of reading, and what reading decided."""

from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from eqff.data.read import Source

EnergyUnit = Annotated[Optional[str], typer.Option(help="eV, meV, kcal/mol, kJ/mol or Hartree; needed if not stated.")]
LengthUnit = Annotated[Optional[str], typer.Option(help="Å, nm or Bohr; needed if not stated and not plausibly Å.")]
EnergyKey = Annotated[Optional[str], typer.Option(help="Name of the energy in extended XYZ.")]
ForcesKey = Annotated[Optional[str], typer.Option(help="Name of the forces in extended XYZ.")]
StressKey = Annotated[Optional[str], typer.Option(help="Name of the stress (or virial) in extended XYZ.")]


def print_source(read: "Source") -> None:
    """What was read, how many frames with which labels, and how units were decided; doubts go to stderr."""
    typer.echo(f"read     {read.path} ({read.format}), sha256 {read.sha256[:16]}")
    typer.echo(f"frames   {read.census}")
    typer.echo(f"units    {read.units}")
    if read.units.doubt:
        typer.echo(f"warning  {read.units.doubt}", err=True)
