"""The exception with which a run ends early."""

import signal


class Stopped(Exception):  # noqa: N818 - no error
    """The run ended before its last epoch, with a checkpoint to resume from.

    Attributes: signal: its number; 0 for the time limit
    """

    def __init__(self, number: int) -> None:
        super().__init__("time limit" if number == 0 else signal.Signals(number).name)
        self.signal = number
