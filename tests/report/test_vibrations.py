import numpy as np
import pytest

from eqff.report import plots
from eqff.report.vibrations import plot_frequencies


@pytest.mark.parametrize(("n_real", "n_imaginary"), [(0, 0), (21, 0), (3, 2)])
def test_every_mode_counts_one_and_imaginary_ones_stand_below_zero(monkeypatch, tmp_path, n_real, n_imaginary):
    figures, make = [], plots._figure
    monkeypatch.setattr(plots, "_figure", lambda *size: figures.append(make(*size)) or figures[-1])
    plot_frequencies(tmp_path / "f.png", np.linspace(300, 3000, n_real), -np.linspace(200, 400, n_imaginary))
    (axes,) = figures[0].axes
    (curve,) = axes.get_lines()
    area = np.trapezoid(curve.get_ydata(), curve.get_xdata())
    assert area == pytest.approx(n_real + n_imaginary, rel=1e-2)
    assert "intensities unknown" in axes.get_ylabel()
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert (f"imaginary modes ({n_imaginary})" in names) == bool(n_imaginary)
