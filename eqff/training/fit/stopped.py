"""The exceptions with which a run, or the compilation of its step, ends early."""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stopped(Exception):  # noqa: N818 - no error
    """The run ended before its last epoch, with a checkpoint to resume from.

    Attributes: signal: its number; 0 for the time limit
    """

    def __init__(self, number: int) -> None:
        super().__init__("time limit" if number == 0 else signal.Signals(number).name)
        self.signal = number


class Interrupted(BaseException):
    """A signal while the training step is compiled, which takes minutes and has nothing to save.

    No library that runs meanwhile catches it.  Attributes: signal: its number
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


class OutOfTime(BaseException):
    """The time limit was reached while the training step was compiled."""


@contextmanager
def time_limit(deadline: float) -> Iterator[None]:
    """Raise OutOfTime here when the deadline passes; does nothing outside the main thread, or without a deadline.

    Args: deadline: of time.monotonic()
    """
    if deadline == math.inf or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expired(number: int, frame: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, max(deadline - time.monotonic(), 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
