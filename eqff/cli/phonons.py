"""eqff phonons: harmonic phonons of a crystal."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from eqff.cli._options import (
    EVALUATION,
    READING,
    STRUCTURE,
    AsJson,
    Crystal,
    Evaluation,
    FolderForce,
    Potential,
    RelaxFirst,
    evaluates,
    reads,
    starting_file,
)
from eqff.cli._output import plain, potential_name, print_report
from eqff.data.reading.options import ReadOptions
from eqff.errors import ConfigError

if TYPE_CHECKING:
    from eqff.tasks.phonons import PhononsReport

MANY_ATOMS = 200  # of a supercell: more than one thread pays


@reads(*STRUCTURE)
@evaluates(dtype="float64", few_atoms=True)
def command(
    potential: Potential,
    structure: Crystal = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for bands, density of states, thermal properties, pictures.")
    ] = Path("phonons"),
    supercell: Annotated[
        Optional[str],
        typer.Option(help="Repeats of the cell, e.g. 3,3,3.", show_default="the smallest that is --min-width wide"),
    ] = None,
    min_width: Annotated[float, typer.Option(help="Å, smallest distance between faces of the supercell.")] = 12.0,
    displacement: Annotated[float, typer.Option(help="Å, of one atom at a time.")] = 0.01,
    max_temperature: Annotated[float, typer.Option(help="K, of free energy and heat capacity.")] = 1000.0,
    relax: RelaxFirst = True,
    fmax: Annotated[float, typer.Option(help="eV/Å, largest force after the relaxation.")] = 1e-4,
    steps: Annotated[int, typer.Option(help="Largest number of steps of the relaxation.")] = 500,
    reading: ReadOptions = READING,
    evaluation: Evaluation = EVALUATION,
    force: FolderForce = False,
    as_json: AsJson = False,
) -> None:
    """Harmonic phonons of a crystal: bands, density of states, free energy, heat capacity; without LO-TO splitting."""
    from eqff.data.reading.structures import read_structure
    from eqff.report.terminal import StatusLine
    from eqff.tasks import phonons

    config = phonons.PhononsConfig(
        supercell=None if supercell is None else _three(supercell),
        min_width=min_width,
        displacement=displacement,
        max_temperature=max_temperature,
        relax=relax,
        fmax=fmax,
        steps=steps,
        output=output,
        force=force,
    )
    atoms = read_structure(starting_file(potential, structure), reading)
    calculator = evaluation.calculator(potential, MANY_ATOMS)
    with StatusLine(hidden=as_json) as line:
        report = phonons.run_phonons(config, atoms, calculator, line.show)
    title = f"{potential_name(potential, evaluation.add)}: {report.atoms.get_chemical_formula()}"
    pictures = _draw(title, output, report)
    if not report.stable:
        share, q = 100.0 * report.imaginary_share, ", ".join(f"{x:.3g}" for x in report.lowest_qpoint)
        typer.echo(
            f"warning: imaginary modes, the lowest {-report.lowest:.3g}i THz at q = ({q}), {share:.2g} % of the modes: "
            "the crystal is no minimum of this potential; thermal properties leave these modes out",
            err=True,
        )
    if as_json:
        typer.echo(json.dumps(plain(phonons.plain(report) | {"files": [*report.files, *pictures]})))
    else:
        _show(title, output, report)


def _three(text: str) -> tuple[int, int, int]:
    try:
        a, b, c = (int(part) for part in text.replace("x", ",").split(","))
    except ValueError as error:
        raise ConfigError("EQ1279", f"supercell={text!r}: expected three whole numbers; give e.g. 3,3,3") from error
    return a, b, c


def _draw(title: str, folder: Path, report: "PhononsReport") -> list[Path]:
    from eqff.report.crystal import plot_bands, plot_thermal

    paths = [folder / "bands.png", folder / "thermal.png"]
    bands = [(band.labels, band.distances, band.frequencies) for band in report.bands]
    plot_bands(paths[0], bands, (report.dos_frequencies, report.dos), f"{title}, phonons")
    plot_thermal(
        paths[1],
        report.temperatures,
        report.free_energies,
        report.entropies,
        report.heat_capacities,
        f"{title}, harmonic phonons",
    )
    return paths


def _show(title: str, folder: Path, report: "PhononsReport") -> None:
    free, entropy, capacity = report.at_300_kelvin
    centre = [f for band in report.bands for q, f in zip(band.qpoints, band.frequencies, strict=True) if not q.any()]
    optical = sorted({f"{x:.3f}" for x in (centre[0] if centre else []) if abs(x) > 0.05}, key=float)
    lines = [
        f"supercell           {'x'.join(map(str, report.supercell))}, {report.n_displacements} displacements",
        f"highest frequency   {max(band.frequencies.max() for band in report.bands):.3f} THz",
        f"at the zone centre  {' '.join(optical) or 'acoustic modes only'}" + (" THz" if optical else ""),
        f"imaginary modes     {'none' if report.stable else f'lowest {-report.lowest:.3g}i THz'}",
        f"zero-point energy   {1e3 * report.zero_point_energy:.2f} meV/atom",
        f"at 300 K            free energy {1e3 * free:.2f} meV/atom, entropy {entropy:.2f} and heat capacity "
        f"{capacity:.2f} J/(K mol atoms)",
        f"results             {folder}",
    ]
    print_report(f"{title}: harmonic phonons", lines)
