"""The picture page of a simulation, from plain arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqff.report import plots
from eqff.report.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from eqff.units import G_PER_CM3

COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, GREY, "black")
MAX_WAVENUMBER = 4500.0  # cm-1


def plot_md(
    path: str | Path,
    time_fs: np.ndarray,
    potential_eV: np.ndarray,
    kinetic_eV: np.ndarray,
    temperature_K: np.ndarray,
    title: str = "",
    n_atoms: int = 1,
    conserved_eV: np.ndarray | None = None,
    conserved_name: str = "",
    drift: float | None = None,
    target_temperature_K: float | None = None,
    distances: Mapping[str, Any] | None = None,
    spectrum: Mapping[str, Any] | None = None,
    cell: Mapping[str, Any] | None = None,
) -> None:
    """Energies, temperature, the conserved quantity, pair distances, autocorrelation and spectrum of velocities; at
    constant pressure also volume and density, pressure, and the lengths of the cell.

    Args: path: of the PNG; arrays [n_samples]; n_atoms: divisor of the energies; conserved_eV: None when nothing is
          conserved; drift: meV/atom/ps, drawn as a line; target_temperature_K: None without a thermostat;
          distances: radius [n] Å, curves {name: [n]}, normalised; spectrum: lag_fs, autocorrelation, wavenumber,
          density {element: [n]}, resolution, nyquist in cm-1; cell: volume_A3 and pressure_GPa [n_samples], mass_amu,
          target_pressure_GPa, start_lengths_A (three; the shape of the cell is constant)
    """
    time_fs = np.asarray(time_fs, dtype=float)
    in_ps = time_fs.max(initial=0.0) >= 2000.0
    time, unit = (time_fs * 1e-3, "ps") if in_ps else (time_fs, "fs")
    scale = 1e3 / n_atoms  # eV -> meV per atom
    figure = plots._figure(11.0 if cell is None else 16.0, 10.5)
    rows = figure.subplots(3, 2 if cell is None else 3)
    (energies, temperature), (conserved, pairs), (correlation, density) = (row[:2] for row in rows)

    potential, kinetic = np.asarray(potential_eV, dtype=float), np.asarray(kinetic_eV, dtype=float)
    total = potential + kinetic
    energies.plot(time, kinetic * scale, color=ORANGE, label="kinetic", linewidth=0.9)
    energies.plot(time, (potential - potential[0]) * scale, color=BLUE, label="potential − start", linewidth=0.9)
    energies.plot(time, (total - total[0]) * scale, color="black", label="total − start", linewidth=1.3)
    energies.set_ylabel("energy (meV/atom)")
    plots._legend_above(energies)

    temperature.plot(time, temperature_K, color=VERMILION, linewidth=0.9, label="instantaneous")
    if len(time) > 1:
        temperature.plot(
            time, plots._running_mean(np.asarray(temperature_K)), color="black", linewidth=1.3, label="mean"
        )
    if target_temperature_K is not None:
        temperature.axhline(target_temperature_K, color=GREY, linestyle="--", linewidth=1.0, label="target")
    temperature.set_ylabel("temperature (K)")
    temperature.set_ylim(bottom=0.0)
    plots._legend_above(temperature)

    if conserved_eV is None:
        _nothing(conserved, "nothing is conserved:\nthe thermostat exchanges energy")
    else:
        values = (np.asarray(conserved_eV, dtype=float) - conserved_eV[0]) * scale
        conserved.plot(time, values, color="black", linewidth=0.9, label=f"{conserved_name} − start")
        if drift is not None:
            line = drift * (time_fs - time_fs.mean()) * 1e-3 + values.mean()
            conserved.plot(time, line, color=VERMILION, linewidth=1.3, label=f"drift {drift:+.2g} meV/atom/ps")
        conserved.set_ylabel("conserved energy (meV/atom)")
        plots._legend_above(conserved)
    in_time = [energies, temperature, conserved]
    if cell is not None:
        in_time += [row[2] for row in rows]
        _draw_cell(in_time[3:], time, cell)
    for axes in in_time:
        axes.set_xlabel(f"time ({unit})")
        if len(time) > 1:
            axes.set_xlim(time[0], time[-1])
    _draw_distances(pairs, distances)
    _draw_spectrum(correlation, density, spectrum)
    plots._finish(figure, path, title)


def _draw_cell(panels: Sequence[Any], time: np.ndarray, cell: Mapping[str, Any]) -> None:
    """Volume with density on the right, pressure, and lengths of the cell."""
    volumes, pressures, lengths = panels
    volume, pressure = np.asarray(cell["volume_A3"], dtype=float), np.asarray(cell["pressure_GPa"], dtype=float)
    volumes.plot(time, volume, color=BLUE, linewidth=0.9, label="instantaneous")
    volumes.plot(time, plots._running_mean(volume), color="black", linewidth=1.3, label="mean")
    volumes.set_ylabel("volume (Å$^3$)")
    mass = cell["mass_amu"] * G_PER_CM3

    def inverse(values: np.ndarray) -> np.ndarray:  # Å^3 -> g/cm^3 and back
        return mass / np.maximum(values, 1e-12)

    volumes.secondary_yaxis("right", functions=(inverse, inverse)).set_ylabel("density (g/cm$^3$)")
    plots._legend_above(volumes)
    pressures.plot(time, pressure, color=VERMILION, linewidth=0.9, label="instantaneous")
    pressures.plot(time, plots._running_mean(pressure), color="black", linewidth=1.3, label="mean")
    target = cell["target_pressure_GPa"]
    pressures.axhline(target, color=GREY, linestyle="--", linewidth=1.0, label=f"target {target:g} GPa")
    pressures.set_ylabel("pressure (GPa)")
    plots._legend_above(pressures)
    scale = (volume / volume[0]) ** (1.0 / 3.0)
    drawn: dict[str, float] = {}  # lengths that are equal share a curve
    for name, start in zip("abc", cell["start_lengths_A"], strict=True):
        same = next((names for names, length in drawn.items() if abs(length - start) < 1e-6 * start), None)
        drawn[name if same is None else f"{same} = {name}"] = start if same is None else drawn.pop(same)
    for colour, (name, start) in zip(COLOURS, drawn.items(), strict=False):
        lengths.plot(time, start * scale, color=colour, linewidth=1.0, label=name)
    lengths.set_ylabel("length of cell vectors (Å)")
    plots._legend_above(lengths)


def _draw_distances(axes: Any, distances: Mapping[str, Any] | None) -> None:
    if distances is None:
        _nothing(axes, "no pairs of atoms")
        return
    radius, curves = distances["radius"], distances["curves"]
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        axes.plot(radius, curve, color=colour, linewidth=1.0, label=name)
    if len(curves) > len(COLOURS):
        axes.plot([], [], " ", label=f"and {len(curves) - len(COLOURS)} more")
    shown = np.any([curve > 0 for curve in curves.values()], axis=0)
    axes.set_xlim(0.0, radius[shown].max() * 1.05)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("distance (Å)")
    axes.set_ylabel("g(r)" if distances["normalised"] else "pairs per Å")
    plots._legend_above(axes)


def _draw_spectrum(correlation: Any, density: Any, spectrum: Mapping[str, Any] | None) -> None:
    if spectrum is None:
        for axes in (correlation, density):
            _nothing(axes, "too short for a spectrum:\nfewer than 64 velocities were kept")
        return
    lag, values = spectrum["lag_fs"], spectrum["autocorrelation"]
    shown = lag <= max(500.0, 0.25 * lag[-1])
    correlation.plot(lag[shown], values[shown], color=BLUE, linewidth=0.9)
    correlation.axhline(0.0, color=GREY, linewidth=0.8)
    correlation.set_xlim(0.0, lag[shown][-1])
    correlation.set_xlabel("time lag (fs)")
    correlation.set_ylabel("velocity autocorrelation")
    wavenumber = spectrum["wavenumber"]
    total = sum(spectrum["density"].values())
    highest = wavenumber[total > 0.01 * total.max()].max(initial=0.0)
    shown = wavenumber <= min(MAX_WAVENUMBER, 1.3 * highest + spectrum["resolution"])
    below = np.zeros(int(shown.sum()))
    for colour, (element, curve) in zip(COLOURS, spectrum["density"].items(), strict=False):
        curve = np.maximum(curve[shown], 0.0)
        density.fill_between(wavenumber[shown], below, below + curve, color=colour, linewidth=0.0, label=element)
        below = below + curve
    density.plot(wavenumber[shown], below, color="black", linewidth=0.6)
    density.set_xlim(0.0, wavenumber[shown][-1])
    density.set_ylim(bottom=0.0)
    density.set_yticks([])
    limit = "" if spectrum["nyquist"] >= MAX_WAVENUMBER else f", Nyquist {spectrum['nyquist']:.0f} cm$^{{-1}}$"
    density.set_xlabel(f"wavenumber (cm$^{{-1}}$); resolution {spectrum['resolution']:.0f} cm$^{{-1}}${limit}")
    density.set_ylabel("vibrational density of states")
    plots._legend_above(density)


def _nothing(axes: Any, why: str) -> None:
    """Say why a panel is empty."""
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes, color=GREY)
    axes.set_axis_off()
