"""eqff train: from a TOML file to a run folder.

run/  config.toml (resolved)  model.json  split.json  statistics.json  metrics.csv  learning_curve.png
      checkpoints/{best,last}.ckpt  best.eqff.pt
"""

import dataclasses
import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from eqff import config as config_io
from eqff import registry
from eqff.data.frame import Frame, hill_formula
from eqff.data.loader import FrameDataset
from eqff.data.options import ReadOptions
from eqff.data.read import Source, read_source
from eqff.data.splits import Split, load_split, random_split
from eqff.data.statistics import Statistics, statistics
from eqff.elements import SYMBOLS
from eqff.errors import ConfigError, ResourceError
from eqff.nn.fused import fuse
from eqff.training.checkpoint import export_run
from eqff.training.config import RunConfig, TrainingConfig, check
from eqff.training.stopped import Stopped

BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"
logger = logging.getLogger("eqff.training")


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
    check(config)
    return config


def train(
    path: str | Path,
    output: str | Path,
    resume: bool = False,
    overrides: Sequence[str] = (),
    time_limit: float = math.inf,
) -> Path:
    """Train a model and leave everything about it in a run folder.

    Args:    path: TOML file of a RunConfig; output: run folder; resume: continue its last checkpoint;
             overrides: "training.epochs=10"; time_limit: seconds after which the run stops, to be resumed
    Returns: the run folder
    Raises:  ConfigError, DataError as they come; ResourceError without Lightning; `Stopped` at the time
             limit and after Ctrl-C or SIGTERM, with a checkpoint to go on from
    """
    deadline = time.monotonic() + time_limit
    config, folder = read_config(Path(path), overrides), Path(output)
    if config.training.accelerator == "cuda" and not torch.cuda.is_available():
        raise ResourceError("EQ6011", "training.accelerator='cuda': torch sees no such device; use cpu or auto")
    try:
        from lightning.pytorch.utilities import rank_zero_only

        from eqff.training.fit import fit
    except ImportError as error:
        raise ResourceError("EQ6010", "training needs Lightning: pip install 'eqff[train]'") from error
    if rank_zero_only.rank == 0:  # of several processes the first looks after the folder
        _prepare_folder(folder, config, resume)
    options = ReadOptions(
        energy_unit=config.data.energy_unit,
        length_unit=config.data.length_unit,
        energy_key=config.data.energy_key,
        forces_key=config.data.forces_key,
    )
    training = config.training
    source = read_source(config.data.train, options)
    split = _split(config, len(source.frames))
    train_frames = [source.frames[i] for i in split.train]
    model_config, numbers = _model_config(config, source.frames, train_frames)
    model = registry.load("models", config.model["family"]).Model(model_config)
    model.to(getattr(torch, training.dtype))
    _use_kernels(model, training)
    r_edges = _complete_radius(source.frames, model_config.r_max) if training.compile else None
    require = ("energy", "forces", "stress") if training.loss.stress > 0.0 else ("energy", "forces")
    dataset = FrameDataset(source.frames, model_config.species, model_config.r_max, r_edges, require)
    if rank_zero_only.rank == 0:  # nothing is written before all this worked
        _write_records(folder, config, source, split, numbers, model_config)
        logger.info("%s", numbers.report)
    threads = torch.get_num_threads()
    if training.threads > 0:
        torch.set_num_threads(training.threads)
    try:
        fit(model, training, dataset, split, folder, resume, deadline)
    except Stopped as stop:
        if stop.signal == 0:
            _finish(folder, training)
        raise
    finally:
        torch.set_num_threads(threads)
    _finish(folder, training)
    return folder


def _finish(folder: Path, training: TrainingConfig) -> None:
    """The best model as a potential file that has proved itself."""
    from lightning.pytorch.utilities import rank_zero_only

    if rank_zero_only.rank == 0 and training.export_best and (folder / BEST).is_file():
        export_run(folder, folder / "best.eqff.pt", force=True)


def _use_kernels(model: nn.Module, training: TrainingConfig) -> None:
    """Put convolutions on kernels compiled for this CPU, where that is wanted and works."""
    if training.kernels == "reference":
        return
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if training.accelerator == "cuda" or (training.accelerator == "auto" and gpu):
        return
    logger.info("compiling kernels, if this is the first time")
    try:
        fuse(model)
    except ResourceError as error:
        logger.warning("convolutions run on ATen, about half as fast: %s", error)


