"""Picture of vibrational frequencies, from plain arrays."""

from pathlib import Path

import numpy as np

from eqff.report import plots

WIDTH = 20.0  # cm-1, full width at half maximum of the curve


def plot_frequencies(
    path: str | Path, real_cm1: np.ndarray, imaginary_cm1: np.ndarray, title: str = "", width: float = WIDTH
) -> None:
    """A stick for each mode, and their density: every mode counts the same, because intensities are unknown.

    Args: path: of the PNG; real [n], imaginary [m] cm-1, the latter drawn at negative wavenumbers; width: cm-1, full
          width at half maximum of the Gaussian of a mode
    """
    figure = plots._figure(8.0, 4.0)
    axes = figure.subplots()
    real, negative = np.asarray(real_cm1, dtype=float), -np.abs(np.asarray(imaginary_cm1, dtype=float))
    both = np.concatenate([negative, real, [0.0]])
    low, high = min(float(both.min()) - 5 * width, 0.0), float(both.max()) * 1.05 + 5 * width
    wavenumber = np.linspace(low, high, 4000)
    deviation = width / 2.3548
    density = np.zeros_like(wavenumber)
    for centre in (*negative, *real):
        density += np.exp(-0.5 * ((wavenumber - centre) / deviation) ** 2) / (deviation * np.sqrt(2.0 * np.pi))
    axes.plot(wavenumber, density, color="black", linewidth=0.9, label=f"density, {width:g} cm$^{{-1}}$ wide")
    height = float(density.max()) * 0.35 if len(both) > 1 else 1.0
    for values, colour, name in ((real, plots.BLUE, "modes"), (negative, plots.VERMILION, "imaginary modes")):
        if len(values):
            axes.vlines(values, 0.0, height, color=colour, linewidth=1.0, label=f"{name} ({len(values)})")
    axes.set_xlim(low, high)
    axes.set_ylim(bottom=0.0)
    minus = "; imaginary ones below 0" if len(negative) else ""
    axes.set_xlabel(f"wavenumber (cm$^{{-1}}$){minus}")
    axes.set_ylabel("modes per cm$^{-1}$\n(intensities unknown)")
    plots._legend_above(axes)
    plots._finish(figure, path, title)
