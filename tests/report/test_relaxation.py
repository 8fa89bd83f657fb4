import numpy as np

from eqff.report import relaxation
from eqff.report.relaxation import plot_relaxation


def curves(monkeypatch, tmp_path, *arguments):
    """The lines of the two panels."""
    figures, make = [], relaxation._figure
    monkeypatch.setattr(relaxation, "_figure", lambda *size: figures.append(make(*size)) or figures[-1])
    plot_relaxation(tmp_path / "picture.png", *arguments)
    assert (tmp_path / "picture.png").read_bytes()[1:4] == b"PNG"
    return [axes.get_lines() for axes in figures[-1].axes]


def test_energies_are_relative_to_the_last_and_forces_have_their_limit(monkeypatch, tmp_path):
    energies = [np.array([-10.0, -11.0, -11.5]), np.array([-3.0, -4.0])]
    forces = [np.array([2.0, 0.5, 0.001]), np.array([2.0, 1.0])]
    upper, lower = curves(monkeypatch, tmp_path, energies, forces, 0.01, [True, False], "title")
    np.testing.assert_allclose(upper[0].get_ydata(), [1500.0, 500.0, 0.0])
    assert [line.get_label() for line in upper] == ["0", "1 (not converged)"]
    assert [line.get_linestyle() for line in upper] == ["-", ":"]
    np.testing.assert_allclose(lower[0].get_ydata(), forces[0])
    assert set(lower[-1].get_ydata()) == {0.01}


def test_odd_runs_can_be_drawn(monkeypatch, tmp_path):
    """Nothing evaluated, a force of exactly zero, more structures than colours."""
    nothing = np.array([])
    assert curves(monkeypatch, tmp_path, [nothing], [nothing], 0.01, [False])[0] == []
    curves(monkeypatch, tmp_path, [np.array([1.0])], [np.array([0.0])], 0.01, [True])
    upper, _ = curves(monkeypatch, tmp_path, [np.arange(3.0)] * 40, [np.ones(3)] * 40, 0.01, [True] * 40)
    assert len(upper) == 40


def test_every_curve_has_a_name(monkeypatch, tmp_path):
    step = np.array([2.0, 1.0])
    upper, lower = curves(monkeypatch, tmp_path, [step], [step], 0.01, [True], "", ["0: Si8"])
    assert [line.get_label() for line in upper] == ["0: Si8"]
    assert lower[0].axes.get_xlabel() == "step"
    upper, _ = curves(monkeypatch, tmp_path, [step] * 9, [step] * 9, 0.01, [True] * 7 + [False] * 2)
    assert [line.get_label() for line in upper if line.get_label()[0] != "_"] == ["converged (7)", "not converged (2)"]
