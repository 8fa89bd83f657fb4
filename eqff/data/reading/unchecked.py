"""All frames of a file as its format reads them, good or bad, for the checks of `eqff data check`."""

from dataclasses import dataclass
from pathlib import Path

from eqff import registry
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


def read_unchecked(path: str | Path, options: ReadOptions, *, format: str | None = None) -> Reading:
    """Read a file without checking its frames.

    Args:    path; options: as for `read_frames`; format: a name in data/formats, chosen by the file if None
    Returns: the frames before any damage, and the damage
    Raises:  DataError, ConfigError as `eqff.data.reading.read.Stream`; DataError for damage before the first frame
    """
    stream = Stream(path, options, format=format)
    module = registry.load("data.formats", stream.format)
    frames: list[Frame] = []
    try:
        for frame in module.read(stream.path, options.fresh()):
            frames.append(frame)
    except DataError as error:
        if not frames:
            raise
        return Reading(stream, frames, error)
    return Reading(stream, frames)
