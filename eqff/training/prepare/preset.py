"""Presets: tested settings of model and training, a TOML file for each family and name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eqff.config import read_toml
from eqff.errors import ConfigError

FOLDER = Path(__file__).parent / "presets"  # <family>-<name>.toml, with [model] and [training]
FAMILY = "nequip"  # where the user gives none
NAME = "fast"  # for a data file without a recipe
FINETUNE = "finetune"  # for a data file and initial weights; of any family, finetune.toml has no [model]


def preset_names() -> list[str]:
    """Family and name of every preset that says what the model is, e.g. "nequip-fast"."""
    return sorted(path.stem for path in FOLDER.glob("*-*.toml"))


def read_preset(family: str, name: str) -> dict[str, Any]:
    """[model] and [training] of a preset; of finetune, [model] holds the family alone.

    Raises: ConfigError EQ1430 naming the presets that exist
    """
    if name == FINETUNE:
        return {"model": {"family": family}, **read_toml(FOLDER / f"{FINETUNE}.toml")}
    known = preset_names()
    if f"{family}-{name}" not in known:
        of_family = [preset.removeprefix(f"{family}-") for preset in known if preset.startswith(f"{family}-")]
        choice = f"{family} has {', '.join(of_family)}" if of_family else f"{family} has none"
        raise ConfigError(
            "EQ1430",
            f"preset={name!r}: {choice}; choose one of {', '.join(known)} (family-preset), "
            "or write [training] in a recipe without preset",
        )
    preset = read_toml(FOLDER / f"{family}-{name}.toml")
    preset["model"]["family"] = family
    return preset


def with_preset(mapping: Mapping[str, Any], model_of_start: dict[str, Any] | None = None) -> dict[str, Any]:
    """A recipe's nested mapping, completed with the keys of its preset.

    Args:   model_of_start: family and hyper-parameters of the initial weights, instead of the preset's
    Raises: ConfigError for a preset that does not exist
    """
    name, model = mapping.get("preset"), mapping.get("model", {})
    if not isinstance(name, str) or not isinstance(model, Mapping):
        return dict(mapping)  # no preset, or an error that from_mapping will report
    family = model.get("family", FAMILY if model_of_start is None else model_of_start["family"])
    preset = read_preset(str(family), name)
    if name == FINETUNE and model_of_start is None:
        raise ConfigError(
            "EQ1218",
            "preset='finetune': initial weights are missing; give a potential or run folder with --init-from",
        )
    if model_of_start is not None:
        preset["model"] = model_of_start
    training = mapping.get("training", {})
    if isinstance(training, Mapping) and "epochs" in training:
        preset["training"]["steps"] = 0  # epochs that the user wrote go before steps of the preset
    return merged(preset, mapping)


def merged(mapping: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings, table by table; `over` takes precedence."""
    result = {**mapping, **over}
    for key in mapping.keys() & over.keys():
        if isinstance(mapping[key], Mapping) and isinstance(over[key], Mapping):
            result[key] = merged(mapping[key], over[key])
    return result
