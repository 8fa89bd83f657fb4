"""Progress bar of a training run: epoch, loss, errors of the last validation, time left."""

import time
from typing import Any

import lightning
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressBar(lightning.Callback):
    """One line, updated a few times a second; messages scroll above it."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.progress: Progress | None = None
        self.shown = 0.0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Show the bar."""
        if trainer.global_rank > 0:
            return
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:.0f} %"),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self.task = self.progress.add_task(
            "", total=module.n_steps, completed=trainer.global_step, epoch=1, epochs=trainer.max_epochs, text=""
        )
        self.progress.start()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the bar, at most five times a second."""
        if self.progress is None or time.monotonic() - self.shown < 0.2:
            return
        self.shown = time.monotonic()
        text = f"loss {module.last_loss:.2e}"
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if "forces_mae_meV_A" in found:
            text += f"  F {found['forces_mae_meV_A']:.1f} meV/Å  E {found['energy_mae_meV']:.1f} meV"
        epoch = trainer.current_epoch + 1
        self.progress.update(self.task, completed=trainer.global_step, epoch=epoch, text=text)

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Remove the bar."""
        self._stop()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """Remove the bar before the error message is printed."""
        self._stop()

    def _stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
