import numpy as np
import pytest

from eqff.report.terminal import FramesBar, Pace, StatusLine, duration, error_table, number, table


def test_columns_stand_under_each_other():
    text = table([["", "MAE", "unit"], ["forces", "6.3", "meV/Å"], ["energy per atom", "0.1", "meV/atom"]])
    first, second, third = text.splitlines()
    assert first == "                   MAE      unit"
    assert second == "  forces           6.3     meV/Å"
    assert third == "  energy per atom  0.1  meV/atom"


def test_error_table_shows_what_is_known_with_units():
    quantities = {"energy": ("meV", "meV", 1e3), "forces": ("meV_A", "meV/Å", 1e3)}
    metrics = {"forces_mae_meV_A": 6.321, "forces_rmse_meV_A": 11.5, "forces_max_meV_A": 1471.4, "forces_n": 27000}
    text = error_table(metrics, quantities)
    assert text.split() == "MAE RMSE max unit values forces 6.32 11.5 1471 meV/Å 27000".split()
    assert "R² values forces 6.32 11.5 1471 meV/Å 0.99000 27000" in " ".join(
        error_table({**metrics, "forces_r2": 0.99}, quantities).split()
    )


def test_r2_of_a_useless_potential_is_short():
    quantities = {"energy": ("meV", "meV", 1e3)}
    metrics = {"energy_mae_meV": 1.0, "energy_rmse_meV": 1.0, "energy_max_meV": 1.0, "energy_n": 1, "energy_r2": -3.8e9}
    assert "-3.8e+09" in error_table(metrics, quantities)
    assert error_table({**metrics, "energy_r2": float("nan")}, quantities).split()[-2:] == ["meV", "1"]


def test_numbers_have_three_digits_that_count():
    assert [number(x) for x in (0.0, 0.01234, 12.34, 1234.5, 1.5e9)] == ["0", "0.0123", "12.3", "1234", "1.5e+09"]


def test_bar_is_silent_where_nobody_looks(capsys):
    with FramesBar("predict") as bar:
        bar.advance(1, 2)
        assert bar.progress.tasks[0].completed == 1
        assert bar.progress.tasks[0].total == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip() == ""


def test_status_line_is_for_terminals_only(capsys, monkeypatch):
    with StatusLine() as line:
        line.show("step 1")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with StatusLine() as line:
        line.show("step 1")
        assert line.status is not None
        assert line.status.status == "step 1"
    with StatusLine(hidden=True) as line:
        line.show("step 1")
        assert line.status is None


@pytest.mark.parametrize(("hours", "n_lines"), [(0.005, 0), (0.02, 2), (1, 10), (72, 432)])
def test_lines_of_progress_come_by_time_and_never_as_a_flood(hours, n_lines):
    seconds, said = 3600 * hours, []
    now = 0.0
    pace = Pace(lambda: now)
    for step in range(20_001):
        now = seconds * step / 20_000
        left = pace.due(step, 20_000)
        if left is not None:
            said.append((now, left))
    assert len(said) == pytest.approx(n_lines, rel=0.02, abs=2)
    gaps = np.diff([0.0, *(at for at, _ in said)])
    assert (gaps >= 30.0).all()
    assert (gaps <= 700.0).all()
    if hours == 1:
        assert said[4] == (pytest.approx(1470.0, abs=1.0), "35 min left")


def test_time_left_counts_what_this_run_does_only():
    now = 0.0
    pace = Pace(lambda: now)
    assert pace.due(900, 1000) is None  # resumed
    now = 50.0
    assert pace.due(950, 1000) == "50 s left"
    assert pace.due(951, 1000) is None


def test_durations_in_words():
    assert [duration(x) for x in (5, 600, 7200, 400_000)] == ["5 s", "10 min", "2.0 h", "4.6 d"]


def test_frames_are_counted_in_lines_where_no_terminal_shows_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("eqff.report.terminal.SHORTEST", 0.0)
    with FramesBar("predict") as bar:
        bar.advance(1, 2)
    assert "predict: 1 of 2 frames" in capsys.readouterr().err
    with FramesBar("predict", hidden=True) as bar:
        bar.advance(1, 2)
    assert capsys.readouterr().err == ""
