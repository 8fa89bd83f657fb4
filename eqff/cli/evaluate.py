"""eqff evaluate: errors of a potential on labelled frames."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eqff.cli._options import (
    EVALUATION,
    LABELLED,
    READING,
    AsJson,
    Evaluation,
    Force,
    MaxEdges,
    Potential,
    evaluates,
    reads,
)
from eqff.cli._output import composition_warning, plain, potential_name
from eqff.data.reading.options import ReadOptions
from eqff.errors import ConfigError

if TYPE_CHECKING:
    from eqff.artifact.potential import Potential as LoadedPotential
    from eqff.data.reading.read import Source
    from eqff.tasks.evaluate import Evaluation as Errors


@reads(*LABELLED)
@evaluates()
def command(
    potential: Potential,
    data: Annotated[
        Path, typer.Argument(help="Labelled frames in any format that `eqff data` reads; FILE or FILE@INDEX.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file; the two pictures stand beside it.")] = Path(
        "evaluation.json"
    ),
    reading: ReadOptions = READING,
    worst: Annotated[int, typer.Option(min=0, help="Number of worst frames to name.")] = 5,
    max_edges: MaxEdges = None,
    evaluation: Evaluation = EVALUATION,
    force: Force = False,
    plot: Annotated[bool, typer.Option("--plot/--no-plot", help="Draw parity and errors.")] = True,
    as_json: AsJson = False,
) -> None:
    """Errors of energy, forces and stress on labelled frames: overall, by element, by size, and the worst frames."""
    if output.suffix != ".json":
        raise ConfigError("EQ1230", f"output={output} has an unknown suffix; give a name that ends in .json")
    pictures = [output.with_name(f"{output.stem}_{name}.png") for name in ("parity", "errors")] if plot else []
    _refuse_existing([output, *pictures], force)

    from eqff.data.reading.read import Source
    from eqff.files import new_file
    from eqff.locks import locked_in_new_folder
    from eqff.report.terminal import FramesBar
    from eqff.tasks.evaluate import evaluate

    source = Source(data, reading)
    loaded = evaluation.load(potential)
    title = f"{potential_name(potential, evaluation.add)} on {data.name}"
    with locked_in_new_folder(output):
        _refuse_existing([output, *pictures], force)  # again: another process may have ended meanwhile
        with FramesBar(f"evaluate {data.name}", hidden=as_json) as bar:
            found = evaluate(loaded, source.frames, str(data), worst, max_edges, bar.advance, evaluation.add)
        values = _plain(found, loaded, source) | ({} if evaluation.add is None else {"add": evaluation.add})
        with new_file(output, force=force) as temporary:
            temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        title += f", {found.n_frames} frames"
        if plot:
            _draw(pictures, found, title)
    if as_json:
        typer.echo(json.dumps({**values, "output": str(output), "pictures": [str(path) for path in pictures]}))
    else:
        _show(title, found, source, loaded.program, [output, *pictures])
    if found.unknown_compositions:
        typer.echo(f"{composition_warning(found.unknown_compositions)}; see 'aligned'", err=True)


def _refuse_existing(paths: list[Path], force: bool) -> None:
    for path in paths:
        if path.exists() and not force:
            raise ConfigError("EQ1231", f"{path} exists; choose another name or overwrite it with --force")


def _plain(found: "Errors", potential: "LoadedPotential", source: "Source") -> dict[str, Any]:
    """The result as JSON values, NaN as null, without the single values."""
    values = {
        "potential": potential.header.get("name") or (potential.path.name if potential.path else None),
        "dtype": str(potential.dtype).removeprefix("torch."),
        "program": potential.program,
        "data": str(source.path),
        "data_sha256": source.sha256,
        "data_units": str(source.units),
        **found._asdict(),
    }
    del values["values"], values["force_elements"]
    result: dict[str, Any] = plain(values)
    return result


def _draw(pictures: list[Path], found: "Errors", title: str) -> None:
    from eqff.report.errors import plot_errors, plot_parity

    parity, errors = pictures
    plot_parity(parity, found.values, title)
    plot_errors(errors, found.values, found.by_element, found.by_force, title)


def _show(title: str, found: "Errors", source: "Source", program: str, written: list[Path]) -> None:
    from eqff.report.terminal import error_table, number, table
    from eqff.tasks.metrics import QUANTITIES

    metrics = found.metrics
    typer.echo(f"{title}, {found.n_atoms} atoms; labels: {source.units}")
    if source.units.doubt:
        typer.echo(f"warning: {source.units.doubt}", err=True)
    typer.echo(error_table(metrics, QUANTITIES))
    if "energy_aligned_mae_meV" in metrics:
        mae, rmse, of_atom, of_atom_rmse = (
            number(metrics[f"{name}_aligned_{kind}_meV"])
            for name in ("energy", "energy_per_atom")
            for kind in ("mae", "rmse")
        )
        typer.echo(
            f"  energy, mean error {metrics['energy_mean_error_meV']:+.3g} meV; aligned ({found.alignment} taken off):"
        )
        typer.echo(f"  MAE {mae} meV, RMSE {rmse} meV; per atom {of_atom} and {of_atom_rmse} meV/atom")
    if "energy_per_atom_aligned" in found.values:
        typer.echo(
            "note: most of the energy error is an offset, as between levels of theory: the pictures show energies both "
            f"as they are and aligned ({found.alignment} taken off); forces need no alignment"
        )
    if found.by_element:
        names = ("forces_mae_meV_A", "forces_rmse_meV_A", "forces_max_meV_A")
        header = ["", "MAE", "RMSE", "max", "unit", "atoms"]
        rows = [
            [row["element"], *(number(row[name]) for name in names), "meV/Å", str(row["n_atoms"])]
            for row in found.by_element
        ]
        typer.echo("force components by element")
        typer.echo(table([header, *rows]))
        rows = [
            [_bounds(row), *(number(row[name]) for name in names), "meV/Å", str(row["n_atoms"])]
            for row in found.by_force
        ]
        typer.echo("and by length of the force label (eV/Å)")
        typer.echo(table([header, *rows]))
    if found.worst_energy:
        typer.echo("worst energies")
        rows = [[_who(row), f"{row['energy_per_atom_error_meV']:+.3g} meV/atom"] for row in found.worst_energy]
        typer.echo(table(rows))
    if found.worst_forces:
        typer.echo("worst forces")
        rows = [
            [f"{_who(row)}, atom {row['atom']} ({row['element']})", f"{number(row['forces_vector_error_meV_A'])} meV/Å"]
            for row in found.worst_forces
        ]
        typer.echo(table(rows))
    typer.echo(f"program: {program}")
    typer.echo("wrote " + ", ".join(str(path) for path in written))


def _bounds(row: dict[str, Any]) -> str:
    return f"above {row['from_eV_A']:g}" if row["to_eV_A"] is None else f"{row['from_eV_A']:g} to {row['to_eV_A']:g}"


def _who(row: dict[str, Any]) -> str:
    known = ("frame", "formula", "atom", "element", "energy_per_atom_error_meV", "forces_vector_error_meV_A")
    names = ", ".join(f"{key}={value}" for key, value in row.items() if key not in known)
    return f"frame {row['frame']} {row['formula']}" + (f" ({names})" if names else "")
