"""report.html of a training run: its course, the errors of the result, the worst frames, data and configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eqff.files import new_file
from eqff.report import html

METRICS = (  # name, label in the report
    ("forces_mae_meV_A", "force components, MAE (meV/Å)"),
    ("forces_rmse_meV_A", "force components, RMSE (meV/Å)"),
    ("energy_mae_meV", "energy, MAE (meV)"),
    ("energy_per_atom_mae_meV", "energy per atom, MAE (meV)"),
    ("stress_mae_GPa", "stress, MAE (GPa)"),
)


def training_page(
    title: str,
    rows: Sequence[Mapping[str, float]],
    metrics: Mapping[str, float],
    worst: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, bytes],
    facts: Mapping[str, Mapping[str, Any]],
) -> str:
    """One page.

    Args: rows: of metrics.csv; metrics, worst: of an evaluation on validation frames (forces of the worst frames);
          pictures: caption -> PNG; facts: heading -> name -> value, e.g. data, configuration, environment
    """
    last = rows[-1]
    per_epoch = last["time_s"] / last["epoch"]
    summary = [("epochs", f"{last['epoch']:.0f}"), ("steps", f"{last['step']:.0f}")]
    summary += [("time", f"{last['time_s'] / 60.0:.1f} minutes"), ("per epoch", f"{per_epoch:.2f} s")]
    best = min(rows, key=lambda row: row.get("forces_mae_meV_A", row["validation_loss"]))
    summary += [("best epoch", f"{best['epoch']:.0f}, the one that is exported")]
    errors = [(text, metrics[name]) for name, text in METRICS if name in metrics]
    frames = [
        (row["frame"], row["formula"], f"{row['atom']} ({row['element']})", row["forces_vector_error_meV_A"])
        for row in worst
    ]
    sections: list[tuple[str, list[html.Piece]]] = [
        ("The run", [html.table(("", ""), summary)]),
        ("Errors on validation frames", [html.table(("", "best model"), errors)]),
        ("Pictures", [html.image(png, caption) for caption, png in pictures.items()]),
        ("Frames with the largest force errors", [html.table(("frame", "formula", "atom", "error (meV/Å)"), frames)]),
    ]
    sections += [(heading, [html.table(("", ""), values.items())]) for heading, values in facts.items()]
    return html.page(title, sections)


def write_training_page(path: Path, page: str) -> None:
    """Write the page; an existing one is replaced as a whole."""
    with new_file(path, force=True) as temporary:
        temporary.write_text(page, encoding="utf-8")
