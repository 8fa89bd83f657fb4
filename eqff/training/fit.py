"""The Lightning Trainer, set up for force fields."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from torch import nn

from eqff.data.loader import n_batches
from eqff.training.callbacks import MetricsFile
from eqff.training.config import TrainingConfig
from eqff.training.module import TrainingModule


def fit(
    model: nn.Module,
    config: TrainingConfig,
    train_loader: Any,
    validation_loader: Any,
    folder: Path,
    resume: bool,
    show_bar: bool,
) -> None:
    """Train; best and last checkpoint, metrics.csv and the learning curve end up in the run folder."""
    module = TrainingModule(model, config, n_steps=config.epochs * n_batches(train_loader))
    checkpoints = folder / "checkpoints"
    common: dict[str, Any] = {"dirpath": checkpoints, "enable_version_counter": False}
    callbacks: list[lightning.Callback] = [
        MetricsFile(folder),
        ModelCheckpoint(filename="best", monitor="forces_mae_meV_A", mode="min", save_top_k=1, **common),
        ModelCheckpoint(
            filename="last", every_n_epochs=config.checkpoint_every, save_on_train_epoch_end=True, **common
        ),
    ]
    if show_bar:
        callbacks.append(TQDMProgressBar(refresh_rate=10))
    with warnings.catch_warnings(), _quiet("lightning.pytorch"), _quiet("lightning.fabric"):
        # advice that does not apply: batches are made in the training process, frames are in memory
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*number of training batches.*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", message=".*Trying to infer the `batch_size`.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own use of torch
        warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")
        trainer = lightning.Trainer(
            accelerator=config.accelerator,
            devices=1,
            max_epochs=config.epochs,
            check_val_every_n_epoch=config.validate_every,
            gradient_clip_val=config.gradient_clip or None,
            callbacks=callbacks,
            logger=False,
            enable_progress_bar=show_bar,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            inference_mode=False,
            default_root_dir=folder,
        )
        try:
            trainer.fit(
                module, train_loader, validation_loader, ckpt_path=checkpoints / "last.ckpt" if resume else None
            )
        except SystemExit:  # how Lightning ends after Ctrl-C
            raise KeyboardInterrupt from None
        trainer.save_checkpoint(checkpoints / "last.ckpt")


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
