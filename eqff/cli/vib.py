"""eqff vib: harmonic vibrations with a potential."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from eqff.cli._options import (
    EVALUATION,
    READING,
    STRUCTURE,
    AsJson,
    Evaluation,
    Potential,
    evaluates,
    reads,
    starting_file,
)
from eqff.cli._output import plain, potential_name, print_report
from eqff.data.reading.options import ReadOptions

if TYPE_CHECKING:
    from eqff.tasks.thermochemistry import Thermochemistry
    from eqff.tasks.vibrations import Mode, VibrationsReport

UNITS = {  # names in JSON
    "temperature": "temperature_K",
    "pressure": "pressure_bar",
    "enthalpy": "enthalpy_eV",
    "entropy": "entropy_eV_K",
    "gibbs": "gibbs_eV",
    "n_ignored": "n_imaginary_ignored",
}


@reads(*STRUCTURE)
@evaluates(dtype="float64", programs=None, few_atoms=True)
def command(
    potential: Potential,
    structure: Annotated[
        Optional[str],
        typer.Argument(
            metavar="IN",
            help="A structure in any format that `eqff data` reads; the last of its frames, or FILE@N.",
            show_default="the potential's own structure",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for frequencies, Hessian, structure and modes.")
    ] = Path("vib"),
    relax: Annotated[
        bool, typer.Option("--relax/--no-relax", help="Relax the structure tightly first; fixed atoms stay fixed.")
    ] = True,
    fmax: Annotated[float, typer.Option(help="eV/Å, largest force after the relaxation.")] = 1e-6,
    steps: Annotated[int, typer.Option(help="Largest number of relaxation steps.")] = 1000,
    reading: ReadOptions = READING,
    evaluation: Evaluation = EVALUATION,
    force: Annotated[bool, typer.Option("--force", help="Overwrite results in an existing folder.")] = False,
    temperature: Annotated[float, typer.Option(help="K, of enthalpy, entropy and free energy.")] = 298.15,
    pressure: Annotated[float, typer.Option(help="bar, of a molecule as an ideal gas.")] = 1.0,
    symmetry_number: Annotated[
        int, typer.Option(min=1, help="Rotations that leave a molecule as it is: 1 for ethanol, 2 for H2O, 12 for CH4.")
    ] = 1,
    plot: Annotated[bool, typer.Option("--plot/--no-plot", help="Draw the frequencies.")] = True,
    modes: Annotated[bool, typer.Option("--modes/--no-modes", help="Write a trajectory of every vibration.")] = True,
    as_json: AsJson = False,
) -> None:
    """Frequencies, normal modes, H, S and G, from the analytic Hessian of the relaxed structure."""
    from eqff.data.reading.structures import read_structure
    from eqff.report.terminal import StatusLine
    from eqff.tasks.thermochemistry import check_conditions, thermochemistry
    from eqff.tasks.vibrations import UNRELAXED, VibrationsConfig, run_vibrations

    config = VibrationsConfig(relax=relax, fmax=fmax, steps=steps, output=output, modes=modes, force=force)
    check_conditions(temperature, pressure, symmetry_number)
    atoms = read_structure(starting_file(potential, structure), reading)
    # a compiled program cannot be differentiated twice, and its minimum would not quite be that of the Hessian
    calculator = evaluation.calculator(potential, len(atoms))
    n_rows = 3 * len(atoms)
    with StatusLine(hidden=as_json) as line:
        report = run_vibrations(
            config,
            atoms,
            calculator,
            lambda step: line.show(f"relaxing: step {step.step}, largest force {step.max_force:.2g} eV/Å"),
            lambda row: line.show(f"second derivatives: row {row} of at most {n_rows}"),
        )
    if report.relaxed is None and report.max_force > UNRELAXED:
        typer.echo(
            f"warning: the largest force is {report.max_force:.3g} eV/Å: this is no stationary point, so frequencies "
            "below a few hundred cm-1 and the free motions mean little; leave out --no-relax",
            err=True,
        )
    title = f"{potential_name(potential, evaluation.add)}: {report.atoms.get_chemical_formula()}"
    thermal = thermochemistry(report, temperature, pressure, symmetry_number)
    picture = config.output / "frequencies.png" if plot else None
    if picture is not None:
        _draw(picture, report, title)
    if as_json:
        more = {"thermochemistry": plain(thermal._asdict(), UNITS), "picture": plain(picture)}
        typer.echo(json.dumps({**_plain(report), **more}))
    else:
        _show(title, config.output, report, thermal, picture)


def _draw(picture: Path, report: "VibrationsReport", title: str) -> None:
    import numpy as np

    from eqff.report.vibrations import plot_frequencies

    of_kind = {
        kind: np.array([mode.frequency for mode in report.modes if mode.kind == kind])
        for kind in ("vibration", "imaginary")
    }
    plot_frequencies(picture, of_kind["vibration"], of_kind["imaginary"], title)


def _plain(report: "VibrationsReport") -> dict[str, Any]:
    """The report for JSON, without arrays (they are in the files)."""
    return {
        "formula": report.atoms.get_chemical_formula(),
        "energy_eV": float(report.atoms.get_potential_energy()),
        "relax_steps": None if report.relaxed is None else report.relaxed.n_steps,
        "max_force_eV_A": report.max_force,
        "frequencies_cm1": [mode.frequency for mode in report.modes],
        "kinds": [mode.kind for mode in report.modes],
        "n_imaginary": report.n_imaginary,
        "zero_point_energy_eV": report.zero_point_energy,
        "files": [str(path) for path in report.files],
    }


def _show(
    title: str, folder: Path, report: "VibrationsReport", thermal: "Thermochemistry", picture: Path | None
) -> None:
    from ase import units

    if report.relaxed is not None:
        change = f"{1e3 * report.relaxed.energy_change:+.3g} meV"
        lines = [f"relaxed first: {report.relaxed.n_steps} steps, {change}, largest force {report.max_force:.1g} eV/Å"]
    else:
        lines = [f"not relaxed: largest force {report.max_force:.2g} eV/Å"]
    lines.append("mode  frequency cm-1  energy meV")
    lines += [
        f"{number:4d}  {_frequency(mode):>14s}  {1e3 * units.invcm * mode.frequency:10.3f}"
        + ("  IMAGINARY" if mode.kind == "imaginary" else "")
        for number, mode in enumerate(report.modes)
        if mode.kind != "rigid"
    ]
    if report.rigid:
        largest = max(abs(mode.frequency) for mode in report.rigid)
        lines.append(f"free motions of the whole: {len(report.rigid)}, should be 0 cm-1, largest {largest:.2g}")
    if report.n_imaginary:
        names = ", ".join(_frequency(mode).strip() for mode in report.modes if mode.kind == "imaginary")
        lines.append(
            f"{report.n_imaginary} IMAGINARY ({names} cm-1): no minimum; not in the energies and entropy below"
        )
    lines.append(f"zero-point energy  {report.zero_point_energy:.6f} eV")
    at = f"{thermal.temperature:g} K" + ("" if thermal.pressure is None else f" and {thermal.pressure:g} bar")
    joule = thermal.entropy / (units.J / units.mol)
    lines.append(f"at {at}: {thermal.model}")
    lines.append(f"  enthalpy H       {thermal.enthalpy:.6f} eV")
    lines.append(f"  entropy S        {1e3 * thermal.entropy:.6f} meV/K = {joule:.2f} J/mol/K")
    lines.append(f"  free energy G    {thermal.gibbs:.6f} eV")
    if picture is not None:
        lines.append(f"picture            {picture}")
    lines.append(f"results            {folder}")
    print_report(f"{title}: {len(report.modes)} modes", lines)


def _frequency(mode: "Mode") -> str:
    """1234.56, or 123.45i for an imaginary one."""
    return f"{abs(mode.frequency):.2f}" + ("i" if mode.kind == "imaginary" else " ")
