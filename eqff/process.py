"""eqff's own command line as a child process: the one place where eqff starts itself."""

import os
import subprocess
import sys
from contextlib import suppress

NICE = 10  # of children that must not slow down the process that waits for them


def eqff_command(*arguments: str) -> list[str]:
    """`eqff <arguments>` run by this Python; -P: the working directory shadows no module."""
    return [sys.executable, "-P", "-m", "eqff", *arguments]


def lower_priority(process: "subprocess.Popen[bytes]") -> None:
    """Give way to other processes, where the system knows priorities."""
    if hasattr(os, "setpriority"):
        with suppress(OSError):  # it has ended already
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
