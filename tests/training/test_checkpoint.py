"""From a run to a potential file."""

import json
from pathlib import Path

import pytest

import eqff
from eqff.artifact import inspect
from eqff.errors import ConfigError, DataError
from eqff.training.checkpoint import export_run, load_run
from eqff.training.run import train

RECIPE = """
[data]
train = "{sample}"
energy_unit = "kcal/mol"
n_train = 16
n_validation = 4
level_of_theory = "GFN2-xTB"
[model]
family = "nequip"
l_max = 1
n_layers = 1
n_channels = 4
[training]
epochs = 1
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    sample = Path(__file__).parents[1] / "data" / "files" / "ethanol_gfn2_20frames.npz"
    (folder / "recipe.toml").write_text(RECIPE.format(sample=sample))
    return train(folder / "recipe.toml", folder / "run")


def test_exported_run_predicts_what_the_run_reported(run: Path, tmp_path: Path) -> None:
    card, metrics = tmp_path / "card.md", tmp_path / "metrics.json"
    card.write_text("# card")
    metrics.write_text(json.dumps({"test": {"forces_mae_meV_A": 1.0}}))
    path = tmp_path / "small.eqff.pt"
    export_run(run, path, card=card, metrics=metrics, licence="MIT")
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
    assert not (tmp_path / "x.eqff.pt").exists()
