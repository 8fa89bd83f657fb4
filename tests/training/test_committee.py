"""Members differ by their seed, share the split, and a committee that was stopped goes on."""

import json
from pathlib import Path

import pytest
import torch

from eqff.errors import ConfigError
from eqff.training.committee import train_members
from eqff.training.fit.stopped import Stopped
from eqff.training.folder.run_file import LAST


def test_members(tmp_path: Path, smallest_recipe: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(smallest_recipe + "export_best = false\n")
    with pytest.raises(Stopped):
        train_members(recipe, tmp_path / "run", 2, time_limit=1e-3)
    runs = train_members(recipe, tmp_path / "run", 2, resume=True)
    weights = [torch.load(run.folder / LAST, weights_only=True)["state_dict"]["model.embedding"] for run in runs]
    assert not torch.equal(*weights)
    one, other = (json.loads((run.folder / "split.json").read_text()) for run in runs)
    assert one == other
    with pytest.raises(ConfigError, match="EQ1404"):
        train_members(recipe, tmp_path / "other", 1)
