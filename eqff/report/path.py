"""Picture of a reaction path."""

from pathlib import Path

import numpy as np

from eqff.report.plots import BLUE, GREY, VERMILION, _figure, _finish


def plot_path(
    path: str | Path, distances: np.ndarray, energies: np.ndarray, curve: tuple[np.ndarray, np.ndarray], title: str = ""
) -> None:
    """Energies of images along a path, and a curve through them.

    Args: path: of the PNG; distances [n_images] Å; energies [n_images] eV; curve: Å and eV
    """
    figure = _figure(7.0, 4.5)
    axes = figure.subplots()
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    axes.plot(*curve, color=BLUE, linewidth=1.2)
    axes.plot(distances, energies, "o", color=VERMILION, markersize=4)
    highest = int(energies.argmax())
    axes.annotate(
        f"{energies[highest]:.3f} eV", (distances[highest], energies[highest]), xytext=(0, 6), ha="center",
        textcoords="offset points",
    )  # fmt: skip
    axes.margins(y=0.15)
    axes.set_xlabel("distance along the path (Å)")
    axes.set_ylabel("energy (eV)")
    _finish(figure, path, title)
