"""The benchmark of recipes: a variation is trained as told, once, and its row is what the run says."""

from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from eqff.config import from_mapping, overridden, read_toml
from eqff.errors import ConfigError
from eqff.training.config import RunConfig
from eqff.training.folder.metrics_file import read_metrics

FOLDER = Path(__file__).parents[1] / "examples" / "benchmarks"


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import recipes

    return recipes


def test_a_variation_is_trained_once_and_its_row_is_what_the_run_says(
    recipes: ModuleType, tmp_path: Path, smallest_recipe: str
) -> None:
    (tmp_path / "recipe.toml").write_text(smallest_recipe)
    sets = ["model.n_channels=2", "training.kernels=reference"]
    row = recipes.run_one("narrow", tmp_path / "recipe.toml", sets, tmp_path, 0.0, 2)
    rows = read_metrics(tmp_path / "narrow" / "metrics.csv")
    assert (row["steps"], len(rows)) == (8, 2)  # 16 frames in batches of 5
    assert row["forces_mae_meV_A"] == rows[-1]["forces_mae_meV_A"]
    assert read_toml(tmp_path / "narrow" / "config.toml")["model"]["n_channels"] == 2
    again = recipes.run_one("narrow", tmp_path / "nowhere.toml", [], tmp_path, 0.0, 2)
    assert again == row
    assert f"| narrow | `model.n_channels=2` | {row['parameters']} | 8 |" in recipes.line(row, sets[:1])


def test_epochs_fill_the_minutes(recipes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "read_config", lambda source, overrides: None)
    monkeypatch.setattr(recipes, "estimate", lambda config: SimpleNamespace(n_batches=190, step_cpu_s=0.02))
    assert recipes.epochs_that_fit(Path("recipe.toml"), [], 6.0) == 95  # 360 s / 3.8 s
    assert recipes.epochs_that_fit(Path("recipe.toml"), [], 0.01) == 1


def test_what_is_refused_becomes_a_row(recipes: ModuleType) -> None:
    row = {"variation": "odd", "failed": str(ConfigError("EQ1060", "training.epochs=0: expected > 0"))}
    assert recipes.line(row, []).count("|") == recipes.HEAD.splitlines()[0].count("|")


@pytest.mark.parametrize("name", read_toml(FOLDER / "recipes.toml"))
def test_the_variations_have_keys_that_exist(name: str) -> None:
    mapping = overridden({"data": {"train": "x"}, "model": {}}, read_toml(FOLDER / "recipes.toml")[name])
    from_mapping(RunConfig, mapping)
