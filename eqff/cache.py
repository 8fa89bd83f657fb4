"""The user's folders: a cache of compiled programs and passed checks that only its owner can write, and data."""

import functools
import os
import stat
import warnings
from pathlib import Path

from eqff.errors import ConfigError


def user_folder(variable: str, default: str) -> Path:
    """Folder of the user by the XDG base directory specification, e.g. XDG_CACHE_HOME and ".cache".

    Raises: ConfigError EQ1501 for a relative path, which the specification calls invalid; RuntimeError without a home
    """
    given = os.environ.get(variable)
    if not given:
        return Path.home() / default
    if not Path(given).is_absolute():
        raise ConfigError(
            "EQ1501",
            f"{variable}={given!r} is a relative path: files would come from the working directory; "
            "give an absolute path, or unset it",
        )
    return Path(given)


def private_cache(name: str) -> Path | None:
    """Folder `eqff/<name>` of the user's cache, made if missing; None if it cannot be made or is not private.

    Programs that are loaded from it run with the user's rights.  A folder that belongs to someone else, or that others
    could write to, may hold their programs: it is not used, and one warning says so.

    Args:    name: e.g. "kernels", below $XDG_CACHE_HOME or ~/.cache
    Returns: a folder with mode 0700
    Raises:  ConfigError EQ1501
    """
    try:
        root = user_folder("XDG_CACHE_HOME", ".cache") / "eqff"
        for level in (root, root / name):
            level.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = level.lstat()
            if not stat.S_ISDIR(status.st_mode):
                return None
            if not _is_mine(status):
                _warn_once(level)
                return None
            if os.name == "posix" and stat.S_IMODE(status.st_mode) != 0o700:
                level.chmod(0o700)
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return None
    return root / name


def is_private_file(path: Path) -> bool:
    """Whether this is a regular file of this user that nobody else can write; only such files are loaded as code."""
    try:
        status = path.lstat()
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode):
        return False
    if not _is_mine(status):
        _warn_once(path)
        return False
    return True


def _is_mine(status: os.stat_result) -> bool:
    if os.name != "posix":
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@functools.cache
def _warn_once(path: Path) -> None:
    warnings.warn(
        f"{path} is not used: others can write to it; delete it, or set XDG_CACHE_HOME", UserWarning, stacklevel=4
    )
