"""Training, from a recipe or a file of labelled frames to a run folder."""

import contextlib
import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from eqff.data.reading.index import split_index
from eqff.errors import ConfigError, ResourceError
from eqff.training.config import RunConfig
from eqff.training.fit.stopped import Stopped
from eqff.training.folder.metrics_file import best_row, read_metrics
from eqff.training.folder.run_file import BEST, FORGOTTEN, LAST, only_run, remove_unfinished, run_file
from eqff.training.folder.trained import export_run, load_run
from eqff.training.prepare.foreign import foreign_errors
from eqff.training.prepare.preparation import Prepared, prepare
from eqff.training.prepare.recipe import read_config
from eqff.training.records import write_records
from eqff.training.resume import check_same_run, kept, prepare_folder, read_earlier

logger = logging.getLogger("eqff.training")


class TrainedRun(NamedTuple):
    """A finished training run."""

    folder: Path  # with everything about the run; `eqff export FOLDER` makes a potential of it
    best: dict[str, float]  # row of metrics.csv with the lowest force error: epoch, forces_mae_meV_A, ...
    potential: Path | None  # best.eqff.pt; None with training.export_best = false


def train(
    config: str | Path | RunConfig,
    run_folder: str | Path | None = None,
    resume: bool = False,
    overrides: Sequence[str] = (),
    time_limit: float = math.inf,
) -> TrainedRun:
    """Train a model on labelled frames; everything about the run is left in a run folder.

        run/  config.toml (what was said)  plan.json (what was decided)  model.json  split.json  statistics.json
              structure.xyz (a training frame)  checkpoints/{best,last}.ckpt  metrics.csv  learning_curve.png
              best.eqff.pt

    Args:    config: a recipe (TOML), labelled frames as FILE or FILE@INDEX (preset "fast"), or a RunConfig;
             run_folder: default runs/<name of the recipe or data file>; resume: continue the run in this folder from
             its last checkpoint; overrides: keys that take precedence over the recipe, e.g. "training.epochs=10";
             time_limit: seconds after which the run stops with a checkpoint, to be resumed
    Returns: TrainedRun: the folder, the errors of the best weights on validation frames, the potential file
    Raises:  ConfigError and DataError for a configuration or data to be changed, before anything is written;
             ResourceError EQ6010 without Lightning, EQ6011 without the GPU asked for, EQ6130 on a full disk, EQ6131
             while another process trains in the folder, EQ6133 if one of several processes is lost; RunError EQ5201
             for a loss that stays not finite; Stopped at the time limit and after Ctrl-C or SIGTERM, with a
             checkpoint to resume from
    """
    deadline = time.monotonic() + time_limit
    if not isinstance(config, RunConfig):
        run_folder = default_folder(config) if run_folder is None else run_folder
        config = read_config(Path(config), overrides)
    elif overrides:
        raise ConfigError(
            "EQ1965", f"overrides={list(overrides)}: expected none beside a RunConfig; use dataclasses.replace on it"
        )
    folder = default_folder(config.data.train) if run_folder is None else Path(run_folder)
    _check_machine(config)
    from lightning.pytorch.utilities import rank_zero_only

    first = rank_zero_only.rank == 0  # of several processes, the first looks after the folder
    if first:
        prepare_folder(folder, resume)
    earlier = read_earlier(folder) if resume else None
    prepared = prepare(config, folder, kept(earlier, config))  # nothing has been written before this succeeds
    with only_run(folder) if first else contextlib.nullcontext():
        if first:
            prepare_folder(folder, resume)  # again: another run may have started and ended in the meantime
            if resume:
                check_same_run(folder, earlier, prepared)
                remove_unfinished(folder)
            write_records(folder, prepared)
            prepared.plan.log()
        resumes = resume and (folder / LAST).is_file()
        if resume and not resumes:
            logger.info("stopped before its first checkpoint: starting again")
        _fit(prepared, folder, resumes, deadline)
    potential = folder / "best.eqff.pt"
    return TrainedRun(
        folder, best_row(read_metrics(folder / "metrics.csv")), potential if potential.is_file() else None
    )


def default_folder(source: str | Path) -> Path:
    """runs/<name of a recipe, FILE or FILE@INDEX>."""
    return Path("runs") / split_index(source)[0].stem


def _check_machine(config: RunConfig) -> None:
    if config.training.accelerator == "cuda" and not torch.cuda.is_available():
        raise ResourceError("EQ6011", "training.accelerator='cuda': torch finds no CUDA device; use cpu or auto")
    try:
        import eqff.training.fit.trainer  # noqa: F401
    except ImportError as error:
        raise ResourceError("EQ6010", "training needs Lightning; pip install 'eqff[train]'") from error


def _fit(prepared: Prepared, folder: Path, resume: bool, deadline: float) -> None:
    from eqff.training.fit.trainer import fit

    training, plan = prepared.config.training, prepared.plan
    threads = torch.get_num_threads()
    if training.threads > 0:
        torch.set_num_threads(training.threads)
    try:
        fit(prepared.model, training, plan, prepared.dataset, folder, resume, deadline)
    except Stopped:
        _finish(prepared, folder)
        raise
    finally:
        torch.set_num_threads(threads)
    _finish(prepared, folder)


def _finish(prepared: Prepared, folder: Path) -> None:
    """Export the best model, which proves itself in a fresh process, and show what it has forgotten."""
    from lightning.pytorch.utilities import rank_zero_only

    if rank_zero_only.rank != 0 or not (folder / BEST).is_file():
        return
    _show_forgotten(prepared, folder)
    if prepared.config.training.export_best:
        export_run(folder, folder / "best.eqff.pt", force=True)


def _show_forgotten(prepared: Prepared, folder: Path) -> None:
    """Print and keep the errors of the best model on foreign frames, beside those of the initial weights."""
    foreign = prepared.foreign
    if foreign is None:
        return
    after = foreign_errors(load_run(folder).model, list(prepared.plan.model_config.species), foreign.measured)
    logger.info("foreign frames: %s as it started, %s now", foreign.before.text(), after.text())
    with run_file(folder / FORGOTTEN) as temporary:
        found = {"frames": len(foreign.measured), "file": foreign.name, "labels": foreign.labelled_by}
        both = {"before": foreign.before.plain(), "after": after.plain()}
        temporary.write_text(json.dumps(found | both, indent=2) + "\n", encoding="utf-8")
