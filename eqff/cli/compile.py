"""eqff compile: make a potential fast on this machine."""

import json
from typing import Annotated, Any

import typer

UNITS = {  # names in JSON
    "r_min": "r_min_A",
    "energy_error": "energy_error_eV",
    "force_error": "force_error_eV_A",
}


def command(
    potential: Annotated[str, typer.Argument(help="A potential file, or the name of a shipped potential.")],
    dtype: Annotated[str, typer.Option(help="Of the weights: float32, float64 or auto (as stored).")] = "auto",
    exact: Annotated[bool, typer.Option("--exact", help="Keep the radial networks instead of splines.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON for machines.")] = False,
) -> None:
    """Compile a potential for this CPU (about a minute, needs a C++ compiler); later runs use the result."""
    from rich.console import Console

    console = Console(stderr=True, quiet=quiet or as_json)
    with console.status("starting") as status:
        from eqff.compiler import compile_potential

        result = compile_potential(potential, dtype, exact, progress=status.update)
    if as_json:
        typer.echo(
            json.dumps({UNITS.get(name, name): _plain(value) for name, value in result._asdict().items()}, indent=2)
        )
    elif not quiet:
        typer.echo(_summary(result))


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float) else str(value)


def _summary(result: Any) -> str:
    radial = "exact radial networks"
    if result.n_knots:
        radial = (
            f"radial splines of {result.n_knots} knots from {result.r_min:.2f} Å on, which change forces by "
            f"{result.spline_force_error:.1e} of their RMS"
        )
    done = f"compiled in {result.seconds:.0f} s" if result.seconds else "was compiled before"
    return (
        f"{done}: {radial}\ntest vectors met within {result.energy_error:.1e} eV and {result.force_error:.1e} eV/Å\n"
        f"{result.folder}"
    )
