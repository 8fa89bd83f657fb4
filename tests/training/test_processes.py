"""Two processes compute what one does; float64, where sums in another order show at 1e-15."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eqff.training.folder import LAST

RECIPE = """
[data]
train = "{sample}"
energy_unit = "kcal/mol"
n_train = 15
n_validation = 5

[model]
family = "nequip"
r_max = 4.0
l_max = 1
n_layers = 2
n_channels = 4
radial_hidden = [8]

[training]
epochs = 3
batch_size = 4
warmup_steps = 2
dtype = "float64"
threads = 1
export_best = false
report = false
"""
SAMPLE = Path(__file__).parents[1] / "data" / "files" / "ethanol_gfn2_20frames.npz"


def trained(folder: Path, recipe: Path, *assignments: str) -> dict[str, torch.Tensor]:
    command = [sys.executable, "-m", "eqff", "train", str(recipe), "-o", str(folder)]
    for assignment in assignments:
        command += ["--set", assignment]
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder.parent, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder") == 1  # the first process speaks
    return torch.load(folder / LAST, weights_only=True)["state_dict"]


@pytest.mark.slow
@pytest.mark.parametrize("size", ["training.batch_size=4", "training.max_edges=1"])
def test_two_processes_train_as_one(tmp_path: Path, size: str) -> None:
    """Batches of 4, the last one of 2; and one frame in each process, which is a batch of 2 in one."""
    (tmp_path / "recipe.toml").write_text(RECIPE.format(sample=SAMPLE))
    alone = "training.batch_size=2" if "edges" in size else size
    n_train = "data.n_train=14"
    one = trained(tmp_path / "one", tmp_path / "recipe.toml", alone, n_train)
    two = trained(tmp_path / "two", tmp_path / "recipe.toml", size, n_train, "training.devices=2")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0.0, atol=1e-10, msg=name)
