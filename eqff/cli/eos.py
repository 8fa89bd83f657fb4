"""eqff eos: the equation of state of a crystal."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eqff.cli._options import (
    EVALUATION,
    READING,
    STRUCTURE,
    AsJson,
    Crystal,
    ElementsFrom,
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

if TYPE_CHECKING:
    from eqff.tasks.eos import EosReport

SOFT = 0.1  # GPa, softer than any solid


@reads(*STRUCTURE)
@evaluates(dtype="float64", few_atoms=True)
def command(
    potential: Potential,
    structure: Crystal = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for energies, fit, structures and picture.")
    ] = Path("eos"),
    range: Annotated[float, typer.Option(help="Volumes from 1 - RANGE to 1 + RANGE of the start.")] = 0.06,
    points: Annotated[int, typer.Option(help="Number of volumes.")] = 11,
    relax: RelaxFirst = True,
    fmax: Annotated[float, typer.Option(help="eV/Å, largest force after a relaxation.")] = 1e-3,
    steps: Annotated[int, typer.Option(help="Largest number of steps of a relaxation.")] = 500,
    elements_from: ElementsFrom = None,
    reading: ReadOptions = READING,
    evaluation: Evaluation = EVALUATION,
    force: FolderForce = False,
    as_json: AsJson = False,
) -> None:
    """Equation of state of a crystal: volume, bulk modulus and its derivative (Birch-Murnaghan)."""
    from eqff.data.reading.structures import read_structure, read_structures
    from eqff.report.terminal import StatusLine
    from eqff.tasks import eos
    from eqff.tasks.binding import References, check_elements, elemental_energies, isolated_energies
    from eqff.tasks.results_folder import check_folder

    config = eos.EosConfig(
        range=range, n_points=points, relax=relax, fmax=fmax, steps=steps, output=output, force=force
    )
    atoms = read_structure(starting_file(potential, structure), reading)
    with StatusLine(hidden=as_json) as line:
        calculator, elemental = evaluation.calculator(potential, len(atoms)), {}
        if elements_from is not None:
            check_folder(config.output, config.force)  # before anything is computed
            elemental = elemental_energies(read_structures(elements_from, ReadOptions()), calculator, line.show)
            check_elements(elemental, atoms)
        references = References(isolated_energies(calculator.potential), elemental)
        report = eos.run_eos(config, atoms, calculator, line.show, references)
    if report.bulk_modulus < SOFT:
        typer.echo(
            f"warning: a bulk modulus of {report.bulk_modulus:.2g} GPa: the cell contains a vacuum, or its atoms "
            "hardly interact; for a slab or a molecule an equation of state has no meaning",
            err=True,
        )
    title = f"{potential_name(potential, evaluation.add)}: {report.atoms.get_chemical_formula()}"
    picture = _draw(title, output, report)
    if as_json:
        typer.echo(json.dumps(plain(eos.plain(report) | {"files": [*report.files, picture]})))
    else:
        _show(title, output, report)


def _draw(title: str, folder: Path, report: "EosReport") -> Path:
    import numpy as np

    from eqff.report.crystal import plot_eos

    n_atoms = len(report.atoms)
    volumes = np.linspace(report.volumes.min(), report.volumes.max(), 200)
    curve = (volumes / n_atoms, report.fitted(volumes) / n_atoms)
    minimum = (report.volume / n_atoms, report.energy / n_atoms)
    path = folder / "eos.png"
    plot_eos(
        path, report.volumes / n_atoms, report.energies / n_atoms, report.pressures, curve, minimum, f"{title}, EOS"
    )
    return path


def _show(title: str, folder: Path, report: "EosReport") -> None:
    n_atoms = len(report.atoms)
    a, b, c, alpha, beta, gamma = report.atoms.cell.cellpar()
    residual = 1e3 * report.residual / n_atoms
    lines = [
        f"volume           {report.volume / n_atoms:.4f} Å^3/atom ({report.volume:.4f} Å^3 for {n_atoms} atoms)",
        f"cell             {a:.4f} {b:.4f} {c:.4f} Å, {alpha:.3f} {beta:.3f} {gamma:.3f}°",
        f"bulk modulus     {report.bulk_modulus:.2f} GPa, derivative {report.bulk_modulus_derivative:.2f}",
        f"energy           {report.energy / n_atoms:.6f} eV/atom",
        *_binding(report),
        f"fit              {residual:.3g} meV/atom RMS; pressure from the stress differs by "
        f"{report.pressure_difference:.2g} GPa RMS",
        f"results          {folder}",
    ]
    print_report(f"{title}: equation of state, {len(report.volumes)} volumes", lines)


def _binding(report: "EosReport") -> list[str]:
    energies = {"cohesive energy ": report.cohesive_energy, "formation energy": report.formation_energy}
    return [f"{name} {energy:.4f} eV/atom" for name, energy in energies.items() if energy is not None]
