"""Plots of errors: predictions against labels, and where errors are large."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqff.report import plots

MANY = 3000  # points, above which their density is drawn
PANELS = (  # quantity, title, its unit, unit of its errors, factor from the former to the latter
    ("energy_per_atom", "energy per atom", "eV/atom", "meV/atom", 1e3),
    ("energy_per_atom_aligned", "energy per atom, aligned", "eV/atom", "meV/atom", 1e3),
    ("forces", "force components", "eV/Å", "meV/Å", 1e3),
    ("forces_norm", "force lengths", "eV/Å", "meV/Å", 1e3),
    ("stress", "stress", "GPa", "GPa", 1.0),
)
GPA = 160.21766208  # 1 eV/Å^3

Values = Mapping[str, tuple[np.ndarray, np.ndarray]]


def plot_parity(path: str | Path, values: Values, title: str = "") -> None:
    """Prediction against label, one panel per quantity, with the diagonal, MAE, RMSE and R2.

    Args: path: of the PNG; values: quantity -> (labels, predictions) in eV, eV/Å, eV/Å^3, as `Evaluation.values`
    """
    shown = [panel for panel in PANELS if panel[0] in values]
    figure = plots._figure(3.6 * max(len(shown), 1), 3.9)
    all_axes = figure.subplots(1, max(len(shown), 1), squeeze=False)[0]
    for axes, (name, text, unit, error_unit, factor) in zip(all_axes, shown, strict=False):
        label, value = _in_unit(name, values)
        offset = float(label.mean()) if name.startswith("energy_per_atom") else 0.0
        label, value = label - offset, value - offset  # of labels and predictions alike: errors do not change
        _cloud(axes, label, value, plots.BLUE)
        low, high = min(label.min(), value.min()), max(label.max(), value.max())
        margin = 0.03 * (high - low) or 1e-3
        axes.plot([low - margin, high + margin], [low - margin, high + margin], color="black", linewidth=0.8, zorder=1)
        axes.set_xlim(low - margin, high + margin)
        axes.set_ylim(low - margin, high + margin)
        axes.set_aspect("equal")
        relative = " − mean" if offset else ""
        axes.set_xlabel(f"label{relative} ({unit})")
        axes.set_ylabel(f"prediction{relative} ({unit})")
        axes.set_title(text, fontsize=10)
        axes.text(
            0.04, 0.96, _summary(label, value, factor, error_unit), transform=axes.transAxes, va="top", fontsize=8
        )
    plots._finish(figure, path, title)


def plot_errors(
    path: str | Path,
    values: Values,
    by_element: Sequence[Mapping[str, Any]] = (),
    by_force: Sequence[Mapping[str, Any]] = (),
    title: str = "",
) -> None:
    """Distributions of errors, energy errors in the order of the frames, force errors by element and by magnitude.

    Args: path: of the PNG; values: as `plot_parity`; by_element, by_force: rows of an `Evaluation`
    """
    drawn: list[tuple[Any, tuple[Any, ...]]] = []
    for name, text, _, unit, factor in PANELS:
        if name in values and name != "forces_norm":
            drawn.append((_distribution, (name, text, unit, factor)))
    if "energy_per_atom" in values and len(values["energy_per_atom"][0]) > 1:
        drawn.append((_sequence, ()))
    if by_element:
        drawn.append((_bars, (by_element, [str(row["element"]) for row in by_element], "element")))
    if by_force:
        drawn.append((_bars, (by_force, [_bounds(row) for row in by_force], "length of the force label (eV/Å)")))
    n_columns = min(max(len(drawn), 1), 3)
    n_rows = -(-max(len(drawn), 1) // n_columns)
    figure = plots._figure(3.8 * n_columns, 3.1 * n_rows)
    all_axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, (draw, arguments) in zip(all_axes, drawn, strict=False):
        draw(axes, values, *arguments)
    for axes in all_axes[max(len(drawn), 1) :]:
        axes.remove()
    plots._finish(figure, path, title)


def _in_unit(name: str, values: Values) -> tuple[np.ndarray, np.ndarray]:
    label, value = (np.asarray(one, dtype=float) for one in values[name])
    return (label * GPA, value * GPA) if name == "stress" else (label, value)


def _summary(label: np.ndarray, value: np.ndarray, factor: float, unit: str) -> str:
    error = (value - label) * factor
    spread = float(((label - label.mean()) ** 2).sum())
    lines = [
        f"MAE {np.abs(error).mean():.3g} {unit}",
        f"RMSE {np.sqrt((error**2).mean()):.3g} {unit}",
        f"max {np.abs(error).max():.3g} {unit}",
    ]
    if spread > 0:
        lines.append(f"R² {1.0 - float(((value - label) ** 2).sum()) / spread:.5f}")
    return "\n".join([*lines, f"n = {len(label)}"])


def _cloud(axes: Any, x: np.ndarray, y: np.ndarray, colour: str) -> None:
    if len(x) > MANY:
        axes.hexbin(x, y, gridsize=70, bins="log", cmap="viridis", mincnt=1, linewidths=0.0)
    else:
        axes.plot(x, y, ".", color=colour, markersize=3, alpha=0.5, markeredgewidth=0.0)


def _distribution(axes: Any, values: Values, name: str, text: str, unit: str, factor: float) -> None:
    label, value = _in_unit(name, values)
    error = (value - label) * factor
    reach = float(np.quantile(np.abs(error), 0.995)) or 1e-6
    inside = error[np.abs(error) <= reach]
    axes.hist(inside, bins=min(80, max(5, len(inside) // 5)), color=plots.SKY)
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.axvline(float(error.mean()), color=plots.VERMILION, linewidth=1.0, linestyle="--", label="mean")
    outside = len(error) - len(inside)
    note = f", {outside} outside" if outside else ""
    axes.set_xlabel(f"error of the {text} ({unit})")
    axes.set_ylabel(f"number (n = {len(error)}{note})")
    axes.legend(frameon=False, fontsize=8)


def _sequence(axes: Any, values: Values) -> None:
    label, value = values["energy_per_atom"]
    error = (np.asarray(value) - np.asarray(label)) * 1e3
    _cloud(axes, np.arange(len(error)), error, plots.BLUE)
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set_xlabel("frame with an energy, in order")
    axes.set_ylabel("energy error (meV/atom)")


def _bars(axes: Any, values: Values, rows: Sequence[Mapping[str, Any]], names: Sequence[str], label: str) -> None:
    place = np.arange(len(rows))
    axes.bar(place - 0.2, [row["forces_mae_meV_A"] for row in rows], 0.4, color=plots.BLUE, label="MAE")
    axes.bar(place + 0.2, [row["forces_rmse_meV_A"] for row in rows], 0.4, color=plots.ORANGE, label="RMSE")
    axes.set_xticks(place, [f"{name}\n({row['n_atoms']})" for name, row in zip(names, rows, strict=True)], fontsize=8)
    axes.set_xlabel(f"{label},\n(number of atoms)")
    axes.set_ylabel("error of components (meV/Å)")
    plots._legend_above(axes)


def _bounds(row: Mapping[str, Any]) -> str:
    return f"> {row['from_eV_A']:g}" if row["to_eV_A"] is None else f"{row['from_eV_A']:g}–{row['to_eV_A']:g}"
