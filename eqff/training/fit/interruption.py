"""Checkpoints by epochs and minutes; Ctrl-C, SIGTERM and a time limit stop a run with a checkpoint.

After the first signal the current batch is finished and last.ckpt is written; a second one ends the process at once.
While the training step is compiled, which takes minutes, the first signal ends the run at once: nothing was done yet.
A run that stops before its first validation is validated once, so that it leaves a potential.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from eqff.training.fit.stopped import Interrupted, Stopped

STOPPED = (signal.SIGINT, signal.SIGTERM)


class LastCheckpoint(Checkpoint):
    """Keeps last.ckpt, which exists from the first step on.

    Args: path; every_n_epochs; minutes: longest time between two checkpoints, also within an epoch; deadline: of
          time.monotonic(); validate: of (trainer, module), called by a run that stops
    """

    def __init__(
        self,
        path: Path,
        every_n_epochs: int,
        minutes: float,
        deadline: float = float("inf"),
        validate: Callable[[Any, Any], None] | None = None,
    ) -> None:
        self.path, self.every_n_epochs, self.seconds, self.deadline = path, every_n_epochs, 60.0 * minutes, deadline
        self.saved = time.monotonic()
        self.validate = validate
        self.compiling: Callable[[], bool] = lambda: False
        self.received = 0
        self.before: dict[int, Any] = {}  # signal -> handler

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Within this context Ctrl-C and SIGTERM wait for the end of a batch; in other threads nothing changes."""
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.getsignal(number) for number in STOPPED}
        self._install()
        try:
            yield
        except Interrupted as end:
            raise Stopped(end.signal) from None
        except SIGTERMException:  # Lightning's, for a signal that came while it was setting up
            raise Stopped(signal.SIGTERM) from None
        finally:
            for number, handler in self.before.items():
                signal.signal(number, handler)

    def _install(self) -> None:
        for number in self.before:
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: Any) -> None:
        self.received = number
        for other, handler in self.before.items():
            signal.signal(other, handler)
        if self.compiling():
            raise Interrupted(number)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Write a checkpoint now, so that a folder that cannot be written to is noticed at once.

        Lightning has by now wrapped the handler of SIGTERM in its own, which ends a run without a checkpoint and with
        exit code 0; install ours again.
        """
        if not self.received:
            self._install()
        due = not self.path.is_file()
        if trainer.world_size > 1:
            due = trainer.strategy.broadcast(due)
        if due:
            trainer.save_checkpoint(self.path)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save within an epoch; after its last batch, on_train_epoch_end does."""
        if not trainer.is_last_batch:
            self._save_if(trainer, module, time.monotonic() - self.saved > self.seconds)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Save after validation and everything else of the epoch."""
        n_done = trainer.current_epoch + 1
        by_epochs = n_done % self.every_n_epochs == 0 or n_done == trainer.max_epochs
        self._save_if(trainer, module, by_epochs or time.monotonic() - self.saved > self.seconds)

    def _save_if(self, trainer: Any, module: Any, due: bool) -> None:
        stop = self.received if self.received else (-1 if time.monotonic() > self.deadline else 0)
        if trainer.world_size > 1:  # process 0 decides
            due, stop = trainer.strategy.broadcast((due, stop))
        if trainer.current_epoch + 1 == trainer.max_epochs and trainer.is_last_batch:
            stop = 0  # nothing is left to do
        if due or stop:
            trainer.save_checkpoint(self.path)
            self.saved = time.monotonic()
        if stop and self.validate is not None:
            self.validate(trainer, module)
        if stop:
            raise Stopped(max(stop, 0))
