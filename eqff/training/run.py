"""eqff train: from a TOML file to a run folder.

run/  config.toml (resolved)  model.json  split.json  statistics.json  metrics.csv  learning_curve.png
      checkpoints/{best,last}.ckpt  best.eqff.pt  structure.xyz (a training frame, for runs with best.eqff.pt)
"""

import contextlib
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from eqff.errors import ResourceError
from eqff.training.config import TrainingConfig
from eqff.training.fit.stopped import Stopped
from eqff.training.folder.run_file import BEST, LAST, only_run, remove_unfinished
from eqff.training.folder.trained import export_run
from eqff.training.prepare.preparation import Prepared, prepare, read_config
from eqff.training.records import check_same_run, prepare_folder, write_records

logger = logging.getLogger("eqff.training")


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
    Raises:  ConfigError, DataError as they come; ResourceError without Lightning, on a full disk (EQ6130), while
             another process trains in the folder (EQ6131), and if one of several processes is lost (EQ6133);
             `Stopped` at the time limit and after Ctrl-C or SIGTERM, with a checkpoint to go on from
    """
    deadline = time.monotonic() + time_limit
    config, folder = read_config(Path(path), overrides), Path(output)
    if config.training.accelerator == "cuda" and not torch.cuda.is_available():
        raise ResourceError("EQ6011", "training.accelerator='cuda': torch sees no such device; use cpu or auto")
    try:
        from lightning.pytorch.utilities import rank_zero_only

        import eqff.training.fit.trainer  # noqa: F401
    except ImportError as error:
        raise ResourceError("EQ6010", "training needs Lightning: pip install 'eqff[train]'") from error
    if rank_zero_only.rank == 0:  # of several processes the first looks after the folder
        prepare_folder(folder, resume)
    prepared = prepare(config, folder)  # nothing is written before this worked
    with only_run(folder) if rank_zero_only.rank == 0 else contextlib.nullcontext():
        if rank_zero_only.rank == 0:
            prepare_folder(folder, resume)  # again: another run may have come and gone in the meantime
            if resume:
                check_same_run(folder, prepared)
                remove_unfinished(folder)
            write_records(folder, prepared.config, prepared)
            logger.info("%s", prepared.numbers.report)
        if resume and not (folder / LAST).is_file():
            logger.info("stopped before its first checkpoint: starts again")
        _fit(prepared, folder, resume and (folder / LAST).is_file(), deadline)
    return folder


def _fit(prepared: Prepared, folder: Path, resume: bool, deadline: float) -> None:
    from eqff.training.fit.trainer import fit

    training = prepared.config.training
    threads = torch.get_num_threads()
    if training.threads > 0:
        torch.set_num_threads(training.threads)
    try:
        fit(prepared.model, training, prepared.dataset, prepared.split, folder, resume, deadline)
    except Stopped as stop:
        if stop.signal == 0:
            _finish(folder, training)
        raise
    finally:
        torch.set_num_threads(threads)
    _finish(folder, training)


def _finish(folder: Path, training: TrainingConfig) -> None:
    """The best model as a potential file that has proved itself."""
    from lightning.pytorch.utilities import rank_zero_only

    if rank_zero_only.rank == 0 and training.export_best and (folder / BEST).is_file():
        export_run(folder, folder / "best.eqff.pt", force=True)
