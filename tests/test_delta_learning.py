"""The delta-learning benchmark at toy size."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "benchmarks" / "delta_learning.py"
ETHANOL = ROOT / "tests" / "data" / "files" / "ethanol_gfn2_20frames.npz"
SMALL = "model.n_channels=2 model.n_layers=1 model.radial_hidden=[4] training.kernels=reference"


@pytest.mark.slow
def test_delta_learning(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(ETHANOL), "--energy-unit", "kcal/mol", "--baseline", "emt"]
    command += ["-o", str(tmp_path), "--counts", "12", "--held-out", "4", "--steps", "2"]
    command += [word for setting in SMALL.split() for word in ("--set", setting)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = {row["series"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["baseline alone", "scratch", "delta"]
    assert float(rows["baseline alone"]["forces_mae_meV_A"]) > 100.0  # EMT knows nothing of molecules
    assert all(float(rows[name]["forces_mae_meV_A"]) > 0.0 for name in ("scratch", "delta"))
    assert (tmp_path / "delta_learning.png").stat().st_size > 10_000
