"""eqff data: look into data files, and convert them between formats."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from eqff.data.read import Source

app = typer.Typer(help="Look into data files and convert them.", no_args_is_help=True)

EnergyUnit = Annotated[Optional[str], typer.Option(help="eV, meV, kcal/mol, kJ/mol or Hartree; needed if not stated.")]
LengthUnit = Annotated[Optional[str], typer.Option(help="Å, nm or Bohr; needed if not stated and not plausibly Å.")]
EnergyKey = Annotated[Optional[str], typer.Option(help="Name of the energy in extended XYZ.")]
ForcesKey = Annotated[Optional[str], typer.Option(help="Name of the forces in extended XYZ.")]
StressKey = Annotated[Optional[str], typer.Option(help="Name of the stress (or virial) in extended XYZ.")]


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="File to read: .npz (MD17, sGDML, rMD17), .xyz, .extxyz, .h5")],
    target: Annotated[Path, typer.Argument(help="File to write: .h5, .extxyz, .xyz or .npz")],
    energy_unit: EnergyUnit = None,
    length_unit: LengthUnit = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    source_format: Annotated[Optional[str], typer.Option("--from", help="Format, if the suffix misleads.")] = None,
    target_format: Annotated[Optional[str], typer.Option("--to", help="Format, if the suffix misleads.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace TARGET if it exists.")] = False,
) -> None:
    """Convert a data file; energies, lengths and forces become eV and Å, and what was decided is printed."""
    from eqff.data.options import ReadOptions
    from eqff.data.read import read_source
    from eqff.data.store import Store
    from eqff.data.write import write_frames

    options = ReadOptions(
        energy_unit=energy_unit,
        length_unit=length_unit,
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
    )
    read = read_source(source, options, format=source_format)
    _print_source(read)
    write_frames(target, read.frames, format=target_format, provenance=read.provenance, force=force)
    typer.echo(f"wrote    {target}, {target.stat().st_size / 1e6:.2f} MB")
    if target.suffix.lower() in (".h5", ".hdf5"):
        with Store(target) as store:
            typer.echo(f"digest   {store.digest}")


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="Data file")],
    energy_unit: EnergyUnit = None,
    length_unit: LengthUnit = None,
    energy_key: EnergyKey = None,
    forces_key: ForcesKey = None,
    stress_key: StressKey = None,
    r_max: Annotated[float, typer.Option(help="Cut-off in Å for neighbour counts.")] = 4.0,
) -> None:
    """Frames, labels, composition, ranges and statistics of a data file."""
    import numpy as np

    from eqff.data.options import ReadOptions
    from eqff.data.read import read_source
    from eqff.data.statistics import statistics
    from eqff.data.store import Store
    from eqff.elements import SYMBOLS

    options = ReadOptions(
        energy_unit=energy_unit,
        length_unit=length_unit,
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
    )
    read = read_source(file, options)
    _print_source(read)
    if read.format == "hdf5":
        with Store(file) as store:
            store.verify()
            typer.echo(f"digest   {store.digest} (verified)")
            for name, text in store.provenance.items():
                typer.echo(f"         {name}: {text}")
    energies = np.array([f.energy for f in read.frames if f.energy is not None])
    if len(energies):
        typer.echo(
            f"energy   {energies.min():.6f} to {energies.max():.6f} eV, standard deviation {energies.std():.6f} eV"
        )
    forces = [f.forces for f in read.frames if f.forces is not None]
    if forces:
        largest = max(float(np.abs(f).max()) for f in forces)
        net = max(float(np.abs(f.sum(axis=0)).max()) for f in forces)
        typer.echo(f"forces   largest component {largest:.4f} eV/Å, largest net force {net:.2e} eV/Å")
    numbers = sorted({int(z) for f in read.frames for z in np.unique(f.atomic_numbers)})
    found = statistics(read.frames, [SYMBOLS[z] for z in numbers], r_max)
    typer.echo("\n".join(f"         {line}" for line in found.report.splitlines()))


def _print_source(read: "Source") -> None:
    typer.echo(f"read     {read.path} ({read.format}), sha256 {read.sha256[:16]}")
    typer.echo(f"frames   {read.census}")
    typer.echo(f"units    {read.units}")
    if read.units.doubt:
        typer.echo(f"warning  {read.units.doubt}", err=True)
