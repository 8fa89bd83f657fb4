"""The back door: frames to a data file, its format chosen by suffix, written whole or not at all."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from eqff.data.frame import Frame, check_frame
from eqff.data.reading.format import candidates, format_named
from eqff.errors import DataError
from eqff.files import new_file, new_folder


def write_frames(
    path: str | Path,
    frames: Iterable[Frame],
    *,
    format: str | None = None,
    provenance: Mapping[str, str] | None = None,
    force: bool = False,
) -> None:
    """Write frames in eV and Å (or what the format states in the file); they are taken one after the other.

    Args:   path: .h5, .extxyz, .xyz, .npz (MD17 layout, one molecule), .db (ASE) or .traj; format: a name in
            data/formats, for a suffix that says nothing, and for a folder ("deepmd"); provenance: kept where the format
            has room (the store); force: replace an existing file
    Raises: DataError EQ3070 if the file exists, EQ3040 no such format, EQ3042, EQ3934 one only read, EQ3077 a
            folder where a file is meant, and what the format refuses
    """
    name = format or _writable(path)
    chosen = format_named(name)
    if chosen.write is None:
        raise DataError("EQ3042", f"{path}: format {name} can only be read; use .h5 or .extxyz")
    making = new_folder(path) if chosen.writes_folder else new_file(path, force=force)
    with making as temporary:
        chosen.write(temporary, _checked(frames, str(path)), provenance or {})


def _checked(frames: Iterable[Frame], where: str) -> Iterator[Frame]:
    for index, frame in enumerate(frames):
        check_frame(frame, f"{where}: frame {index}")
        yield frame


def _writable(path: str | Path) -> str:
    if Path(path).is_dir():
        raise DataError("EQ3077", f"{path}: is a folder; name a file in it, e.g. {Path(path) / 'frames.h5'}")
    for name, format in candidates(path).items():
        if format.write is not None and not format.writes_folder:
            return name
    what = "formats with this suffix can only be read" if Path(path).suffix else "the suffix says the format"
    raise DataError("EQ3934", f"{path}: {what}; use .h5 or .extxyz, or name a format (--to deepmd)")
