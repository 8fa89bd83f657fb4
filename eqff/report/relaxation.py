"""Picture of a geometry optimisation, from plain arrays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eqff.report.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, _figure, _finish, _legend_above

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)


def plot_relaxation(
    path: str | Path,
    energies_eV: Sequence[np.ndarray],
    max_forces_eV_A: Sequence[np.ndarray],
    fmax_eV_A: float,
    converged: Sequence[bool],
    title: str = "",
    names: Sequence[str] = (),
) -> None:
    """Energy relative to the last step, and the largest force, against the step, for each structure.

    Args: path: of the PNG; energies, max_forces: for each structure an array [n_steps + 1]; fmax: limit of the force,
          drawn as a line; converged: for each structure; the others are drawn dotted;
          names: of the structures, for the legend; without names, their numbers
    """
    figure = _figure(7.0, 5.8)
    energy_axes, force_axes = figure.subplots(2, 1, sharex=True)
    many = len(energies_eV) > len(COLOURS)
    kinds: set[str] = set()
    n_converged = sum(converged)
    for index, (energy, force, good) in enumerate(zip(energies_eV, max_forces_eV_A, converged, strict=True)):
        if len(energy) == 0:
            continue
        colour = (BLUE if good else VERMILION) if many else COLOURS[index]
        style = {
            "color": colour,
            "linestyle": "-" if good else ":",
            "linewidth": 0.7 if many else 1.3,
            "marker": "" if many or len(energy) > 60 else ".",
            "alpha": 0.5 if many else 1.0,
        }
        name = names[index] if names else str(index)
        label: str | None = f"{name}{'' if good else ' (not converged)'}"
        if many:  # the first of each kind stands for all
            kind = "converged" if good else "not converged"
            label = None if kind in kinds else f"{kind} ({n_converged if good else len(converged) - n_converged})"
            kinds.add(kind)
        energy_axes.plot(1e3 * (np.asarray(energy) - energy[-1]), label=label, **style)
        force_axes.plot(np.where(np.asarray(force) > 0.0, force, np.nan), **style)
    energy_axes.set_yscale("symlog", linthresh=1.0)
    energy_axes.set_ylabel("energy − its last (meV)")
    force_axes.axhline(fmax_eV_A, color=GREY, linestyle="--", linewidth=1.0, label=f"fmax = {fmax_eV_A:g} eV/Å")
    force_axes.set_yscale("log")
    force_axes.set_ylabel("largest force (eV/Å)")
    force_axes.set_xlabel("step")
    force_axes.xaxis.get_major_locator().set_params(integer=True)
    if energy_axes.get_legend_handles_labels()[0]:
        _legend_above(energy_axes)
    _legend_above(force_axes)
    _finish(figure, path, title)
