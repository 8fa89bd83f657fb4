"""eqff data info: what is in a data file."""

from pathlib import Path
from typing import Annotated

import typer

from eqff.cli.data._reading import EnergyKey, EnergyUnit, ForcesKey, LengthUnit, StressKey, print_source


def command(
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
    print_source(read)
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
