"""eqff data convert: a data file in another format, in eV and Å."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from eqff.cli.data._reading import EnergyKey, EnergyUnit, ForcesKey, LengthUnit, StressKey, print_source


def command(
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
    print_source(read)
    write_frames(target, read.frames, format=target_format, provenance=read.provenance, force=force)
    typer.echo(f"wrote    {target}, {target.stat().st_size / 1e6:.2f} MB")
    if target.suffix.lower() in (".h5", ".hdf5"):
        with Store(target) as store:
            typer.echo(f"digest   {store.digest}")
