"""Presets: each makes a model; who overrides whom; a data file alone is enough."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import SAMPLE

import eqff
from eqff import registry
from eqff.config import from_mapping
from eqff.errors import ConfigError
from eqff.training.prepare import initial_weights
from eqff.training.prepare.preparation import prepare
from eqff.training.prepare.preset import merged, preset_names, read_preset
from eqff.training.prepare.recipe import read_config
from eqff.training.run import train

UNIT = "data.energy_unit=kcal/mol"
SMALL = ["model.l_max=1", "model.n_layers=1", "model.n_channels=2", "model.radial_hidden=[4]"]
QUICK = ["training.compile=false", "training.kernels=reference", "training.export_best=false", "training.report=false"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(f'preset = "accurate"\n[data]\ntrain = "{SAMPLE}"\n[training]\nlearning_rate = 0.5\n')
    return path


def test_every_family_has_a_fast_preset() -> None:
    assert {f"{family}-fast" for family in registry.names("models")} <= set(preset_names())


@pytest.mark.parametrize("preset", preset_names())
def test_each_preset_makes_a_model_and_nothing_is_of_one_data_set(preset: str) -> None:
    family, name = preset.rsplit("-", 1)
    assert set(read_preset(family, name)) == {"model", "training"}
    config = read_config(SAMPLE, [f"preset={name}", f"model.family={family}"])
    assert (config.training.compile, config.model["family"]) == ("auto", family)
    module = registry.load("models", family)
    model = {key: value for key, value in config.model.items() if key != "family"}
    assert not {"species", "reference_energies", "avg_num_neighbors", "seed"} & set(model)
    model["species"] = ["H", "C"]
    assert sum(p.numel() for p in module.Model(from_mapping(module.Config, model)).parameters()) > 1000


def test_the_file_overrides_the_preset_and_set_overrides_both(recipe: Path) -> None:
    preset = read_preset("nequip", "accurate")["training"]
    config = read_config(recipe, ["training.batch_size=7"])
    assert (config.training.learning_rate, config.training.batch_size) == (0.5, 7)
    assert config.training.loss.huber_delta == preset["loss"]["huber_delta"]
    assert config.training.steps == preset["steps"]
    assert read_config(recipe, ["preset=fast"]).preset == "fast"
    assert read_config(recipe, ["training.loss.forces=3"]).training.loss.kind == preset["loss"]["kind"]


def test_epochs_that_were_written_replace_the_steps_of_a_preset(recipe: Path) -> None:
    assert (config := read_config(recipe, ["training.epochs=7"]).training).steps == 0
    assert config.epochs == 7
    assert read_config(recipe, ["training.epochs=7", "training.steps=9"]).training.steps == 9


@pytest.mark.parametrize("family", ["nequip", "tfn"])
def test_an_unknown_preset_lists_those_there_are(recipe: Path, family: str) -> None:
    with pytest.raises(ConfigError, match=rf"EQ1430.*'quick': {family} has .*fast.*escn-accurate"):
        read_config(recipe, ["preset=quick", f"model.family={family}"])
    with pytest.raises(ConfigError, match=r"'fast': mine has none; choose one of .*nequip-fast"):
        read_config(recipe, ["preset=fast", "model.family=mine"])
    with pytest.raises(ConfigError, match=r"EQ1010.*preset"):
        read_config(recipe, ["preset=1", "model.family=nequip"])


def test_a_data_file_alone(tmp_path: Path) -> None:
    config = read_config(SAMPLE)
    assert (config.preset, config.model["family"], config.data.train) == ("fast", "nequip", str(SAMPLE))
    assert read_config(SAMPLE, ["preset=accurate"]).preset == "accurate"
    with pytest.raises(ConfigError, match=r"EQ1432.*no such file"):
        read_config(tmp_path / "frames.h5")
    (tmp_path / "store.deepmd").mkdir()  # folders can be data sets, too
    assert read_config(tmp_path / "store.deepmd").data.train.endswith("store.deepmd")


def test_part_of_a_data_file_trains_and_what_train_returns_is_exported(tmp_path: Path) -> None:
    small = ["model.l_max=0", "model.n_layers=1", "model.n_channels=4", "training.epochs=1", "training.report=false"]
    given = ["data.energy_unit=kcal/mol", "data.n_validation=2", "training.export_best=false"]
    run = train(f"{SAMPLE}@:7", tmp_path / "run", overrides=small + given)
    plan = json.loads((run.folder / "plan.json").read_text(encoding="utf-8"))
    assert plan["decided"]["data.n_train"] + plan["decided"]["data.n_validation"] == 7
    assert eqff.export(run, tmp_path / "tiny.eqff.pt")["family"] == "nequip"
    with pytest.raises(ConfigError, match="EQ1432"):
        read_config(tmp_path / "absent.npz@:7")


def test_config_and_plan_of_a_run_are_enough_to_resume_or_repeat_it(tmp_path: Path) -> None:
    overrides = [UNIT, "preset=fast", "training.steps=7", *SMALL, *QUICK]
    folder = train(SAMPLE, tmp_path / "run", overrides=overrides).folder
    written = read_config(SAMPLE, overrides)
    config = read_config(folder / "config.toml")
    assert config == written
    assert (config.data.n_train, config.training.steps) == (None, 7)
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["decided"] == prepare(config).plan.decided()
    assert plan["decided"] == {
        "data.n_train": 15,
        "data.n_validation": 5,
        "training.epochs": 2,
        "training.validate_every": 1,
        "training.checkpoint_every": 1,
        "training.compile": False,
        "training.loss.stress": 0.0,
    }
    assert "15 frames train in 2 epochs, 5 validate" in plan["sentences"]
    train(SAMPLE, folder, resume=True, overrides=overrides)
    train(folder / "config.toml", folder, resume=True)
    train(SAMPLE, folder, resume=True, overrides=[*overrides, "data.n_validation=5"])  # as was decided
    with pytest.raises(ConfigError, match=r"EQ1067.*data.n_validation: 5 -> 4"):
        train(SAMPLE, folder, resume=True, overrides=[*overrides, "data.n_validation=4"])


def test_initial_weights_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eqff.exporter.prove_in_fresh_process", lambda path: None)
    overrides = [UNIT, "training.epochs=1", *SMALL, *QUICK]
    first = train(SAMPLE, tmp_path / "first", overrides=[*overrides, "training.export_best=true"])
    rebuilt: list[Any] = []
    original = initial_weights.rebuild
    monkeypatch.setattr(initial_weights, "rebuild", lambda path: rebuilt.append(path) or original(path))
    start = [UNIT, "training.epochs=1", *QUICK, f"init_from='{first.potential}'"]
    train(SAMPLE, tmp_path / "second", overrides=start)
    assert rebuilt == [str(first.potential)]


def test_weights_to_start_from_say_what_the_model_is(tmp_path: Path) -> None:
    first = train(SAMPLE, tmp_path / "first", overrides=[UNIT, "training.epochs=1", *SMALL, *QUICK]).folder
    start = f"init_from='{first}'"
    config = read_config(SAMPLE, [start])
    assert (config.model["n_channels"], config.model["l_max"], config.model["n_layers"]) == (2, 1, 1)
    assert not {"species", "energy_scale"} & set(config.model)
    assert (config.preset, config.training.steps) == ("finetune", read_preset("tfn", "finetune")["training"]["steps"])
    assert read_config(SAMPLE, [start, "model.n_layers=2"]).model["n_layers"] == 2
    fast = read_config(SAMPLE, [start, "preset=fast"])
    assert fast.training.steps == read_preset("nequip", "fast")["training"]["steps"]
    with pytest.raises(ConfigError, match=r"EQ1218.*--init-from"):
        read_config(SAMPLE, ["preset=finetune"])


def flat(mapping: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in mapping.items():
        inner = flat(value) if isinstance(value, dict) else {(): value}
        found |= {(key, *path): leaf for path, leaf in inner.items()}
    return found


tables = st.fixed_dictionaries(
    {"x": st.integers()}, optional={"t": st.dictionaries(st.sampled_from("abc"), st.integers())}
)


@given(tables, tables)
def test_merged_has_the_leaves_of_both(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert flat(merged(one, other)) == {**flat(one), **flat(other)}
