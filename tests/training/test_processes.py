"""Two processes compute what one does; float64, where sums in another order show at 1e-15."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toys import SAMPLE

from eqff.training.folder.run_file import LAST

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


def trained(folder: Path, recipe: Path, *assignments: str, resume: bool = False) -> dict[str, torch.Tensor]:
    command = [sys.executable, "-m", "eqff", "train", str(recipe), "-o", str(folder), *(["--resume"] if resume else [])]
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


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others_with_an_error_and_the_run_goes_on(tmp_path: Path) -> None:
    recipe, folder = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text(RECIPE.format(sample=SAMPLE))
    long = ["training.devices=2", "training.epochs=100000", "training.checkpoint_minutes=0.001"]
    command = [sys.executable, "-m", "eqff", "train", str(recipe), "-o", str(folder)]
    command += [part for assignment in long for part in ("--set", assignment)]
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as first:
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children")
        if not children.is_file():
            first.kill()
            pytest.skip("needs Linux, where a process knows its children")
        while first.poll() is None and not (folder / "metrics.csv").is_file():
            time.sleep(0.1)
        (other,) = children.read_text().split()
        os.kill(int(other), signal.SIGKILL)
        _, said = first.communicate(timeout=600)
    assert first.returncode == 5
    assert "ResourceError EQ6133" in said
    step = torch.load(folder / LAST, weights_only=True)["global_step"]
    assert step > 0
    done = int(torch.load(folder / LAST, weights_only=True)["progress"][0])
    trained(folder, recipe, "training.devices=2", f"training.epochs={done + 2}", resume=True)
    assert torch.load(folder / LAST, weights_only=True)["global_step"] > step
