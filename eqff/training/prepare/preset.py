"""Presets: settings of model and training that are known to work, a TOML file for each family and name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eqff.config import read_toml
from eqff.errors import ConfigError

FOLDER = Path(__file__).parent / "presets"  # <family>-<name>.toml, with [model] and [training]
FAMILY = "nequip"  # where none is given
NAME = "fast"  # of a data file alone


def preset_names() -> list[str]:
    """Family and name of every preset, e.g. "nequip-fast"."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_preset(family: str, name: str) -> dict[str, Any]:
    """[model] and [training] of a preset.  Raises: ConfigError naming those there are"""
    known = preset_names()
    if f"{family}-{name}" not in known:
        own = [each.removeprefix(f"{family}-") for each in known if each.startswith(f"{family}-")]
        there = f"{family} has {', '.join(own)}" if own else f"{family} has none"
        raise ConfigError("EQ1430", f"preset={name!r}: {there}; all (family-preset): {', '.join(known)}")
    found = read_toml(FOLDER / f"{family}-{name}.toml")
    found["model"]["family"] = family
    return found


def with_preset(mapping: Mapping[str, Any], model_of_start: dict[str, Any] | None = None) -> dict[str, Any]:
    """A run's nested mapping with the keys of its preset where it gives none of its own.

    Args:   model_of_start: family and hyper-parameters of weights to start from, instead of the preset's
    Raises: ConfigError for a preset that does not exist
    """
    name, model = mapping.get("preset"), mapping.get("model", {})
    if not isinstance(name, str) or not isinstance(model, Mapping):
        return dict(mapping)  # there is no preset, or from_mapping will say what is wrong
    family = model.get("family", FAMILY if model_of_start is None else model_of_start["family"])
    preset = read_preset(str(family), name)
    if model_of_start is not None:
        preset["model"] = model_of_start
    own = mapping.get("training", {})
    if isinstance(own, Mapping) and "epochs" in own:
        preset["training"]["steps"] = 0  # of the two, what was written decides
    return merged(preset, mapping)


def merged(mapping: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings, table by table; where they differ, `over`."""
    result = {**mapping, **over}
    for key in mapping.keys() & over.keys():
        if isinstance(mapping[key], Mapping) and isinstance(over[key], Mapping):
            result[key] = merged(mapping[key], over[key])
    return result
