"""Pictures of crystals: energy against volume, phonon bands with density of states, thermal properties."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eqff.report.plots import BLUE, GREEN, GREY, VERMILION, _figure, _finish, _legend_above


def plot_eos(
    path: str | Path,
    volumes_A3: np.ndarray,
    energies_eV: np.ndarray,
    pressures_GPa: np.ndarray,
    curve: tuple[np.ndarray, np.ndarray],
    minimum: tuple[float, float],
    title: str = "",
) -> None:
    """Energies with the fitted curve, and pressures with minus its slope, against volume; all per atom.

    Args: path: of the PNG; volumes, energies, pressures [n_points]; curve: volumes and energies of the fit;
          minimum: volume and energy
    """
    figure = _figure(7.0, 6.0)
    energy_axes, pressure_axes = figure.subplots(2, 1, sharex=True)
    zero = minimum[1]
    energy_axes.plot(curve[0], 1e3 * (curve[1] - zero), color=BLUE, linewidth=1.2, label="Birch-Murnaghan")
    energy_axes.plot(volumes_A3, 1e3 * (energies_eV - zero), "o", color=VERMILION, markersize=4, label="potential")
    energy_axes.axvline(minimum[0], color=GREY, linewidth=0.8, linestyle="--")
    energy_axes.set_ylabel("energy − minimum (meV/atom)")
    slope = -np.gradient(curve[1], curve[0]) * 160.2176634
    pressure_axes.plot(curve[0], slope, color=BLUE, linewidth=1.2, label="−dE/dV of the fit")
    pressure_axes.plot(volumes_A3, pressures_GPa, "o", color=VERMILION, markersize=4, label="from the stress")
    pressure_axes.axhline(0.0, color=GREY, linewidth=0.8)
    pressure_axes.set_ylabel("pressure (GPa)")
    pressure_axes.set_xlabel("volume (Å³/atom)")
    for axes in (energy_axes, pressure_axes):
        _legend_above(axes)
    _finish(figure, path, title)


def plot_bands(
    path: str | Path,
    bands: Sequence[tuple[tuple[str, str], np.ndarray, np.ndarray]],
    dos: tuple[np.ndarray, np.ndarray],
    title: str = "",
) -> None:
    """Phonon bands along a path, imaginary frequencies drawn below 0, and the density of states beside them.

    Args: path: of the PNG; bands: for each segment the labels of its ends, distances [n] and frequencies [n, n_modes]
          in THz; dos: frequencies in THz and states per THz and atom
    """
    figure = _figure(8.0, 5.0)
    axes, dos_axes = figure.subplots(1, 2, sharey=True, width_ratios=(3.5, 1.0))
    ticks: list[tuple[float, str]] = []
    for (begin, end), distances, frequencies in bands:
        axes.plot(distances, np.where(frequencies >= 0.0, frequencies, np.nan), color=BLUE, linewidth=1.0)
        axes.plot(distances, np.where(frequencies < 0.0, frequencies, np.nan), color=VERMILION, linewidth=1.2)
        for position, label in ((float(distances[0]), begin), (float(distances[-1]), end)):
            if ticks and abs(ticks[-1][0] - position) < 1e-9:
                before = ticks[-1][1]
                ticks[-1] = (position, before if label in before.split("|") else f"{before}|{label}")
            else:
                ticks.append((position, label))
    for position, _ in ticks:
        axes.axvline(position, color=GREY, linewidth=0.6)
    axes.set_xticks([position for position, _ in ticks], [label for _, label in ticks])
    axes.set_xlim(ticks[0][0], ticks[-1][0])
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    axes.set_ylim(bottom=min(0.0, 1.05 * min(float(frequencies.min()) for _, _, frequencies in bands)))
    axes.set_ylabel("frequency (THz); imaginary below 0")
    dos_axes.fill_betweenx(dos[0], dos[1], color=BLUE, alpha=0.3, linewidth=0)
    dos_axes.plot(dos[1], dos[0], color=BLUE, linewidth=1.0)
    dos_axes.set_xlim(left=0.0)
    dos_axes.set_xlabel("states (1/THz/atom)")
    _finish(figure, path, title)


def plot_thermal(
    path: str | Path,
    temperatures_K: np.ndarray,
    free_energies_eV: np.ndarray,
    entropies_J_K_mol: np.ndarray,
    heat_capacities_J_K_mol: np.ndarray,
    title: str = "",
) -> None:
    """Harmonic free energy, entropy and heat capacity against temperature; per atom, or per mole of atoms."""
    figure = _figure(7.0, 5.6)
    free_axes, axes = figure.subplots(2, 1, sharex=True)
    free_axes.plot(temperatures_K, free_energies_eV, color=BLUE, linewidth=1.2)
    free_axes.set_ylabel("free energy (eV/atom)")
    axes.plot(temperatures_K, entropies_J_K_mol, color=GREEN, linewidth=1.2, label="entropy")
    axes.plot(temperatures_K, heat_capacities_J_K_mol, color=VERMILION, linewidth=1.2, label="heat capacity")
    axes.axhline(3.0 * 8.31446, color=GREY, linestyle="--", linewidth=0.8, label="3R")
    axes.set_ylabel("J/(K mol atoms)")
    axes.set_xlabel("temperature (K)")
    _legend_above(axes)
    _finish(figure, path, title)
