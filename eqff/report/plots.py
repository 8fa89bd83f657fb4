"""The plot of a training run, from plain arrays, and the parts that all plots of this folder share.

Figures are made with matplotlib's object interface and the Agg canvas: no windows, no global state.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqff.files import new_file

# Okabe & Ito (2008): distinguishable with all common forms of colour blindness
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#555555"

# label of the axis, then (column, colour, name) of its curves
PANELS = (
    (
        "force MAE (meV/Å)",
        (("train_forces_mae_meV_A", BLUE, "training"), ("forces_mae_meV_A", VERMILION, "validation")),
    ),
    ("energy MAE (meV)", (("train_energy_mae_meV", BLUE, "training"), ("energy_mae_meV", VERMILION, "validation"))),
    ("loss", (("train_loss", BLUE, "training"), ("validation_loss", VERMILION, "validation"))),
    ("learning rate", (("learning_rate", GREEN, "learning rate"),)),
)
_COLUMNS = tuple(column for _, curves in PANELS for column, _, _ in curves)


def plot_learning_curve(path: str | Path, rows: Sequence[Mapping[str, float]], title: str = "") -> None:
    """Errors on validation (and training) frames, loss and learning rate against epochs, on logarithmic axes.

    Args: path: of the PNG; rows: one mapping per validation with `epoch` and any of the columns in PANELS, NaN where
          not measured; the best validation error is marked
    """
    table = {name: [row.get(name, math.nan) for row in rows] for name in ("epoch", *_COLUMNS)}
    shown = [panel for panel in PANELS if any(_positive(table, column).any() for column, _, _ in panel[1])]
    figure = _figure(7.0, 1.0 + 2.4 * max(len(shown), 1))
    all_axes = figure.subplots(max(len(shown), 1), 1, sharex=True, squeeze=False)[:, 0]
    epoch = np.asarray(table["epoch"], dtype=float)
    for axes, (label, curves) in zip(all_axes, shown, strict=False):
        for column, colour, name in curves:
            keep = _positive(table, column)
            if not keep.any():
                continue
            values = np.asarray(table[column], dtype=float)[keep]
            few = "." if keep.sum() <= 30 else ""
            axes.plot(epoch[keep], values, color=colour, label=name, linewidth=1.2, marker=few)
            if column in ("forces_mae_meV_A", "energy_mae_meV"):
                best = int(values.argmin())
                text = f"best {values[best]:.3g} at epoch {epoch[keep][best]:g}"
                axes.plot(epoch[keep][best], values[best], "o", color=colour, markersize=6, label=text)
        axes.set_yscale("log")
        _plain_ticks(axes)
        axes.set_ylabel(label)
        if len(curves) > 1:
            _legend_above(axes)
    all_axes[-1].set_xlabel("epoch")
    _finish(figure, path, title)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _finish(figure: Any, path: str | Path, title: str) -> None:
    for axes in figure.axes:
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11)
    with new_file(path, force=True) as temporary:
        figure.savefig(temporary, dpi=150)


def _legend_above(axes: Any) -> None:
    """A legend on one line above the axes, where it hides no curve."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False, fontsize=8, borderaxespad=0.2)


def _plain_ticks(axes: Any) -> None:
    """Plain numbers instead of powers of ten on a short logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axes.get_ylim()
    decades = math.log10(high / low)
    if decades < 3 and low >= 1e-2 and high <= 1e5:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def _positive(table: Mapping[str, Sequence[float]], column: str) -> np.ndarray:
    """Rows whose value a logarithmic axis can show."""
    values = np.asarray(table[column], dtype=float)
    return np.isfinite(values) & (values > 0)


def _running_mean(values: np.ndarray) -> np.ndarray:
    return np.cumsum(values) / np.arange(1, len(values) + 1)
