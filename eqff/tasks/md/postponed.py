"""Ctrl-C and SIGTERM wait for the end of a step, where the state of a simulation can be saved."""

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Postponed:
    """Within this context a first signal is kept until `deliver`; a second one acts at once, as before the context.

    Signals that are ignored stay ignored; in other threads than the main one nothing changes.

    Attributes: received: number of the signal that waits, 0 for none
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}  # signal -> handler

    def __enter__(self) -> "Postponed":
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            self._before = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}
        self._install()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._restore()
        if kind is None:  # a signal that came after the last step
            self.deliver()
            self._restore()

    def deliver(self) -> None:
        """Act as the handler before the context would; SIGTERM without a handler exits with 143, so that files close.

        A handler that returns lets the run go on.
        """
        if not self.received:
            return
        number, self.received = self.received, 0
        handler = self._before[number]
        if not callable(handler):
            raise SystemExit(128 + number)
        handler(number, None)
        self._install()

    def _install(self) -> None:
        for number in self._before:
            signal.signal(number, self._keep)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
