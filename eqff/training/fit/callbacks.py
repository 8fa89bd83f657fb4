"""What a run writes during training: metrics.csv, a line in the log for every validation, a learning curve."""

import logging
import math
import time
from pathlib import Path
from typing import Any

import lightning

from eqff.report.plots import plot_learning_curve
from eqff.training.folder.metrics_file import COLUMNS, read_metrics, write_metrics
from eqff.training.folder.run_file import run_file

logger = logging.getLogger("eqff.training")
SHOWN = (
    ("forces_mae_meV_A", "forces", "meV/Å"),
    ("energy_mae_meV", "energy", "meV"),
    ("stress_mae_GPa", "stress", "GPa"),
)


class MetricsFile(lightning.Callback):
    """One row per validation in metrics.csv; learning_curve.png at the end.

    A resumed run drops the rows after its checkpoint and continues; time_s counts the time spent training.  The row of
    a run that stopped before its first validation has a fraction of an epoch, and is dropped, too.

    Args: folder: of the run; initial: validate the initial weights first, as epoch 0
    """

    def __init__(self, folder: Path, initial: bool = False) -> None:
        self.path = folder / "metrics.csv"
        self.picture = folder / "learning_curve.png"
        self.initial = initial
        self.rows: list[dict[str, float]] = []
        self.share: float | None = None  # of the epoch that is done, when a run that stops is validated out of turn
        self.started = 0.0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Read the rows before the checkpoint of a resumed run."""
        earlier = [row for row in read_metrics(self.path) if row["step"] <= trainer.global_step]
        self.rows = [row for row in earlier if row["epoch"].is_integer()]
        self.started = time.monotonic() - (self.rows[-1]["time_s"] if self.rows else 0.0)
        if self.initial and not self.rows and trainer.global_step == 0 and trainer.world_size == 1:
            self.share = 0.0
            self._validate(trainer)
            self.share = None

    def validate_now(self, trainer: Any, module: Any) -> None:
        """Validate between two steps, as Lightning's loop does at the end of an epoch, unless the run has validated."""
        if any(row["epoch"] > 0.0 for row in self.rows) or trainer.world_size > 1:
            return
        done = module.steps_of_epoch / trainer.num_training_batches
        self.share = min(max(round(done, 3), 0.001), 0.999) if done else 0.999  # 0 at the end of an epoch
        self._validate(trainer)

    @staticmethod
    def _validate(trainer: Any) -> None:
        trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.run()
        trainer.training = True

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Add a row for this validation."""
        if trainer.sanity_checking or trainer.global_rank > 0:
            return
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        row: dict[str, float] = {name: metrics.get(name, float("nan")) for name in COLUMNS}
        if self.share == 0.0:
            row["train_loss"] = float("nan")  # there was no step
        row["epoch"] = trainer.current_epoch + (1 if self.share is None else self.share)
        row["step"] = trainer.global_step
        row["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        row["time_s"] = round(time.monotonic() - self.started, 1)
        self.rows.append(row)
        write_metrics(self.path, self.rows)
        shown = [
            f"{what} {row[name]:.2f} {unit}" for name, what, unit in SHOWN if not math.isnan(row.get(name, math.nan))
        ]
        if self.share == 0.0:
            logger.info("as it starts  %s  (validation MAE)", "  ".join(shown))
            return
        logger.info(
            "epoch %g/%d  %s  (validation MAE)  train loss %.3e  lr %.2e  %.0f s",
            *(row["epoch"], trainer.max_epochs, "  ".join(shown)),
            *(row["train_loss"], row["learning_rate"], row["time_s"]),
        )

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Draw the learning curve."""
        if self.rows and trainer.global_rank == 0:
            with run_file(self.picture) as temporary:
                plot_learning_curve(temporary, self.rows, self.path.resolve().parent.name)
