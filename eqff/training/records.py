"""What is in a run folder beside checkpoints, and whether a run may go on in it."""

import dataclasses
import json
import logging
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from eqff import config as config_io
from eqff.data.frame import Frame, hill_formula
from eqff.data.statistics import Statistics
from eqff.data.store.ase_store import to_atoms
from eqff.elements import SYMBOLS
from eqff.errors import ConfigError, PotentialError, RunError
from eqff.training.config import RunConfig
from eqff.training.folder.run_file import BEST, LAST, run_file
from eqff.training.folder.trained import read_checkpoint
from eqff.training.prepare.baseline import COPY, Differences
from eqff.training.prepare.preparation import Prepared

logger = logging.getLogger("eqff.training")
CONFIG, MODEL = "config.toml", "model.json"
# what may change between two parts of a run, and what that means
FREE = (
    *("preset", "data.train", "data.split", "data.level_of_theory", "data.licence"),  # frames and split: by content
    *("training.validate_every", "training.checkpoint_every", "training.checkpoint_minutes", "training.export_best"),
    *("training.report", "training.loggers", "training.max_skipped_steps"),
)
ROUNDING = ("training.threads", "training.accelerator", "training.kernels", "training.compile")
PROCESSES = ("training.devices", "training.nodes")
SCHEDULE = ("training.epochs",)
SPLIT = ("data.n_train", "data.n_validation")  # of a saved split: older versions wrote what nobody had asked for
MOVED = ("init_from", "data.baseline")  # files that may move
REMARKS = (
    (ROUNDING + PROCESSES, "rounding differs from here, so the run goes on as well, but not as the same to the bit"),
    (SCHEDULE, "learning rate and weights of the loss follow the new schedule from here"),
)

Change = tuple[str, Any, Any]  # key, before, now


def prepare_folder(folder: Path, resume: bool) -> None:
    """Make sure that nothing is overwritten and that there is something to resume.  Raises: ConfigError if not"""
    empty = not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir())
    if resume:
        if not (folder / CONFIG).is_file() and not (folder.exists() and empty):
            raise ConfigError("EQ1066", f"{folder}: nothing to resume there; start without --resume")
        if (folder / BEST).is_file() and not (folder / LAST).is_file():
            raise ConfigError(
                "EQ1073", f"{folder}: {LAST} is gone; restore it, or start another run with --init-from {folder}"
            )
    elif not empty:
        raise ConfigError("EQ1068", f"{folder}: is not empty; choose another run folder, or --resume")


def check_same_run(folder: Path, prepared: Prepared) -> None:
    """Make sure that a resumed run is the run that was stopped; changes that may be are logged.

    Raises: ConfigError EQ1067, with what is different; RunError EQ5220 for a damaged last.ckpt, EQ5221 if the run has
            more epochs behind it
    """
    if not (folder / CONFIG).is_file():
        return
    before = config_io.to_mapping(config_io.from_toml(RunConfig, folder / CONFIG))
    changes = [*_changes(before, config_io.to_mapping(prepared.config)), *_changed_data(folder, prepared)]
    allowed = {*FREE, *ROUNDING, *SCHEDULE, *(() if prepared.config.training.max_edges else PROCESSES)}
    allowed |= set() if prepared.config.data.split is None else {*SPLIT}
    refused = [change for change in changes if change[0] not in allowed and not _moved(change)]
    if refused:
        raise ConfigError(
            "EQ1067",
            f"{folder}: the run to go on with is another: {_shown(refused)}; resume as it began, with "
            f"`eqff train {folder / CONFIG} -o {folder} --resume`, or start another run with --init-from {folder}",
        )
    if (folder / LAST).is_file():
        _check_last(folder, prepared.config.training.epochs)
    if changes:
        logger.info("resumed with changes: %s", _shown(changes))
    for keys, remark in REMARKS:
        if any(change[0] in keys for change in changes):
            logger.info("%s", remark)


