"""What a configuration means: frames read and divided, a model made for them."""

import dataclasses
import fnmatch
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.spatial.distance import pdist
from torch import nn

from eqff import config as config_io
from eqff import registry
from eqff.data.frame import Frame
from eqff.data.loader import FrameDataset
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Stream
from eqff.data.splits import Split, load_split, random_split
from eqff.data.statistics import Statistics, statistics
from eqff.data.store.store import Store
from eqff.elements import SYMBOLS
from eqff.errors import ConfigError, ResourceError
from eqff.nn.fast.fused import fuse, share_radial
from eqff.training.config import RunConfig, TrainingConfig, check, check_compile
from eqff.training.prepare.baseline import UsedBaseline, differences
from eqff.training.prepare.decisions import uses_gpu, why_eager, with_counts, with_schedule, with_split
from eqff.training.prepare.initial_weights import Start, initialise, read_start, starting_numbers
from eqff.training.prepare.preset import NAME, with_preset

logger = logging.getLogger("eqff.training")
FEW = 50  # frames, below which training warns
MEASURED = ("species", "avg_num_neighbors", "energy_scale", "reference_energies", "seed")  # not of the architecture


class Prepared(NamedTuple):
    """Everything a run works with; nothing has been written yet."""

    source: Stream
    frames: Sequence[Frame] | Store  # a store is read as needed: it may be larger than memory
    split: Split
    numbers: Statistics  # of the training frames
    model_config: Any  # of the family
    model: nn.Module
    dataset: FrameDataset
    config: RunConfig  # with what the data decide: numbers of frames, epochs, whether the step is compiled
    baseline: UsedBaseline | None = None


def prepare(config: RunConfig, folder: Path | None = None) -> Prepared:
    """Frames and model of a run.

    Args:   folder: of the run, where the results of a baseline are remembered; None: nowhere
    Raises: ConfigError, DataError as they come
    """
    options = ReadOptions(
        energy_unit=config.data.energy_unit,
        length_unit=config.data.length_unit,
        energy_key=config.data.energy_key,
        forces_key=config.data.forces_key,
        stress_key=config.data.stress_key,
    )
    source = Stream(config.data.train, options)
    frames: Sequence[Frame] | Store = Store(source.path) if source.is_store else list(source)
    config, split = _split(config, len(frames))
    baseline: UsedBaseline | None = None
    if config.data.baseline is not None:
        stress = config.training.loss.stress > 0.0
        frames, baseline = differences(frames, split, config.data.baseline, stress, folder, config.data.train)
    start = None if config.init_from is None else read_start(config.init_from)
    model_config, numbers = _model_config(config, frames, split, start)
    model = registry.load("models", config.model["family"]).Model(model_config)
    config = _decide_compile(config, frames, split, model_config, numbers)
    training = config.training
    model.to(getattr(torch, training.dtype))
    if start is not None:
        taken = initialise(model, config.model["family"], model_config, start)
        logger.info("init_from %s: %s", start.path, taken.report())
    freeze(model, training.freeze)
    r_edges, n_edges = equal_edges(frames, model_config.r_max) if training.compile else (None, None)
    use_kernels(model, training, share=not training.compile or n_edges is not None)
    require = ("energy", "forces", "stress") if training.loss.stress > 0.0 else ("energy", "forces")
    dataset = FrameDataset(frames, model_config.species, model_config.r_max, r_edges, n_edges, require)
    config = with_schedule(config, dataset, split)
    if config.preset is not None:
        logger.info("preset %s-%s", config.model["family"], config.preset)
    n_train, n_validation, epochs = len(split.train), len(split.validation), config.training.epochs
    logger.info("%d frames train in %d epochs, %d validate", n_train, epochs, n_validation)
    if n_train < FEW and start is None and baseline is None:
        logger.warning(
            "%d frames are few to learn forces from; start from a potential (--init-from), learn the "
            "difference from another calculator ([data] baseline), or label more",
            n_train,
        )
    return Prepared(source, frames, split, numbers, model_config, model, dataset, config, baseline)


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
    """A RunConfig from TOML, or for a data file alone; file names in TOML are relative to its folder.

    What `overrides` say goes before the file, that before its preset.  With `init_from`, what a preset says of the
    model is that of the weights.

    Raises: ConfigError naming the key
    """
    recipe = config_io.read_toml(path) if path.suffix.lower() == ".toml" else _recipe_of_data(path)
    mapping = config_io.overridden(recipe, overrides)
    folder = path.resolve().parent
    mapping = with_preset(mapping, _model_of_start(mapping, folder))
    with config_io.blaming(overrides, path.name):
        config = config_io.from_mapping(RunConfig, mapping, where=path.name)
    data = dataclasses.replace(
        config.data,
        train=str(folder / config.data.train),
        split=None if config.data.split is None else str(folder / config.data.split),
    )
    if config.data.baseline is not None and (folder / config.data.baseline).is_file():  # else a name
        data = dataclasses.replace(data, baseline=str(folder / config.data.baseline))
    config = dataclasses.replace(config, data=data)
    if config.init_from is not None:
        config = dataclasses.replace(config, init_from=_place_of_start(config.init_from, folder))
    check(config)
    return config


