"""best.eqff.pt in the run folder, renewed while the run goes on."""

import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning

logger = logging.getLogger("eqff.training")
SHARE = 0.02  # of the run's time may go into exports; a new best waits for its turn


class BestPotential(lightning.Callback):
    """Exports checkpoints/best.ckpt in a process of its own when there is a newer one.

    The last one is written, and must succeed, by who started the run (see `run.train`).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoint = folder / "checkpoints" / "best.ckpt"
        self.exported = 0.0  # time stamp of the checkpoint exported last
        self.child: subprocess.Popen[str] | None = None
        self.began = self.wait_until = 0.0

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Start an export if there is a new best and the last one is long ago."""
        if trainer.global_rank > 0:
            return
        self._collect()
        if self.child is not None or time.monotonic() < self.wait_until or not self.checkpoint.is_file():
            return
        stamp = self.checkpoint.stat().st_mtime
        if stamp > self.exported:
            self.exported, self.began = stamp, time.monotonic()
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
        self.wait_until = time.monotonic() + took / SHARE
        _, message = self.child.communicate()
        if self.child.returncode != 0:
            reason = message.strip() or f"exit code {self.child.returncode}"
            logger.warning("best.eqff.pt could not be written: %s", reason)
        self.child = None