def _check_last(folder: Path, epochs: int) -> None:
    try:
        n_done = read_checkpoint(folder / LAST)["progress"][0]
    except PotentialError as error:
        raise RunError(
            "EQ5220", f"{error.message}; restore it, or start another run from the best weights: --init-from {folder}"
        ) from error
    if n_done > epochs:
        raise RunError(
            "EQ5221", f"training.epochs={epochs}: the run has {n_done} epochs behind it; give as many or more"
        )


def _changes(before: Any, now: Any, where: str = "") -> list[Change]:
    found: list[Change] = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _changes(old, new, f"{where}{key}.")
        elif old != new:
            found.append((f"{where}{key}", old, new))
    return found


def _changed_data(folder: Path, prepared: Prepared) -> list[Change]:
    """Frames and split, by content: files may move."""
    try:
        before = json.loads((folder / MODEL).read_text(encoding="utf-8"))["data"]
    except FileNotFoundError:  # stopped before it was written
        return []
    now = {"frames (sha256)": prepared.source.sha256, "split (sha256)": prepared.split.sha256}
    old = {"frames (sha256)": before["source_sha256"], "split (sha256)": before["split_sha256"]}
    return [(key, old[key][:12], now[key][:12]) for key in now if old[key] != now[key]]


def _moved(change: Change) -> bool:
    """Weights to begin with may have moved, and a potential as baseline, whose content is compared elsewhere."""
    key, old, new = change
    return key in MOVED and None not in (old, new) and Path(old).name == Path(new).name


def _shown(changes: list[Change]) -> str:
    return "; ".join(f"{key}: {old!r} -> {new!r}" for key, old, new in changes)


def write_records(folder: Path, config: RunConfig, prepared: Prepared) -> None:
    """config.toml, split.json, model.json, statistics.json, structure.xyz; from the first on, the run can be resumed.

    Raises: ResourceError EQ6130 if the disk does not take them
    """
    source, frames, split, numbers, model_config, *_ = prepared
    _write(folder / CONFIG, config_io.to_toml(config))
    with run_file(folder / "split.json") as temporary:
        split.save(temporary)
    record = {
        "family": config.model["family"],
        "config": config_io.to_mapping(model_config),
        "data": source.provenance
        | {
            "split_sha256": split.sha256,
            "n_train": len(split.train),
            "n_validation": len(split.validation),
            "level_of_theory": config.data.level_of_theory or source.provenance.get("level_of_theory", ""),
            "licence": config.data.licence or source.provenance.get("licence", ""),
            "min_distance_A": numbers.min_distance,
            "reference_rank": numbers.reference_rank,
            "compositions": _compositions(frames, numbers.reference_rank, len(numbers.species)),
        }
        | ({} if config.init_from is None else {"init_from": Path(config.init_from).name}),
    }
    if prepared.baseline is not None:
        record["baseline"] = prepared.baseline.record
        if prepared.baseline.file is not None:
            with run_file(folder / COPY) as temporary:
                shutil.copyfile(prepared.baseline.file, temporary)
    _write(folder / MODEL, json.dumps(record, indent=2) + "\n")
    _write(folder / "statistics.json", json.dumps(_json(numbers), indent=2) + "\n")
    if not (folder / "structure.xyz").is_file():
        labelled = frames.frames if isinstance(frames, Differences) else frames
        atoms = to_atoms(_calmest(labelled[int(index)] for index in split.train[:1000]))
        atoms.calc, atoms.info = None, {}
        with run_file(folder / "structure.xyz") as temporary:
            atoms.write(temporary, format="extxyz")


def _write(path: Path, text: str) -> None:
    with run_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _calmest(frames: Iterable[Frame]) -> Frame:
    """Of the frames with most atoms, the one whose largest force is the smallest: where dynamics may start."""

    def order(frame: Frame) -> tuple[int, float]:
        return -len(frame.atomic_numbers), math.inf if frame.forces is None else float(np.abs(frame.forces).max())

    return min(frames, key=order)


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
