"""How verbs print: values for JSON, a title with lines, the name of a potential."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plain(value: Any, names: Mapping[str, str] | None = None) -> Any:
    """A value for JSON: paths as text, non-finite numbers as null.

    Args: names: key -> key in JSON, with its unit
    """
    if isinstance(value, Mapping):
        return {(names or {}).get(key, key): plain(inner, names) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, names) for inner in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_report(title: str, lines: Sequence[str]) -> None:
    """A bold title and indented lines, never broken by the terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(title, style="bold", markup=False, soft_wrap=True)
    console.print("  " + "\n  ".join(lines), markup=False, soft_wrap=True)


def potential_name(potential: str, add: str | None = None) -> str:
    """Short name of a potential that was given by name or path; that of the run for best.eqff.pt in a run folder.

    Args: add: dispersion, named beside it
    """
    from eqff.artifact import lookup

    return lookup.potential_name(potential) + ("" if add is None else f" + {add}")


def lattice_text(cell: Sequence[float]) -> tuple[str, str]:
    """Lengths and angles of a cell as text.  Args: cell: a, b, c in Å, alpha, beta, gamma in degrees"""
    lengths = " x ".join(f"{length:.4f}" for length in cell[:3])
    angles = " ".join(f"{angle:.2f}" for angle in cell[3:])
    return f"{lengths} Å", f"{angles} degrees"


def composition_warning(formulas: Sequence[str], limit: int = 20) -> str:
    """Energies of compositions that the potential was not trained on; all are named, up to a limit."""
    more = f" and {len(formulas) - limit} more" if len(formulas) > limit else ""
    return (
        f"warning: energies of {', '.join(formulas[:limit])}{more} have an unknown constant, and their forces are "
        "extrapolated: the potential was not trained on these compositions"
    )