def _prepare_folder(folder: Path, config: RunConfig, resume: bool) -> None:
    record = folder / "config.toml"
    if resume:
        if not record.is_file():
            raise ConfigError("EQ1066", f"{folder}: nothing to resume there; start without --resume")
        saved = config_io.to_mapping(config_io.from_toml(RunConfig, record))
        changed = _difference(saved, config_io.to_mapping(config))
        if changed:
            raise ConfigError("EQ1067", f"{folder}: the configuration changed since the run started: {changed}")
        if not (folder / LAST).is_file():
            raise ConfigError("EQ1073", f"{folder}: has no {LAST} yet; delete the folder and start again")
    elif folder.exists() and any(folder.iterdir()):
        raise ConfigError("EQ1068", f"{folder}: is not empty; choose another run folder, or --resume")


def _difference(saved: dict[str, Any], now: dict[str, Any], where: str = "") -> str:
    found = []
    for key in sorted(saved.keys() | now.keys()):
        old, new = saved.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            inner = _difference(old, new, f"{where}{key}.")
            found += [inner] if inner else []
        elif old != new:
            found.append(f"{where}{key}: {old!r} -> {new!r}")
    return "; ".join(found)


def _split(config: RunConfig, n_frames: int) -> Split:
    if config.data.split is not None:
        split = load_split(config.data.split)
        if split.n_frames != n_frames:
            raise ConfigError("EQ1069", f"data.split is of {split.n_frames} frames, the file has {n_frames}")
        return split
    return random_split(n_frames, config.data.n_train, config.data.n_validation, seed=config.data.split_seed)


def _model_config(config: RunConfig, frames: list[Frame], train_frames: list[Frame]) -> tuple[Any, Statistics]:
    """The family's Config: what the user wrote, and what the training frames say where the user was silent."""
    family = registry.load("models", config.model["family"])
    mapping = {key: value for key, value in config.model.items() if key != "family"}
    present = sorted({int(z) for frame in frames for z in frame.atomic_numbers})
    mapping.setdefault("species", [SYMBOLS[z] for z in present])
    partial = config_io.from_mapping(family.Config, mapping, where="model")
    numbers = statistics(train_frames, partial.species, partial.r_max)
    if numbers.force_rms is None:
        raise ConfigError("EQ1070", f"{config.data.train}: the training frames have no forces")
    measured = {
        "avg_num_neighbors": numbers.avg_num_neighbors,
        "energy_scale": numbers.force_rms,
        "reference_energies": list(numbers.reference_energies),
        "seed": config.training.seed,
    }
    known = {field.name for field in dataclasses.fields(family.Config)}
    mapping = {name: value for name, value in measured.items() if name in known} | mapping
    return config_io.from_mapping(family.Config, mapping, where="model"), numbers


def _complete_radius(frames: list[Frame], r_max: float) -> float:
    """A cut-off that makes every molecule a complete graph, so that all frames of one molecule have equal shapes."""
    if any(frame.pbc.any() for frame in frames):
        return r_max
    return max(
        r_max, max(2.0 * float(np.linalg.norm(f.positions - f.positions.mean(0), axis=1).max()) for f in frames) + 0.1
    )


def _write_records(
    folder: Path, config: RunConfig, source: Source, split: Split, numbers: Statistics, model_config: Any
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(config_io.to_toml(config), encoding="utf-8")
    split.save(folder / "split.json")
    record = {
        "family": config.model["family"],
        "config": config_io.to_mapping(model_config),
        "data": source.provenance
        | {
            "split_sha256": split.sha256,
            "n_train": len(split.train),
            "n_validation": len(split.validation),
            "level_of_theory": config.data.level_of_theory,
            "licence": config.data.licence,
            "min_distance_A": numbers.min_distance,
            "reference_rank": numbers.reference_rank,
            "compositions": _compositions(source.frames, numbers.reference_rank, len(numbers.species)),
        },
    }
    (folder / "model.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / "statistics.json").write_text(json.dumps(_json(numbers), indent=2) + "\n", encoding="utf-8")


def _compositions(frames: list[Frame], rank: int, n_species: int) -> list[str]:
    """Formulas that span those of the data, where they do not fix every reference energy; else none are needed."""
    if rank >= n_species:
        return []
    distinct: dict[str, np.ndarray] = {}
    for frame in frames:
        counts = np.bincount(frame.atomic_numbers, minlength=len(SYMBOLS))
        distinct.setdefault(hill_formula(frame.atomic_numbers), counts)
    chosen: list[str] = []
    for formula in distinct:
        rows = np.array([distinct[name] for name in (*chosen, formula)])
        if np.linalg.matrix_rank(rows) == len(rows):
            chosen.append(formula)
    return chosen


def _json(numbers: Statistics) -> dict[str, Any]:
    """JSON has no NaN (species that do not occur): null."""
    plain = {}
    for name, value in dataclasses.asdict(numbers).items():
        values = list(value) if isinstance(value, tuple) else [value]
        values = [None if isinstance(x, float) and math.isnan(x) else x for x in values]
        plain[name] = values if isinstance(value, tuple) else values[0]
    return plain
