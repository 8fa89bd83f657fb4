"""Which frames of a file: FILE@N and --index, written as ASE writes them: 0, -1, 2:5, ::10."""

import re
from collections.abc import Callable
from pathlib import Path

from eqff.errors import ConfigError, DataError

INDEX = re.compile(r"-?\d+|(-?\d*):(-?\d*)(:(-?\d*))?")
MANY = 2**62  # frames; stands for the end of a file whose frames are not counted


def split_index(place: str | Path) -> tuple[Path, str | None]:
    """FILE@INDEX -> (FILE, INDEX); (the path itself, None) without an index, or if a file has that very name."""
    path = Path(place)
    name, at, index = str(place).rpartition("@")
    if not at or not name or path.exists() or not INDEX.fullmatch(index):
        return path, None
    return Path(name), index


def check_index(index: str) -> int | slice:
    """The index as Python's int or slice.  Raises: ConfigError EQ1961 if it is neither"""
    try:
        if not INDEX.fullmatch(index):
            raise ValueError
        if ":" not in index:
            return int(index)
        found = slice(*(int(part) if part else None for part in index.split(":")))
        if found.step == 0:
            raise ValueError
        return found
    except ValueError:
        raise ConfigError(
            "EQ1961", f"index={index!r}: expected one frame or a range; give e.g. 0, -1, 2:5 or ::10"
        ) from None


def rows_of(path: Path, index: str | None, count: Callable[[], int], counted: bool = False) -> range:
    """Numbers of the frames that an index names.

    Args:    path: for messages; count: gives the number of frames, called only if needed, or if `counted`
    Returns: range; it may go beyond the end of a file whose frames were not counted
    Raises:  ConfigError EQ1961, DataError EQ3106 for an index outside the file
    """
    chosen = slice(None) if index is None else check_index(index)
    parts = [chosen] if isinstance(chosen, int) else [chosen.start, chosen.stop, chosen.step]
    n_frames = count() if counted or any(part is not None and part < 0 for part in parts) else MANY
    if isinstance(chosen, int):
        number = chosen + n_frames if chosen < 0 else chosen
        rows = range(number, number + 1) if 0 <= number < n_frames else range(0)
    else:
        rows = range(n_frames)[chosen]
    if index is not None and not rows:
        raise outside(path, index, None if n_frames == MANY else n_frames)
    return rows


def outside(path: Path, index: str, n_frames: int | None) -> DataError:
    """The error for an index that names no frame of the file."""
    has = "none of its frames" if n_frames is None else f"none of its {n_frames} frames"
    return DataError("EQ3106", f"{path}: index {index!r} names {has}; give e.g. 0, -1, 2:5 or :")
