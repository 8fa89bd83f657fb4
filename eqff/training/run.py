"""eqff train: from a TOML file to a run folder.

run/  config.toml (resolved)  model.json  split.json  statistics.json  metrics.csv  learning_curve.png
      checkpoints/{best,last}.ckpt  best.eqff.pt
"""

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from eqff.errors import ResourceError
from eqff.training.checkpoint import export_run
from eqff.training.config import TrainingConfig
from eqff.training.folder import BEST, prepare_folder, write_records
from eqff.training.preparation import prepare, read_config
from eqff.training.stopped import Stopped

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
        prepare_folder(folder, config, resume)
    prepared, training = prepare(config), config.training
    if rank_zero_only.rank == 0:  # nothing is written before all this worked
        write_records(folder, config, prepared)
        logger.info("%s", prepared.numbers.report)
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
    return folder


def _finish(folder: Path, training: TrainingConfig) -> None:
    """The best model as a potential file that has proved itself."""
    from lightning.pytorch.utilities import rank_zero_only

    if rank_zero_only.rank == 0 and training.export_best and (folder / BEST).is_file():
        export_run(folder, folder / "best.eqff.pt", force=True)
