"""Checkpoints by epochs and minutes, and ends that lose nothing: Ctrl-C, SIGTERM, a time limit.

After the first signal the batch in hand is finished and last.ckpt written; a second one ends the process at once.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Checkpoint

from eqff.training.stopped import Stopped

STOPPED = (signal.SIGINT, signal.SIGTERM)


class LastCheckpoint(Checkpoint):
    """Keeps last.ckpt.

    Args: path; every_n_epochs; minutes: at most between two, within an epoch too; deadline: of time.monotonic()
    """

    def __init__(self, path: Path, every_n_epochs: int, minutes: float, deadline: float = float("inf")) -> None:
        self.path, self.every_n_epochs, self.seconds, self.deadline = path, every_n_epochs, 60.0 * minutes, deadline
        self.saved = time.monotonic()
        self.received = 0

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Within this context Ctrl-C and SIGTERM wait for the end of a batch; in a thread they stay as they are."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in STOPPED}

        def remember(number: int, frame: Any) -> None:
            self.received = number
            for other, handler in before.items():
                signal.signal(other, handler)

        for number in STOPPED:
            signal.signal(number, remember)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Within an epoch; behind its last batch comes its end."""
        if not trainer.is_last_batch:
            self._save_if(trainer, time.monotonic() - self.saved > self.seconds)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Behind validation and everything else of the epoch."""
        n_done = trainer.current_epoch + 1
        self._save_if(trainer, n_done % self.every_n_epochs == 0 or time.monotonic() - self.saved > self.seconds)

    def _save_if(self, trainer: Any, due: bool) -> None:
        stop = self.received if self.received else (-1 if time.monotonic() > self.deadline else 0)
        if trainer.world_size > 1:  # rank 0 has the say
            due, stop = trainer.strategy.broadcast((due, stop))
        if due or stop:
            trainer.save_checkpoint(self.path)
            self.saved = time.monotonic()
        if stop:
            raise Stopped(max(stop, 0))