def _recipe_of_data(path: Path) -> dict[str, Any]:
    """What trains on a data file alone.  Raises: ConfigError if it is not there"""
    if not path.exists():
        raise ConfigError("EQ1432", f"{path}: no such file; expected a recipe (.toml) or a file of labelled frames")
    return {"preset": NAME, "data": {"train": path.name}}


def _model_of_start(mapping: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
    """Family and hyper-parameters of the weights to start from, if there are and they say."""
    if not isinstance(mapping.get("init_from"), str) or not isinstance(mapping.get("preset"), str):
        return None
    start = read_start(_place_of_start(mapping["init_from"], folder))
    if not start.family or not start.config:
        return None
    return {"family": start.family} | {key: value for key, value in start.config.items() if key not in MEASURED}


def _place_of_start(name: str, folder: Path) -> str:
    """A path relative to the folder of the recipe, or the name of a potential."""
    return str(folder / name) if (folder / name).exists() else name


def use_kernels(model: nn.Module, training: TrainingConfig, share: bool) -> None:
    """Put convolutions on kernels compiled for this CPU, where that is wanted and works.

    Args: share: evaluate radial networks once for both directions of an edge; of no use to a compiled step on periodic
        frames, where how many pairs there are is known at run time only
    """
    if training.kernels == "reference":
        return
    if uses_gpu(training):
        return
    logger.info("compiling kernels, if this is the first time")
    try:
        fuse(model)
        if share:
            share_radial(model)
    except ResourceError as error:
        logger.warning("convolutions run on ATen, about half as fast: %s", error)


def _split(config: RunConfig, n_frames: int) -> tuple[RunConfig, Split]:
    if config.data.split is not None:
        split = load_split(config.data.split)
        if split.n_frames != n_frames:
            raise ConfigError("EQ1069", f"data.split is of {split.n_frames} frames, the file has {n_frames}")
        return with_split(config, split), split
    config = with_counts(config, n_frames)
    n_train, n_validation = config.data.n_train or 0, config.data.n_validation or 0
    return config, random_split(n_frames, n_train, n_validation, seed=config.data.split_seed)


def _decide_compile(
    config: RunConfig, frames: Sequence[Frame] | Store, split: Split, model_config: Any, numbers: Statistics
) -> RunConfig:
    """training.compile as true or false.  Raises: ConfigError for true where batches differ"""
    if config.training.compile == "auto":
        degree = numbers.avg_num_neighbors
        reason = why_eager(config, frames, split, model_config.species, model_config.r_max, degree)
        logger.info("training step: %s", "compiled as a whole" if reason is None else f"not compiled, because {reason}")
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, compile=reason is None))
    if config.training.compile:
        check_compile(config)
    return config


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
        raise ConfigError(
            "EQ1070",
            f"{config.data.train}: the training frames have no forces; compute them, or, if extended XYZ has them "
            "under another name, --set data.forces_key=NAME",
        )
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


def equal_edges(frames: Sequence[Frame] | Store, r_max: float) -> tuple[float, int | None]:
    """What gives all frames of one molecule equally many edges: as many as the frame that has most within r_max.

    Returns: cut-off Å within which to look for them, their number (None for periodic frames: not made equal)
    """
    most, reach = 0, r_max
    for frame in frames:
        if frame.pbc.any():
            return r_max, None
        distances = pdist(frame.positions)
        most, reach = max(most, 2 * int((distances < r_max).sum())), max(reach, float(distances.max(initial=0.0)))
    return reach + 0.1, most
