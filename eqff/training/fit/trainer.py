"""The Lightning Trainer, set up for force fields."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
from torch import nn

from eqff.data.loader import FrameDataset, make_loader, n_batches, start_at
from eqff.data.splits import Split
from eqff.errors import ConfigError, ResourceError
from eqff.training.config import TrainingConfig
from eqff.training.fit.best import BestCheckpoint, BestPotential
from eqff.training.fit.callbacks import MetricsFile
from eqff.training.fit.checkpoint_file import CheckpointFile
from eqff.training.fit.interruption import LastCheckpoint
from eqff.training.fit.module import TrainingModule
from eqff.training.fit.progress import ProgressBar


class ResumedModule(TrainingModule):
    """A TrainingModule that puts the loader where the checkpoint left it."""

    loader: Any = None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue, within an epoch too."""
        super().on_load_checkpoint(checkpoint)
        start_at(self.loader, self.epochs_done, self.steps_of_epoch)

    def on_train_epoch_start(self) -> None:
        """The last epoch is validated, whatever the interval."""
        if self.current_epoch + 1 == self.trainer.max_epochs:
            self.trainer.check_val_every_n_epoch = 1


def fit(
    model: nn.Module,
    config: TrainingConfig,
    dataset: FrameDataset,
    split: Split,
    folder: Path,
    resume: bool,
    deadline: float = float("inf"),
) -> None:
    """Train; best and last checkpoint, metrics.csv and the learning curve end up in the run folder.

    Args:   deadline: of time.monotonic(), at which the run stops
    Raises: Stopped at the deadline and after a signal, with last.ckpt written; ResourceError EQ6133 if another of
            several processes ended
    """
    checkpoints = folder / "checkpoints"
    last = LastCheckpoint(checkpoints / "last.ckpt", config.checkpoint_every, config.checkpoint_minutes, deadline)
    metrics = MetricsFile(folder)
    best = BestCheckpoint(folder, metrics)
    callbacks: list[lightning.Callback] = [metrics, best, last]
    if config.export_best:
        callbacks.append(BestPotential(folder, best, config.checkpoint_minutes))
    if sys.stderr.isatty():
        callbacks.append(ProgressBar())
    with warnings.catch_warnings(), _quiet("lightning.pytorch"), _quiet("lightning.fabric"):
        # advice that does not apply: batches are made in the training process, frames are in memory
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*number of training batches.*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", message=".*Trying to infer the `batch_size`.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own use of torch
        warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint.*")  # by older versions
        warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")  # ours starts where it should
        trainer = lightning.Trainer(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.nodes,
            strategy="ddp" if config.devices * config.nodes > 1 else "auto",
            use_distributed_sampler=False,  # ours divides each batch among the processes
            max_epochs=config.epochs,
            check_val_every_n_epoch=config.validate_every,
            gradient_clip_val=config.gradient_clip or None,
            callbacks=callbacks,
            logger=_loggers(config, folder),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            inference_mode=False,
            plugins=[CheckpointFile()],
            default_root_dir=folder,
        )
        rank, n_ranks = trainer.global_rank, trainer.world_size
        size = {"max_edges": config.max_edges} if config.max_edges else {"batch_size": config.batch_size}
        shares: dict[str, Any] = {"rank": rank, "n_ranks": n_ranks, **size}
        if len(split.validation) < n_ranks or len(split.train) < n_ranks:
            raise ConfigError(
                "EQ1405",
                f"{len(split.train)} frames to train and {len(split.validation)} to validate for {n_ranks} processes: "
                "each needs one of both; raise data.n_validation, or lower training.devices",
            )
        train_loader = make_loader(dataset[split.train], shuffle=True, seed=config.seed, **shares)
        own = split.validation[rank::n_ranks]
        validation_loader = make_loader(dataset[own], batch_size=min(50, 4 * config.batch_size))
        module = ResumedModule(model, config, n_steps=config.epochs * n_batches(train_loader))
        module.loader = train_loader
        resumed_from = checkpoints / "last.ckpt" if resume else None
        try:
            with last.signals():
                trainer.fit(module, train_loader, validation_loader, ckpt_path=resumed_from)
        except SystemExit as end:
            if end.code == 1:  # how Lightning ends after a second Ctrl-C
                raise KeyboardInterrupt from None
            raise
        except RuntimeError as error:
            if trainer.world_size > 1 and any(name in str(error) for name in ("gloo", "NCCL", "TCPStore")):
                raise ResourceError(
                    "EQ6133",
                    f"process {rank} of {n_ranks} lost another one, which was killed or has failed; go on from the "
                    "last checkpoint with --resume",
                ) from error
            raise


def _loggers(config: TrainingConfig, folder: Path) -> Any:
    """Lightning's loggers, beside metrics.csv.  Raises: ResourceError if the package of one is missing."""
    from lightning.pytorch import loggers

    found: list[Any] = []
    for name in config.loggers:
        try:
            if name == "tensorboard":
                found.append(loggers.TensorBoardLogger(save_dir=folder, name="tensorboard", version=""))
            else:
                found.append(loggers.WandbLogger(save_dir=folder, name=folder.name))
        except ModuleNotFoundError as error:
            raise ResourceError("EQ6012", f"training.loggers={name!r}: pip install {name} first") from error
    return found or False


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Lightning's notes about devices and tips stay out of the log."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
