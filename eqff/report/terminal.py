"""Progress and tables that the command line shows on the terminal."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SHORTEST, LONGEST = 30.0, 600.0  # s between lines of progress


class Pace:
    """When a line of progress is due where no terminal shows a bar: after 30 s, then ten times in the whole run, but
    not more often than every 30 s, and at least every 10 minutes.

    Args: clock: seconds
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.started = clock()
        self.due_at = self.started + SHORTEST
        self.done_before: float | None = None

    def due(self, done: float, total: float | None) -> str | None:
        """The time left, e.g. "12 min left", or "" if unknown, when a line is due; None otherwise."""
        now = self.clock()
        if self.done_before is None:
            self.done_before = done  # of an earlier part of the run
        if now < self.due_at:
            return None
        share = (done - self.done_before) / (total - self.done_before) if total and total > self.done_before else 0.0
        whole = (now - self.started) / share if share > 0.0 else 0.0
        self.due_at = now + min(max(0.1 * whole, SHORTEST), LONGEST)
        return f"{duration((1.0 - share) * whole)} left" if share > 0.0 else ""


class FramesBar:
    """Progress on stderr with the time left; a line now and then if stderr is not a terminal; nothing if hidden."""

    def __init__(self, title: str, hidden: bool = False) -> None:
        console = Console(stderr=True, highlight=False)
        self.title, self.console = title, console
        self.pace = None if hidden or console.is_terminal else Pace()
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            "frames",
            TimeRemainingColumn(),
            "left",
            console=console,
            disable=hidden or not console.is_terminal,
            transient=True,
        )
        self.task = self.progress.add_task(title, total=None)

    def __enter__(self) -> "FramesBar":
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def advance(self, done: int, total: int | None) -> None:
        """Show the number of frames done, and of all frames if known."""
        self.progress.update(self.task, completed=done, total=total)
        left = None if self.pace is None else self.pace.due(done, total)
        if left is not None:
            of = "" if total is None else f" of {total}"
            self.console.print(", ".join(filter(None, (f"{self.title}: {done}{of} frames", left))), markup=False)


class StatusLine:
    """One line on stderr with the present activity; nothing if stderr is not a terminal, or if hidden."""

    def __init__(self, hidden: bool = False) -> None:
        console = Console(stderr=True)
        self.status = console.status("loading") if console.is_terminal and not hidden else None

    def __enter__(self) -> "StatusLine":
        if self.status is not None:
            self.status.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.status is not None:
            self.status.stop()

    def show(self, text: str) -> None:
        if self.status is not None:
            self.status.update(text)


def error_table(metrics: Mapping[str, float], quantities: Mapping[str, tuple[str, str, float]]) -> str:
    """MAE, RMSE, largest error and, if present, R2: one line per quantity.

    Args: metrics: as `eqff.tasks.metrics` names them; quantities: name -> (suffix, unit on the screen, factor)
    """
    with_r2 = any(f"{name}_r2" in metrics for name in quantities)
    rows = [["", "MAE", "RMSE", "max", "unit", *(["R²"] if with_r2 else []), "values"]]
    for name, (suffix, unit, _) in quantities.items():
        if f"{name}_n" not in metrics:
            continue
        numbers = [number(metrics[f"{name}_{kind}_{suffix}"]) for kind in ("mae", "rmse", "max")]
        r2 = [_r2(metrics.get(f"{name}_r2"))] if with_r2 else []
        rows.append([name.replace("_", " "), *numbers, unit, *r2, f"{metrics[f'{name}_n']:.0f}"])
    return table(rows)


def _r2(value: float | None) -> str:
    """Five decimals, which separate 0.999 from 0.99999; three digits for a very bad fit."""
    if value is None or math.isnan(value):
        return ""
    return f"{value:.5f}" if value > -10 else number(value)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def number(value: float) -> str:
    """Three significant digits, without a power of ten below 1e7."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """E.g. 45 s, 12 min, 3.5 h, 2.1 d."""
    if seconds < 100.0:
        return f"{seconds:.0f} s"
    if seconds < 6000.0:
        return f"{seconds / 60.0:.0f} min"
    return f"{seconds / 3600.0:.1f} h" if seconds < 172_800.0 else f"{seconds / 86_400.0:.1f} d"
