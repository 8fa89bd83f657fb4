"""The learning-curve benchmarks at toy size: splits, resuming, measuring once, tables."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import eqff
from eqff.data.reading.read import read_frames
from eqff.data.splits import load_split
from eqff.rebuild import rebuild
from eqff.tasks.evaluate import evaluate

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "benchmarks"
ETHANOL = ROOT / "examples" / "data" / "ethanol_gfn2_500K_400frames.npz"
SMALL = "model.n_channels=2 model.n_layers=1 model.radial_hidden=[4] training.kernels=reference"
TOY = ["--steps", "2", *(word for setting in SMALL.split() for word in ("--set", setting))]


@pytest.fixture
def campaign(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import campaign

    return campaign


def test_splits_are_nested(campaign: ModuleType) -> None:
    splits = {count: campaign.nested_split(1000, count, 200, seed=3) for count in (50, 100, 200, 800)}
    labelled = {count: {*split.train.tolist(), *split.validation.tolist()} for count, split in splits.items()}
    assert labelled[50] < labelled[100] < labelled[200] < labelled[800]
    held_out = {tuple(split.test.tolist()) for split in splits.values()}
    assert len(held_out) == 1
    assert len(held_out.pop()) == 200
    assert [(len(s.train), len(s.validation)) for s in splits.values()] == [(45, 5), (95, 5), (190, 10), (760, 40)]
    whole = campaign.nested_split(1000, 1000, 0, seed=3)  # the papers' 950 + 50
    assert (len(whole.train), len(whole.validation), len(whole.test)) == (950, 50, 0)
    with pytest.raises(SystemExit, match="only 1000"):
        campaign.nested_split(1000, 900, 200, seed=0)


def test_equal_numbers_of_steps(campaign: ModuleType) -> None:
    arguments = campaign.parser("", steps=8000).parse_args(["-o", "out", "--set", "training.ema_decay=0.9"])
    for count in (50, 100, 400, 1000):
        split = campaign.nested_split(1000, count, 0, seed=0)
        told = campaign.recipe(ETHANOL, split, arguments, {"l_max": 0})
        steps = told["training"]["epochs"] * len(split.train) / told["training"]["batch_size"]
        assert 8000 <= steps < 8000 + len(split.train) / 5
        assert told["training"]["ema_decay"] == 0.9
        assert told["model"]["l_max"] == 0


def test_slope(campaign: ModuleType) -> None:
    counts = np.array([50.0, 100.0, 400.0])
    assert campaign.slope(counts, 7.0 * counts**-0.6) == pytest.approx(-0.6)
    assert np.isnan(campaign.slope([50], [1.0]))


def test_what_is_done_is_not_done_again(campaign: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run stopped before it wrote its configuration starts anew, later it is resumed, a finished one is kept."""
    commands: list[list[str]] = []
    code, begun = 143, False

    def waited(command: list[str], log: Any) -> tuple[int, float, float]:
        commands.append(command)
        run = Path(command[command.index("-o") + 1])
        run.mkdir(exist_ok=True)
        if begun:
            (run / "config.toml").touch()
        return code, 30.0, 200.0 + len(commands)

    monkeypatch.setattr(campaign, "waited", waited)
    arguments = campaign.parser("", steps=10).parse_args(["-o", str(tmp_path)])
    split, folder = campaign.nested_split(20, 10, 5, seed=0), tmp_path / "one"
    settings = campaign.recipe(ETHANOL, split, arguments, {"l_max": 1})
    with pytest.raises(SystemExit, match="goes on with it"):
        campaign.train(folder, settings, split)
    begun = True
    with pytest.raises(SystemExit, match="goes on with it"):
        campaign.train(folder, settings, split)
    code = 0
    campaign.train(folder, settings, split)
    campaign.train(folder, settings, split)
    assert ["--resume" in command for command in commands] == [False, False, True]
    assert campaign.cost(folder) == {"cpu_minutes": pytest.approx(1.5), "peak_memory_MB": 203.0}
    assert load_split(folder / "split.json") == split
    with pytest.raises(SystemExit, match="other settings"):
        campaign.train(folder, settings | {"init_from": "ethanol-nequip"}, split)


def test_errors_are_those_of_evaluate(campaign: ModuleType) -> None:
    frames = read_frames(ETHANOL, energy_unit="kcal/mol")[:7]
    config = eqff.artifact.inspect("ethanol-nequip")["config"]
    found = campaign.compare(rebuild("ethanol-nequip"), config, frames)
    expected = evaluate(eqff.load("ethanol-nequip"), frames).metrics
    assert found.pop("n_frames") == 7
    assert len(found) == 5
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-5), name


@pytest.mark.slow
def test_fine_tuning(tmp_path: Path) -> None:
    command = ["fine_tuning.py", str(ETHANOL), "--energy-unit", "kcal/mol", "--init-from", "ethanol-nequip"]
    command += ["-o", str(tmp_path), "--counts", "10", "--held-out", "3", "--steps", "1"]
    first = run(*command)
    rows = table(tmp_path)
    assert [row["series"] for row in rows] == ["as it is", "scratch", "fine-tuned"]
    assert (tmp_path / "fine_tuning.png").stat().st_size > 10_000
    error = {row["series"]: float(row["forces_mae_meV_A"]) for row in rows}
    assert error["fine-tuned"] < error["scratch"]
    assert float(rows[2]["cpu_minutes"]) > 0.0
    assert float(rows[2]["peak_memory_MB"]) > 100.0
    assert first.count("started") == 2
    assert "started" not in run(*command)


@pytest.mark.slow
def test_data_efficiency(tmp_path: Path) -> None:
    command = ["data_efficiency.py", str(ETHANOL), "--test", str(ETHANOL), "--energy-unit", "kcal/mol"]
    run(*command, "-o", str(tmp_path), "--counts", "10", "15", *TOY)
    assert [(row["series"], row["labelled_frames"]) for row in table(tmp_path)] == [
        ("l_max 0", "10"),
        ("l_max 2", "10"),
        ("l_max 0", "15"),
        ("l_max 2", "15"),
    ]
    assert (tmp_path / "data_efficiency.png").stat().st_size > 10_000


@pytest.mark.slow
def test_extrapolation(tmp_path: Path) -> None:
    """Frames that are in both files are not tested on."""
    atoms = []
    for frame in read_frames(ETHANOL, energy_unit="kcal/mol")[:20]:
        atoms.append(Atoms(frame.atomic_numbers, frame.positions))
        atoms[-1].calc = SinglePointCalculator(atoms[-1], energy=frame.energy, forces=frame.forces)
    write(tmp_path / "train.xyz", atoms[:12], format="extxyz")
    write(tmp_path / "mixed.xyz", [*atoms[10:12], *atoms[12:19]], format="extxyz")
    files = [str(tmp_path / "train.xyz"), str(tmp_path / "mixed.xyz")]
    run("extrapolation_3bpa.py", *files, "-o", str(tmp_path), "--labelled", "12", *TOY)
    own = [row for row in table(tmp_path) if row["model"] == "eqff"]
    assert [(row["temperature_K"], row["n_frames"]) for row in own] == [("300", "1"), ("600", "3"), ("1200", "3")]
    assert (tmp_path / "3bpa.png").stat().st_size > 10_000


def run(script: str, *arguments: str) -> str:
    """What a script prints; it has to succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(FOLDER / script), *arguments]
    child = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    return child.stdout


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
