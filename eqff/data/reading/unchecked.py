"""All frames of a file as its format reads them, good or bad, for the checks of `eqff data check`."""

from dataclasses import dataclass
from pathlib import Path

from eqff.data.frame import Frame
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Stream
from eqff.errors import DataError


@dataclass(frozen=True)
class Reading:
    """Frames of a file, among them those that `check_frame` would refuse."""

    stream: Stream  # format, units and provenance
    frames: list[Frame]
    damage: DataError | None = None  # why reading ended early, if it did


def read_unchecked(path: str | Path, options: ReadOptions) -> Reading:
    """Read a file without checking its frames.

    Args:    path: FILE or FILE@INDEX; options: as for `read_frames`
    Returns: the frames before any damage, and the damage
    Raises:  DataError, ConfigError as `eqff.data.reading.read.Stream`; DataError for damage before the first frame
    """
    stream = Stream(path, options, checked=False)
    frames: list[Frame] = []
    try:
        for frame in stream:
            frames.append(frame)
    except DataError as error:
        if not frames:
            raise
        return Reading(stream, frames, error)
    return Reading(stream, frames)
