import subprocess
import sys

import pytest

from eqff.report import plots


class Spy:
    """Keeps the figures that the functions under test make, to ask them what they show."""

    def __init__(self, monkeypatch):
        self.figures = []
        make = plots._figure

        def kept(*size):
            self.figures.append(make(*size))
            return self.figures[-1]

        monkeypatch.setattr(plots, "_figure", kept)

    def curves(self):
        return {line.get_label(): line for axes in self.figures[-1].axes for line in axes.get_lines()}


@pytest.fixture
def spy(monkeypatch):
    return Spy(monkeypatch)


def test_learning_curve_marks_the_best_epoch_and_skips_gaps(tmp_path, spy):
    rows = [
        {"epoch": 1, "train_forces_mae_meV_A": 100.0, "learning_rate": 0.01},
        {"epoch": 2, "train_forces_mae_meV_A": 50.0, "forces_mae_meV_A": 60.0, "learning_rate": 0.01},
        {"epoch": 3, "train_forces_mae_meV_A": 20.0, "forces_mae_meV_A": 25.0, "learning_rate": 0.005},
        {"epoch": 4, "train_forces_mae_meV_A": 10.0, "forces_mae_meV_A": 30.0, "learning_rate": 0.0},
    ]
    plots.plot_learning_curve(tmp_path / "curve.png", rows, title="ethanol")
    assert [axes.get_ylabel() for axes in spy.figures[-1].axes] == ["force MAE (meV/Å)", "learning rate"]
    assert all(axes.get_yscale() == "log" for axes in spy.figures[-1].axes)
    curves = spy.curves()
    assert list(curves["validation"].get_xdata()) == [2, 3, 4]
    assert "best 25 at epoch 3" in curves
    assert list(curves["learning rate"].get_xdata()) == [1, 2, 3]
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_learning_curve_of_nothing_and_of_one_epoch(tmp_path):
    plots.plot_learning_curve(tmp_path / "none.png", [])
    plots.plot_learning_curve(tmp_path / "one.png", [{"epoch": 1, "forces_mae_meV_A": 20.0}])
    assert (tmp_path / "none.png").exists()
    assert (tmp_path / "one.png").exists()


def test_no_global_state_of_matplotlib_is_touched(tmp_path):
    program = (
        "import sys, matplotlib\n"
        "def settings():\n"
        "    return {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != 'backend'}\n"
        "before = settings()\n"
        "from eqff.report.plots import plot_learning_curve\n"
        f"plot_learning_curve({str(tmp_path / 'x.png')!r}, [{{'epoch': 1, 'forces_mae_meV_A': 2.0}}])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert settings() == before\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
