from eqff.report.terminal import FramesBar, StatusLine, error_table, number, table


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
