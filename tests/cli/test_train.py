import math
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import pytest
from toys import SAMPLE
from typer.testing import CliRunner

from eqff import artifact, cli
from eqff.config import overridden


def test_arguments_reach_the_task(monkeypatch, tmp_path):
    calls = []

    def train(*positional, **named):
        calls.append((positional, named))
        return tmp_path

    monkeypatch.setattr("eqff.training.run.train", train)
    monkeypatch.setattr("eqff.cli.train.seconds_so_far", lambda: 0.0)
    app, runner = cli.build(), CliRunner()
    assert runner.invoke(app, ["train", "water.toml"]).exit_code == 0
    arguments = [
        "train",
        "a.toml",
        "-o",
        "here",
        "--resume",
        "--time-limit",
        "1.5h",
        "--set",
        "model.l_max=2",
        "--set",
        "seed=1",
    ]
    assert runner.invoke(app, arguments).exit_code == 0
    assert calls == [
        ((Path("water.toml"), Path("runs/water")), {"resume": False, "overrides": (), "time_limit": math.inf}),
        (
            (Path("a.toml"), Path("here")),
            {"resume": True, "overrides": ("model.l_max=2", "seed=1"), "time_limit": 5400.0},
        ),
    ]


def test_train_then_export_on_the_command_line(tmp_path, smallest_recipe):
    (tmp_path / "recipe.toml").write_text(smallest_recipe)
    app, runner = cli.build(), CliRunner()
    result = runner.invoke(app, ["train", str(tmp_path / "recipe.toml"), "-o", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert "meV/Å" in result.output
    potential = tmp_path / "run" / "best.eqff.pt"
    assert artifact.inspect(potential)["name"] == "run"
    result = runner.invoke(app, ["export", str(tmp_path / "run"), "-o", str(potential), "--force"])
    assert result.exit_code == 0, result.output
    trajectory = tmp_path / "steps.extxyz"  # of a structure that the run has left
    result = runner.invoke(
        app, ["md", str(potential), "--steps", "2", "--no-guard", "--no-plot", "-o", str(trajectory)]
    )
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[1].startswith("run: ")
    assert len(ase.io.read(trajectory)) == 9


@pytest.mark.parametrize("given", ["first", "ethanol-nequip"])
def test_init_from_is_a_place_here_or_the_name_of_a_potential(tmp_path, monkeypatch, given):
    seen = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first").mkdir()
    monkeypatch.setattr(
        "eqff.training.run.train", lambda *positional, **named: seen.extend(named["overrides"]) or tmp_path
    )
    assert CliRunner().invoke(cli.build(), ["train", "recipe.toml", "--init-from", given]).exit_code == 0
    expected = str(tmp_path / "first") if given == "first" else given
    assert overridden({}, seen) == {"init_from": expected}


def test_preset_and_unit_go_before_what_set_says(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "eqff.training.run.train",
        lambda *positional, **named: seen.extend([positional, named["overrides"]]) or tmp_path,
    )
    arguments = ["train", "frames.extxyz", "--preset", "fast", "--energy-unit", "kcal/mol", "--set", "preset=accurate"]
    assert CliRunner().invoke(cli.build(), arguments).exit_code == 0
    assert seen[0] == (Path("frames.extxyz"), Path("runs/frames"))
    assert overridden({}, seen[1]) == {"preset": "accurate", "data": {"energy_unit": "kcal/mol"}}


def test_a_saved_split_is_found_from_here(tmp_path, monkeypatch):
    seen = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "eqff.training.run.train", lambda *positional, **named: seen.extend(named["overrides"]) or tmp_path
    )
    arguments = ["train", "elsewhere/frames.extxyz", "--split", "frames.split.json"]
    assert CliRunner().invoke(cli.build(), arguments).exit_code == 0
    assert overridden({}, seen) == {"data": {"split": str(tmp_path / "frames.split.json")}}


def test_dry_run_of_a_data_file_alone():
    small = [
        "model.n_layers=1",
        "model.n_channels=2",
        "model.l_max=1",
        "training.compile=false",
        "training.kernels=reference",
    ]
    arguments = ["train", str(SAMPLE), "--preset", "fast", "--energy-unit", "kcal/mol", "--dry-run"]
    result = CliRunner().invoke(cli.build(), [*arguments, *[part for key in small for part in ("--set", key)]])
    assert result.exit_code == 0, result.output
    assert "15 to train in 3 batches, 5 to validate" in result.output


def test_the_clock_of_a_time_limit_starts_with_the_process():
    code = "import time; time.sleep(0.3); from eqff.cli.train import seconds_so_far; print(seconds_so_far())"
    started = time.monotonic()
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert 0.29 < float(found.stdout) <= time.monotonic() - started + 0.05
