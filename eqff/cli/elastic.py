"""eqff elastic: elastic constants of a crystal."""

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
    from eqff.tasks.elastic import ElasticReport

STRESSED = 0.1  # GPa, above it constants depend on the stress


@reads(*STRUCTURE)
@evaluates(dtype="float64", few_atoms=True)
def command(
    potential: Potential,
    structure: Crystal = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the tensor, moduli and the crystal.")
    ] = Path("elastic"),
    strain: Annotated[float, typer.Option(help="Largest strain.")] = 0.005,
    relax: RelaxFirst = True,
    fmax: Annotated[float, typer.Option(help="eV/Å, largest force after a relaxation.")] = 1e-4,
    steps: Annotated[int, typer.Option(help="Largest number of steps of a relaxation.")] = 500,
    reading: ReadOptions = READING,
    evaluation: Evaluation = EVALUATION,
    force: FolderForce = False,
    as_json: AsJson = False,
) -> None:
    """Elastic constants of a crystal, moduli after Voigt, Reuss and Hill, stability."""
    from eqff.data.reading.structures import read_structure
    from eqff.report.terminal import StatusLine
    from eqff.tasks import elastic

    config = elastic.ElasticConfig(strain=strain, relax=relax, fmax=fmax, steps=steps, output=output, force=force)
    atoms = read_structure(starting_file(potential, structure), reading)
    with StatusLine(hidden=as_json) as line:
        report = elastic.run_elastic(config, atoms, evaluation.calculator(potential, len(atoms)), line.show)
    if report.residual_stress > STRESSED:
        typer.echo(
            f"warning: the crystal has a stress of {report.residual_stress:.3g} GPa: these are stress-strain "
            "coefficients under load; leave out --no-relax for those at rest",
            err=True,
        )
    if as_json:
        typer.echo(json.dumps(plain(elastic.plain(report) | {"files": list(report.files)})))
    else:
        _show(f"{potential_name(potential, evaluation.add)}: {report.atoms.get_chemical_formula()}", output, report)


def _show(title: str, folder: Path, report: "ElasticReport") -> None:
    lines = ["C (GPa)      xx       yy       zz       yz       xz       xy"]
    for name, row in zip(("xx", "yy", "zz", "yz", "xz", "xy"), report.constants, strict=True):
        lines.append(f"     {name} " + " ".join(f"{value + 0.0:8.2f}" for value in row.round(2)))
    lines.append("             bulk    shear    Young (GPa)  Poisson")
    for name in ("voigt", "reuss", "hill"):
        m = getattr(report, name)
        lines.append(f"{name.capitalize():8s} {m.bulk:8.2f} {m.shear:8.2f} {m.young:8.2f}        {m.poisson:7.3f}")
    lowest = report.eigenvalues[0]
    lines += [
        f"anisotropy   {report.anisotropy:.3f} (universal index, 0 is isotropic)",
        f"stability    {'stable' if report.stable else 'UNSTABLE'}, lowest eigenvalue {lowest:.2f} GPa",
        f"symmetry     {report.space_group}; imposing it changed the tensor by {report.symmetrization:.2g} GPa, "
        f"C_ij and C_ji differed by {2.0 * report.asymmetry:.2g} GPa",
        f"results      {folder}",
    ]
    print_report(f"{title}: elastic constants along the axes of the conventional cell", lines)
