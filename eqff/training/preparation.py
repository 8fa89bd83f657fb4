"""What a configuration means: frames read and divided, a model made for them."""

import dataclasses
import fnmatch
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from eqff import config as config_io
from eqff import registry
from eqff.data.frame import Frame
from eqff.data.loader import FrameDataset
from eqff.data.options import ReadOptions
from eqff.data.read import Stream
from eqff.data.splits import Split, load_split, random_split
from eqff.data.statistics import Statistics, statistics
from eqff.data.store import Store
from eqff.elements import SYMBOLS
from eqff.errors import ConfigError, ResourceError
from eqff.nn.fused import fuse, share_radial
from eqff.training.config import RunConfig, TrainingConfig, check
from eqff.training.start import Start, initialise, read_start, starting_numbers

logger = logging.getLogger("eqff.training")


class Prepared(NamedTuple):
    """Everything a run works with; nothing has been written yet."""

    source: Stream
    frames: Sequence[Frame] | Store  # a store is read as needed: it may be larger than memory
    split: Split
    numbers: Statistics  # of the training frames
    model_config: Any  # of the family
    model: nn.Module
    dataset: FrameDataset


def prepare(config: RunConfig) -> Prepared:
    """Frames and model of a run.

    Raises: ConfigError, DataError as they come
    """
    options = ReadOptions(
        energy_unit=config.data.energy_unit,
        length_unit=config.data.length_unit,
        energy_key=config.data.energy_key,
        forces_key=config.data.forces_key,
        stress_key=config.data.stress_key,
    )
    training = config.training
    source = Stream(config.data.train, options)
    frames: Sequence[Frame] | Store = Store(source.path) if source.format == "hdf5" else list(source)
    split = _split(config, len(frames))
    start = None if config.init_from is None else read_start(config.init_from)
    model_config, numbers = _model_config(config, frames, split, start)
    model = registry.load("models", config.model["family"]).Model(model_config)
    model.to(getattr(torch, training.dtype))
    if start is not None:
        taken = initialise(model, config.model["family"], model_config, start)
        logger.info("init_from %s: %s", start.path, taken.report())
    freeze(model, training.freeze)
    use_kernels(model, training)
    r_edges = _complete_radius(frames, model_config.r_max) if training.compile else None
    require = ("energy", "forces", "stress") if training.loss.stress > 0.0 else ("energy", "forces")
    dataset = FrameDataset(frames, model_config.species, model_config.r_max, r_edges, require)
    return Prepared(source, frames, split, numbers, model_config, model, dataset)


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Keep the weights whose names match a pattern (`embedding`, `layers.0.*`) as they are.

    Raises: ConfigError for a pattern that matches nothing, and if nothing is left to train
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        found = fnmatch.filter(names, pattern) + fnmatch.filter(names, f"{pattern}.*")
        if not found:
            raise ConfigError("EQ1402", f"training.freeze={pattern!r}: no such weights; they are {', '.join(names)}")
        for name in found:
            model.get_parameter(name).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("EQ1403", f"training.freeze={list(patterns)}: leaves nothing to train")


def read_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """A RunConfig from TOML; file names in it are relative to its folder.

    Raises: ConfigError naming the key
    """
    mapping = config_io.overridden(config_io.read_toml(path), overrides)
    config = config_io.from_mapping(RunConfig, mapping, where=path.name)
    folder = path.resolve().parent
    data = dataclasses.replace(
        config.data,
        train=str(folder / config.data.train),
        split=None if config.data.split is None else str(folder / config.data.split),
    )
    config = dataclasses.replace(config, data=data)
    if config.init_from is not None and (folder / config.init_from).exists():  # else the name of a potential
        config = dataclasses.replace(config, init_from=str(folder / config.init_from))
    check(config)
    return config


def use_kernels(model: nn.Module, training: TrainingConfig) -> None:
    """Put convolutions on kernels compiled for this CPU, where that is wanted and works."""
    if training.kernels == "reference":
        return
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if training.accelerator == "cuda" or (training.accelerator == "auto" and gpu):
        return
    logger.info("compiling kernels, if this is the first time")
    try:
        fuse(model)
        if not training.compile:  # how many edges are pairs is known at run time only
            share_radial(model)
    except ResourceError as error:
        logger.warning("convolutions run on ATen, about half as fast: %s", error)


def _split(config: RunConfig, n_frames: int) -> Split:
    if config.data.split is not None:
        split = load_split(config.data.split)
        if split.n_frames != n_frames:
            raise ConfigError("EQ1069", f"data.split is of {split.n_frames} frames, the file has {n_frames}")
        return split
    return random_split(n_frames, config.data.n_train, config.data.n_validation, seed=config.data.split_seed)


def _model_config(
    config: RunConfig, frames: Sequence[Frame] | Store, split: Split, start: Start | None
) -> tuple[Any, Statistics]:
    """The family's Config: what the user wrote; then what the weights to start from need; then what the training
    frames say."""
    family = registry.load("models", config.model["family"])
    mapping = {key: value for key, value in config.model.items() if key != "family"}
    present = (
        frames.species if isinstance(frames, Store) else sorted({int(z) for f in frames for z in f.atomic_numbers})
    )
    mapping.setdefault("species", [SYMBOLS[z] for z in present])
    partial = config_io.from_mapping(family.Config, mapping, where="model")
    train_frames = (frames[int(index)] for index in np.sort(split.train))
    numbers = statistics(train_frames, partial.species, partial.r_max)
    if numbers.force_rms is None:
        raise ConfigError("EQ1070", f"{config.data.train}: the training frames have no forces")
    measured = {
        "avg_num_neighbors": numbers.avg_num_neighbors,
        "energy_scale": numbers.force_rms,
        "reference_energies": list(numbers.reference_energies),
        "seed": config.training.seed,
    }
    measured |= {} if start is None else starting_numbers(start, partial.species)
    known = {field.name for field in dataclasses.fields(family.Config)}
    mapping = {name: value for name, value in measured.items() if name in known} | mapping
    return config_io.from_mapping(family.Config, mapping, where="model"), numbers


def _complete_radius(frames: Sequence[Frame] | Store, r_max: float) -> float:
    """A cut-off that makes every molecule a complete graph, so that all frames of one molecule have equal shapes."""
    if any(frame.pbc.any() for frame in frames):
        return r_max
    return max(
        r_max, max(2.0 * float(np.linalg.norm(f.positions - f.positions.mean(0), axis=1).max()) for f in frames) + 0.1
    )
