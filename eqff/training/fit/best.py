"""The best weights of a run: best.ckpt at every new best, best.eqff.pt soon after, while the run goes on."""

import logging
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint

from eqff.artifact import inspect
from eqff.errors import EqffError
from eqff.training.fit.callbacks import MetricsFile
from eqff.training.folder.run_file import BEST
from eqff.training.folder.trained import measured, read_checkpoint

logger = logging.getLogger("eqff.training")
SHARE = 0.02  # of the run's time may go into exports; a new best waits for its turn


class BestCheckpoint(Checkpoint):
    """Keeps best.ckpt: lowest force error on validation frames.  What was measured is stored with the weights.

    The file itself is what a resumed run compares with, so that no better one is lost.

    Attributes: row: of metrics.csv, of the weights in best.ckpt; {} before there are any
    """

    def __init__(self, folder: Path, metrics: MetricsFile) -> None:
        self.folder, self.metrics = folder, metrics
        self.row: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Goes into every checkpoint."""
        return {"row": self.row}

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """See what is there."""
        path = self.folder / BEST
        if trainer.global_rank == 0 and path.is_file():
            try:
                self.row = measured(read_checkpoint(path), self.folder)
            except EqffError as error:
                logger.warning("%s; the next validation makes a new one", error)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Behind metrics.csv, which has a row of every checkpoint then."""
        better = False
        if trainer.global_rank == 0:
            row = self.metrics.rows[-1]
            better = row["forces_mae_meV_A"] < self.row.get("forces_mae_meV_A", math.inf)
            self.row = dict(row) if better else self.row
        if trainer.world_size > 1:
            better = trainer.strategy.broadcast(better)
        if better:
            trainer.save_checkpoint(self.folder / BEST)


class BestPotential(lightning.Callback):
    """Exports best.ckpt in a process of its own when best.eqff.pt is of an older one and as many minutes have passed.

    The last one is written, and must succeed, by who started the run (see `run.train`).
    """

    def __init__(self, folder: Path, best: BestCheckpoint, minutes: float) -> None:
        self.folder, self.best, self.seconds = folder, best, 60.0 * minutes
        self.exported: float | None = None  # epoch of the checkpoint exported last
        self.child: subprocess.Popen[str] | None = None
        self.began = self.wait_until = 0.0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """A resumed run has an export already; a short run is exported at its end alone."""
        self.wait_until = time.monotonic() + self.seconds
        try:
            self.exported = inspect(self.folder / "best.eqff.pt")["metrics"]["validation"]["epoch"]
        except (EqffError, KeyError):
            self.exported = None

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Start an export if there is a new best and the last one is long ago."""
        if trainer.global_rank > 0:
            return
        self._collect()
        if self.child is not None or time.monotonic() < self.wait_until or not self.best.row:
            return
        epoch = self.best.row["epoch"]
        if epoch != self.exported:
            self.exported, self.began = epoch, time.monotonic()
            command = [sys.executable, "-m", "eqff", "export", str(self.folder), "--force", "-o"]
            self.child = subprocess.Popen(  # our own interpreter, no shell
                [*command, str(self.folder / "best.eqff.pt")],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is meant for the run, which waits for this
            )

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Wait for an export under way."""
        self._end()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """Wait for an export under way."""
        self._end()

    def _end(self) -> None:
        if self.child is not None:
            self.child.wait()
            self._collect()

    def _collect(self) -> None:
        if self.child is None or self.child.poll() is None:
            return
        took = time.monotonic() - self.began
        self.wait_until = time.monotonic() + max(took / SHARE, self.seconds)
        _, message = self.child.communicate()
        if self.child.returncode != 0:
            reason = message.strip() or f"exit code {self.child.returncode}"
            logger.warning("best.eqff.pt could not be written: %s", reason)
        self.child = None
