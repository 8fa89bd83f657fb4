"""What is in a run folder beside checkpoints, and whether a run may go on in it."""

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from eqff import config as config_io
from eqff.data.frame import Frame, hill_formula
from eqff.data.statistics import Statistics
from eqff.elements import SYMBOLS
from eqff.errors import ConfigError
from eqff.training.config import RunConfig
from eqff.training.preparation import Prepared

BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"
HARMLESS = "threads checkpoint_every checkpoint_minutes export_best report loggers max_skipped_steps".split()


def prepare_folder(folder: Path, config: RunConfig, resume: bool) -> None:
    """Make sure that nothing is overwritten and that a resumed run is the run that was stopped.

    Raises: ConfigError, with what is different
    """
    record = folder / "config.toml"
    if resume:
        if not record.is_file():
            raise ConfigError("EQ1066", f"{folder}: nothing to resume there; start without --resume")
        saved = config_io.to_mapping(config_io.from_toml(RunConfig, record))
        changed = _difference(_without_harmless(saved), _without_harmless(config_io.to_mapping(config)))
        if changed:
            raise ConfigError("EQ1067", f"{folder}: the configuration changed since the run started: {changed}")
        if not (folder / LAST).is_file():
            raise ConfigError("EQ1073", f"{folder}: has no {LAST} yet; delete the folder and start again")
    elif folder.exists() and any(folder.iterdir()):
        raise ConfigError("EQ1068", f"{folder}: is not empty; choose another run folder, or --resume")


def _without_harmless(mapping: dict[str, Any]) -> dict[str, Any]:
    training = {key: value for key, value in mapping["training"].items() if key not in HARMLESS}
    return mapping | {"training": training}


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


def write_records(folder: Path, config: RunConfig, prepared: Prepared) -> None:
    """config.toml, split.json, model.json, statistics.json."""
    source, frames, split, numbers, model_config, *_ = prepared
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
            "compositions": _compositions(frames, numbers.reference_rank, len(numbers.species)),
        }
        | ({} if config.init_from is None else {"init_from": Path(config.init_from).name}),
    }
    (folder / "model.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / "statistics.json").write_text(json.dumps(_json(numbers), indent=2) + "\n", encoding="utf-8")


def _compositions(frames: Iterable[Frame], rank: int, n_species: int) -> list[str]:
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
