"""The user's cache of compiled programs and passed checks, which only its owner can read and write."""

import os
import stat
from pathlib import Path


def private_cache(name: str) -> Path | None:
    """Folder `eqff/<name>` of the user's cache, made if missing; None if it cannot be made or belongs to someone else.

    Programs that are loaded from it run with the user's rights, so nobody else may write there.

    Args:    name: e.g. "kernels", below $XDG_CACHE_HOME or ~/.cache
    Returns: a folder with mode 0700
    """
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
