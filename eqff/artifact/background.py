"""Compiling a potential behind a running simulation, and changing over when the program is verified."""

import atexit
import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time

from eqff.artifact.compiled import accelerated
from eqff.artifact.lookup import PACKAGE
from eqff.artifact.potential import Potential

START_AFTER = 20.0  # s of evaluations: a run that took so long is likely to go on
ASK_EVERY = 1.0  # s
logger = logging.getLogger("eqff.accelerate")


class Acceleration:
    """Watches how long evaluations take, compiles in a process of low priority, hands the program over.

    What happens is logged to "eqff.accelerate".  A compilation ends when this process ends, unless that is killed.

    Args: potential: as it runs now; exact: without radial splines; start_after: s of evaluations before compiling
    """

    def __init__(self, potential: Potential, exact: bool, start_after: float = START_AFTER) -> None:
        self.potential, self.exact, self.start_after = potential, exact, start_after
        self.n_evaluations, self.seconds, self.asked = 0, 0.0, 0.0
        self.process: subprocess.Popen[bytes] | None = None
        possible = potential.path is not None and potential.device.type == "cpu" and potential.program == "TorchScript"
        self.done = not possible

    def step(self, seconds: float) -> Potential | None:
        """To be called after every evaluation with the time it took: the compiled potential, once it is there."""
        self.n_evaluations += 1
        self.seconds += seconds
        if self.done or self.seconds < self.start_after or time.monotonic() < self.asked + ASK_EVERY:
            return None
        self.asked = time.monotonic()
        if self.process is None:
            self._start()
            return None
        if self.process.poll() is None:
            return None
        self.done = True
        return self._finish()

    def _start(self) -> None:
        options = ["--dtype", str(self.potential.dtype).removeprefix("torch."), "--quiet"]
        options += ["--exact"] if self.exact else []
        path = os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        code = "import os; getattr(os, 'nice', lambda _: 0)(10); from eqff.cli import main; main()"
        self.messages = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, "compile", str(self.potential.path), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.messages,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1", "PYTHONPATH": path},
            start_new_session=True,  # so that compilers it starts can be ended with it
        )
        atexit.register(self.stop)
        name = self.potential.path.name if self.potential.path else "potential"
        logger.info("evaluation %d: compiling %s in the background", self.n_evaluations, name)

    def _finish(self) -> Potential | None:
        reason = self._reason()
        self.stop()
        faster = accelerated(self.potential, self.exact)
        if faster is None:
            logger.warning("compiling failed, going on with TorchScript: %s", reason)
            return None
        logger.info("evaluation %d: from here on %s", self.n_evaluations, faster.program)
        return faster

    def _reason(self) -> str:
        self.messages.seek(0)
        lines = self.messages.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.process.returncode if self.process else None}"

    def stop(self) -> None:
        """End a compilation, also one that still runs."""
        self.done = True
        atexit.unregister(self.stop)
        if self.process is not None:
            if self.process.poll() is None:
                _end(self.process)
            self.messages.close()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """With all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5.0)
            return
