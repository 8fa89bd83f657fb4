"""The pictures of errors show the numbers they are given, for any amount of data."""

import numpy as np
import pytest

from eqff.report import errors, plots


@pytest.fixture
def figures(monkeypatch):
    """The figures made, to ask them what they show."""
    made = []
    make = plots._figure
    monkeypatch.setattr(plots, "_figure", lambda *size: made.append(make(*size)) or made[-1])
    return made


def values(n, names=("energy_per_atom", "forces", "forces_norm", "stress")):
    rng = np.random.default_rng(0)
    found = {}
    for name in names:
        label = rng.normal(size=n)
        found[name] = (label, label + 0.01)
    return found


ROW = {"forces_mae_meV_A": 5.0, "forces_rmse_meV_A": 7.0, "n_atoms": 3}


@pytest.mark.parametrize("n", [1, 40, 5000])
def test_pictures_are_written_for_any_amount(tmp_path, figures, n):
    errors.plot_parity(tmp_path / "parity.png", values(n), "a title")
    by_force = [{"from_eV_A": 0.0, "to_eV_A": 1.0, **ROW}, {"from_eV_A": 1.0, "to_eV_A": None, **ROW}]
    errors.plot_errors(tmp_path / "errors.png", values(n), [{"element": "C", **ROW}], by_force, "a title")
    for name in ("parity", "errors"):
        content = (tmp_path / f"{name}.png").read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(content) > 10_000


def test_parity_has_one_panel_a_quantity_with_its_errors(tmp_path, figures):
    errors.plot_parity(tmp_path / "parity.png", values(50))
    axes = figures[-1].axes
    assert [one.get_title() for one in axes] == ["energy per atom", "force components", "force lengths", "stress"]
    texts = [one.texts[0].get_text() for one in axes]
    assert texts[0].startswith("MAE 10 meV/atom\nRMSE 10 meV/atom\nmax 10 meV/atom\nR² 0.99")
    assert texts[3].startswith("MAE 1.6 GPa")  # 0.01 eV/Å^3
    assert axes[1].get_xlim() == axes[1].get_ylim()


def test_bars_are_the_rows(tmp_path, figures):
    by_element = [{"element": "C", **ROW}, {"element": "H", **ROW, "forces_mae_meV_A": 2.0}]
    errors.plot_errors(tmp_path / "errors.png", values(50, ["forces"]), by_element)
    bars = figures[-1].axes[-1]
    assert [bar.get_height() for bar in bars.patches] == [5.0, 2.0, 7.0, 7.0]
    assert [text.get_text() for text in bars.get_xticklabels()] == ["C\n(3)", "H\n(3)"]


def test_nothing_and_perfect_predictions_can_be_drawn(tmp_path):
    errors.plot_parity(tmp_path / "none.png", {})
    errors.plot_errors(tmp_path / "none2.png", {})
    same = {"forces": (np.zeros(30), np.zeros(30))}
    errors.plot_parity(tmp_path / "same.png", same)
    errors.plot_errors(tmp_path / "same2.png", same)
    assert len(list(tmp_path.iterdir())) == 4
