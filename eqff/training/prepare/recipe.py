"""A RunConfig from a recipe (TOML) or from a data file alone."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eqff import config as config_io
from eqff.data.reading.index import split_index
from eqff.errors import ConfigError
from eqff.training.config import RunConfig, check
from eqff.training.prepare.initial_weights import architecture
from eqff.training.prepare.preset import FINETUNE, NAME, with_preset

# numbers of a data set, which are measured again for another one
MEASURED = ("species", "avg_num_neighbors", "energy_scale", "reference_energies", "seed")


def read_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """A RunConfig from a TOML file or for a data file; file names in a TOML file are relative to its folder.

    Overrides take precedence over the file, and the file over its preset.  With `init_from`, the model is that of the
    initial weights instead of the preset's.

    Args:   overrides: e.g. "training.epochs=10"
    Raises: ConfigError naming the key
    """
    of_data = path.suffix.lower() != ".toml"
    mapping = config_io.overridden(_recipe_of_data(path) if of_data else config_io.read_toml(path), overrides)
    if of_data and "preset" not in mapping:
        mapping["preset"] = FINETUNE if mapping.get("init_from") is not None else NAME
    folder = path.resolve().parent
    mapping = with_preset(mapping, _model_of_initial_weights(mapping, folder))
    with config_io.blaming(overrides, path.name):
        config = config_io.from_mapping(RunConfig, mapping, where=path.name)
    config = _with_absolute_paths(config, folder)
    check(config)
    return config


def _recipe_of_data(path: Path) -> dict[str, Any]:
    """The recipe for FILE or FILE@INDEX alone.  Raises: ConfigError if the file does not exist"""
    if not split_index(path)[0].exists():
        raise ConfigError("EQ1432", f"{path}: no such file; give a recipe (.toml) or a file of labelled frames")
    return {"data": {"train": path.name}}


def _model_of_initial_weights(mapping: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
    """Family and hyper-parameters of the initial weights, where a preset would otherwise choose them."""
    if not isinstance(mapping.get("init_from"), str) or not isinstance(mapping.get("preset"), str):
        return None
    family, config = architecture(_absolute_if_file(mapping["init_from"], folder))
    if not family or not config:
        return None
    return {"family": family} | {key: value for key, value in config.items() if key not in MEASURED}


def _with_absolute_paths(config: RunConfig, folder: Path) -> RunConfig:
    data = config.data
    data = dataclasses.replace(
        data,
        train=str(folder / data.train),
        split=None if data.split is None else str(folder / data.split),
        foreign=None if data.foreign is None else str(folder / data.foreign),
        baseline=None if data.baseline is None else _absolute_if_file(data.baseline, folder),
    )
    init_from = None if config.init_from is None else _absolute_if_file(config.init_from, folder)
    return dataclasses.replace(config, data=data, init_from=init_from)


def _absolute_if_file(name: str, folder: Path) -> str:
    """The path of a file or folder relative to the recipe's folder; the name of a potential or calculator stays."""
    return str(folder / name) if (folder / name).exists() else name
