"""The picture page of a simulation."""

import numpy as np
import pytest

from eqff.report import plots
from eqff.report.md import plot_md


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, to ask them what they show."""
    made, make = [], plots._figure

    def kept(*size):
        made.append(make(*size))
        return made[-1]

    monkeypatch.setattr(plots, "_figure", kept)
    return made


def run(n):
    """time, potential, kinetic, temperature; the total rises by 1 meV per fs."""
    time_fs = np.arange(n) * 0.5
    kinetic = 0.3 + 0.1 * np.cos(time_fs)
    return time_fs, -4000.0 - kinetic + 1e-3 * time_fs, kinetic, 300.0 + 10.0 * np.sin(time_fs)


def spectrum(nyquist=8000.0):
    wavenumber = np.linspace(0, nyquist, 400)
    density = {"C": np.exp(-(((wavenumber - 1000) / 50) ** 2)), "H": np.exp(-(((wavenumber - 3000) / 50) ** 2))}
    lag = np.arange(400) * 2.0
    return {
        "lag_fs": lag,
        "autocorrelation": np.cos(lag / 10),
        "wavenumber": wavenumber,
        "density": density,
        "resolution": 16.3,
        "nyquist": nyquist,
    }


DISTANCES = {
    "radius": np.linspace(0.05, 8, 160),
    "curves": {f"{i}": np.linspace(0, 1, 160) < 0.5 for i in range(10)},
    "normalised": True,
}


def curves(axes):
    return {line.get_label(): line for line in axes.get_lines()}


@pytest.mark.parametrize("n", [1, 2, 500, 10_000])
@pytest.mark.parametrize("everything", [False, True])
def test_a_page_is_written_for_any_length(tmp_path, n, everything):
    more = {"distances": DISTANCES, "spectrum": spectrum()} if everything else {}
    plot_md(tmp_path / "md.png", *run(n), title="ethanol", n_atoms=9, target_temperature_K=300.0, **more)
    content = (tmp_path / "md.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(content) > 10_000


def test_energies_are_per_atom_and_relative_to_the_start(tmp_path, figures):
    time_fs, potential, kinetic, temperature = run(500)
    conserved = potential + kinetic
    options = {"n_atoms": 9, "conserved_eV": conserved, "conserved_name": "total energy", "drift": 1000 / 9}
    plot_md(tmp_path / "md.png", time_fs, potential, kinetic, temperature, **options)
    energies, heat, constant, *_ = figures[0].axes
    np.testing.assert_allclose(curves(energies)["kinetic"].get_ydata(), kinetic * 1e3 / 9)
    np.testing.assert_allclose(curves(energies)["total − start"].get_ydata(), time_fs / 9, atol=1e-6)
    np.testing.assert_allclose(curves(heat)["instantaneous"].get_ydata(), temperature)
    assert curves(heat)["mean"].get_ydata()[-1] == pytest.approx(temperature.mean())
    assert "target" not in curves(heat)
    np.testing.assert_allclose(curves(constant)["total energy − start"].get_ydata(), time_fs / 9, atol=1e-6)
    np.testing.assert_allclose(curves(constant)["drift +1.1e+02 meV/atom/ps"].get_ydata(), time_fs / 9, atol=1e-6)


def test_long_runs_are_drawn_in_picoseconds(tmp_path, figures):
    plot_md(tmp_path / "md.png", *run(10_000), target_temperature_K=290.0)
    heat = figures[0].axes[1]
    assert heat.get_xlabel() == "time (ps)"
    assert curves(heat)["instantaneous"].get_xdata()[-1] == pytest.approx(4.9995)
    assert curves(heat)["target"].get_ydata()[0] == 290.0


def test_spectrum_is_stacked_and_says_what_it_cannot_see(tmp_path, figures):
    plot_md(tmp_path / "md.png", *run(10), distances=DISTANCES, spectrum=spectrum(nyquist=3500.0))
    pairs, density = figures[0].axes[3], figures[0].axes[5]
    assert pairs.get_ylabel() == "g(r)"
    assert "and 2 more" in curves(pairs)
    assert "Nyquist 3500" in density.get_xlabel()
    assert "resolution 16" in density.get_xlabel()
    (total,) = [line for line in density.get_lines() if line.get_color() == "black"]
    np.testing.assert_allclose(total.get_ydata(), sum(spectrum(3500.0)["density"].values()))


def test_empty_panels_say_why(tmp_path, figures):
    plot_md(tmp_path / "md.png", *run(10))
    said = " ".join(text.get_text() for axes in figures[0].axes for text in axes.texts)
    for words in ("thermostat exchanges energy", "no pairs", "too short for a spectrum"):
        assert words in said


def test_constant_pressure_shows_volume_density_pressure_and_cell(tmp_path, figures):
    n = 400
    volume = 160.0 * (1.0 + 0.01 * np.sin(np.arange(n)))
    cell = {
        "volume_A3": volume,
        "pressure_GPa": np.cos(np.arange(n)),
        "mass_amu": 8 * 28.085,
        "target_pressure_GPa": 0.5,
        "start_lengths_A": (4.0, 4.0, 10.0),
    }
    plot_md(tmp_path / "md.png", *run(n), cell=cell)
    volumes, pressures, lengths = (figures[0].axes[i] for i in (2, 5, 8))
    np.testing.assert_allclose(curves(volumes)["instantaneous"].get_ydata(), volume)
    (density,) = volumes.child_axes
    assert density.get_ylabel() == "density (g/cm$^3$)"
    low, high = sorted(density.get_ylim())
    assert low < 8 * 28.085 / 0.602214076 / 160.0 < high  # 1 g/cm^3 = 0.602214 amu/Å^3
    np.testing.assert_allclose(curves(pressures)["target 0.5 GPa"].get_ydata(), 0.5)
    assert pressures.get_ylabel() == "pressure (GPa)"
    drawn = curves(lengths)
    assert set(drawn) == {"a = b", "c"}
    a, c = drawn["a = b"].get_ydata(), drawn["c"].get_ydata()
    np.testing.assert_allclose(a * a * c / (4.0 * 4.0 * 10.0), volume / volume[0])
