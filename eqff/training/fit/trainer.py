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
from eqff.errors import ConfigError, ResourceError
from eqff.training.config import TrainingConfig
from eqff.training.fit.best import BestCheckpoint, BestPotential
from eqff.training.fit.callbacks import MetricsFile
from eqff.training.fit.checkpoint_file import CheckpointFile
from eqff.training.fit.interruption import LastCheckpoint
from eqff.training.fit.lone_atoms import LoneAtoms
from eqff.training.fit.module import TrainingModule
from eqff.training.fit.progress import ProgressBar
from eqff.training.fit.step import CompiledStep
from eqff.training.plan import Plan


class ResumedModule(TrainingModule):
    """A TrainingModule that puts the loader where the checkpoint left it."""

    loader: Any = None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue, within an epoch too."""
        super().on_load_checkpoint(checkpoint)
        start_at(self.loader, self.epochs_done, self.steps_of_epoch)

    def on_train_epoch_start(self) -> None:
        """Validate the last epoch, whatever the interval."""
        if self.current_epoch + 1 == self.trainer.max_epochs:
            self.trainer.check_val_every_n_epoch = 1


def fit(
    model: nn.Module,
    config: TrainingConfig,
    plan: Plan,
    dataset: FrameDataset,
    folder: Path,
    resume: bool,
    deadline: float = float("inf"),
) -> None:
    """Train a model; checkpoints, metrics.csv and the learning curve are written to the run folder.

    Args:   config: what the user said; plan: what was decided; dataset: of all frames of the split; resume: continue
            from last.ckpt; deadline: value of time.monotonic() at which the run stops
    Raises: Stopped at the deadline and after a signal, with last.ckpt written; ResourceError EQ6133 if another one of
            several processes ended
    """
    checkpoints = folder / "checkpoints"
    metrics = MetricsFile(folder, initial=plan.initial_weights is not None)
    every, minutes = plan.checkpoint_every, config.checkpoint_minutes
    last = LastCheckpoint(checkpoints / "last.ckpt", every, minutes, deadline, metrics.validate_now)
    best = BestCheckpoint(folder, metrics)
    callbacks: list[lightning.Callback] = [metrics, best, last]
    if config.export_best:
        callbacks.append(BestPotential(folder, best, config.checkpoint_minutes))
    if sys.stderr.isatty():
        callbacks.append(ProgressBar())
    with warnings.catch_warnings(), _quiet("lightning.pytorch"), _quiet("lightning.fabric"):
        # advice that does not apply: batches are made quickly in the training process itself
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*number of training batches.*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", message=".*Trying to infer the `batch_size`.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own use of torch
        warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")  # ours is, see ResumedModule
        trainer = lightning.Trainer(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.nodes,
            strategy="ddp" if config.devices * config.nodes > 1 else "auto",
            use_distributed_sampler=False,  # ours divides each batch among the processes
            max_epochs=plan.epochs,
            check_val_every_n_epoch=plan.validate_every,
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
        split = plan.batched
        n_train, n_validation = len(split.train), len(split.validation)
        if n_validation < n_ranks or n_train < n_ranks:
            raise ConfigError(
                "EQ1405",
                f"{n_ranks} processes for {n_train} training and {n_validation} validation frames: "
                "every process needs at least one of each; raise data.n_validation, or lower training.devices",
            )
        train_loader = make_loader(dataset[split.train], shuffle=True, seed=config.seed, **shares)
        share = split.validation[rank::n_ranks]
        validation_loader = make_loader(dataset[share], batch_size=min(50, 4 * config.batch_size))
        n_steps = plan.epochs * n_batches(train_loader)
        alone = LoneAtoms(plan.model_config.species, plan.statistics.isolated_atoms)
        module = ResumedModule(model, config, plan.compile, n_steps, plan.loss, alone)
        module.loader = train_loader
        step = module.step
        if isinstance(step, CompiledStep):
            step.deadline = deadline
            last.compiling = lambda: step.compiling
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
                    f"process {rank} of {n_ranks} lost contact with another, which was killed or failed; continue from "
                    "the last checkpoint with --resume",
                ) from error
            raise


def _loggers(config: TrainingConfig, folder: Path) -> Any:
    """Lightning's loggers besides metrics.csv.  Raises: ResourceError EQ6012 if the package of a logger is missing"""
    from lightning.pytorch import loggers

    chosen: list[Any] = []
    for name in config.loggers:
        try:
            if name == "tensorboard":
                chosen.append(loggers.TensorBoardLogger(save_dir=folder, name="tensorboard", version=""))
            else:
                chosen.append(loggers.WandbLogger(save_dir=folder, name=folder.name))
        except ModuleNotFoundError as error:
            raise ResourceError("EQ6012", f"training.loggers={name!r} is not installed; pip install {name}") from error
    return chosen or False


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep Lightning's notes about devices, and its tips, out of the log."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
