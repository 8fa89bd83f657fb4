"""The user's cache: what this machine has proved or compiled, readable and writable by its owner alone."""

import os
import stat
from pathlib import Path


def private_cache(name: str) -> Path | None:
    """Directory `eqff/<name>` of the user's cache ($XDG_CACHE_HOME or ~/.cache) that nobody else can write, or None."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eqff"
        for level in (root, root / name):
            level.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = level.lstat()
            if not stat.S_ISDIR(status.st_mode) or (os.name == "posix" and status.st_uid != os.getuid()):
                return None
            if os.name == "posix" and stat.S_IMODE(status.st_mode) != 0o700:
                level.chmod(0o700)
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return None
    return root / name
