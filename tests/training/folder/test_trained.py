"""From a run to a potential file."""

import json
from pathlib import Path

import pytest

import eqff
from eqff.artifact import inspect, read
from eqff.artifact.vectors import unpack
from eqff.errors import ConfigError, DataError
from eqff.training.folder.trained import export_run, load_run
from eqff.training.run import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, smallest_recipe: str) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "recipe.toml").write_text(smallest_recipe)
    return train(folder / "recipe.toml", folder / "run").folder


def test_exported_run_predicts_what_the_run_reported(run: Path, tmp_path: Path) -> None:
    card, metrics = tmp_path / "card.md", tmp_path / "metrics.json"
    card.write_text("# card")
    metrics.write_text(json.dumps({"test": {"forces_mae_meV_A": 1.0}}))
    path = tmp_path / "small.eqff.pt"
    frame = tmp_path / "frame.xyz"
    frame.write_text("3\n\nO 0 0 0\nH 0.9 0.1 0\nH -0.3 0.9 0\n")
    export_run(run, path, card=card, metrics=metrics, structure=frame, licence="MIT")
    assert len(unpack(read(path))) == 4  # three synthetic structures and this one
    header = inspect(path)
    assert header["metrics"]["validation"]["forces_mae_meV_A"] == load_run(run).validation["forces_mae_meV_A"]
    assert header["metrics"]["test"] == {"forces_mae_meV_A": 1.0}
    assert (header["licence"], header["level_of_theory"]) == ("MIT", "GFN2-xTB")
    assert header["training_data"]["n_train"] == 16
    assert eqff.load(path).species == ("H", "C", "O")


def test_errors(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="EQ1071"):
        load_run(tmp_path)
    broken = tmp_path / "metrics.json"
    broken.write_text("[")
    with pytest.raises(DataError, match="EQ3090"):
        export_run(run, tmp_path / "x.eqff.pt", metrics=broken)
    with pytest.raises(DataError, match="EQ3092"):
        export_run(run, tmp_path / "x.eqff.pt", card=tmp_path / "missing.md")
    assert not (tmp_path / "x.eqff.pt").exists()
