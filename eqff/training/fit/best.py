"""The best weights of a run: best.ckpt at every new best, best.eqff.pt soon afterwards, while the run continues."""

import logging
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
from eqff.training.folder import trained
from eqff.training.folder.metrics_file import score
from eqff.training.folder.run_file import BEST

logger = logging.getLogger("eqff.training")
SHARE = 0.02  # largest part of the run's time that exports may take


class BestCheckpoint(Checkpoint):
    """Keeps best.ckpt: the weights with the lowest errors on validation frames (`score`), together with these.

    A resumed run compares with the file itself, so that it never replaces better weights.

    Attributes: row: row of metrics.csv of the weights in best.ckpt; {} before there are any
    """

    def __init__(self, folder: Path, metrics: MetricsFile) -> None:
        self.folder, self.metrics = folder, metrics
        self.row: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """What every checkpoint stores for this callback."""
        return {"row": self.row}

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Read the errors of an existing best.ckpt."""
        path = self.folder / BEST
        if trainer.global_rank == 0 and path.is_file():
            try:
                row = trained.measured(trained.read_checkpoint(path))
                # weights of a run that stopped within an epoch are replaced by those of its first validation
                self.row = row if float(row.get("epoch", 0.0)).is_integer() else {}
            except EqffError as error:
                logger.warning("%s; the next validation makes a new one", error)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Save new best weights; runs after MetricsFile, which has written the row of this validation by then."""
        better = False
        if trainer.global_rank == 0:
            row = self.metrics.rows[-1]
            better = score(row) < score(self.row)
            self.row = dict(row) if better else self.row
        if trainer.world_size > 1:
            better = trainer.strategy.broadcast(better)
        if better:
            trainer.save_checkpoint(self.folder / BEST)


class BestPotential(lightning.Callback):
    """Exports a new best.ckpt to best.eqff.pt in a separate process, at most once in a number of minutes.

    The last export is done by `run.train` itself, where a failure is an error.
    """

    def __init__(self, folder: Path, best: BestCheckpoint, minutes: float) -> None:
        self.folder, self.best, self.seconds = folder, best, 60.0 * minutes
        self.exported: float | None = None  # epoch of the checkpoint exported last
        self.child: subprocess.Popen[str] | None = None
        self.began = self.wait_until = 0.0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Find the export of a resumed run; a short run is exported only at its end."""
        self.wait_until = time.monotonic() + self.seconds
        try:
            self.exported = inspect(self.folder / "best.eqff.pt")["metrics"]["validation"]["epoch"]
        except (EqffError, KeyError):
            self.exported = None

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Start an export if there are new best weights and the last export was long enough ago."""
        if trainer.global_rank > 0:
            return
        self._collect()
        if self.child is not None or time.monotonic() < self.wait_until or not self.best.row:
            return
        epoch = self.best.row["epoch"]
        if epoch != self.exported:
            self.exported, self.began = epoch, time.monotonic()
            # -P: a file eqff.py in the working directory must not be run
            command = [sys.executable, "-P", "-m", trained.__name__]
            self.child = subprocess.Popen(  # this interpreter, no shell
                [*command, str(self.folder), str(self.folder / "best.eqff.pt")],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C interrupts the run, which waits for the export
            )

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Wait for a running export."""
        self._end()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """Wait for a running export."""
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
