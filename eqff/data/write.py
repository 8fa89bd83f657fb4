"""The back door: frames to a data file, its format chosen by suffix, written whole or not at all."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from eqff import registry
from eqff.data.atomic import new_file
from eqff.data.frame import Frame, check_frame
from eqff.data.read import candidates
from eqff.data.store import write_store
from eqff.errors import DataError


def write_frames(
    path: str | Path,
    frames: Iterable[Frame],
    *,
    format: str | None = None,
    provenance: Mapping[str, str] | None = None,
    force: bool = False,
) -> None:
    """Write frames in eV and Å (or what the format states in the file).

    Args:   path: .h5, .extxyz, .xyz or .npz (MD17 layout, one molecule); format: a name in data/formats, for a suffix
            that says nothing; provenance: kept where the format has room (the store); force: replace an existing file
    Raises: DataError EQ3070 if the file exists, EQ3040 no such format, EQ3042 one only read, and what the
            format refuses
    """
    name = format or _writable(path)
    if name == "hdf5":
        write_store(path, frames, provenance=provenance, force=force)
        return
    module = registry.load("data.formats", name)
    frames = list(frames)
    for index, frame in enumerate(frames):
        check_frame(frame, f"{path}: frame {index}")
    with new_file(path, force=force) as temporary:
        module.write(temporary, frames)


def _writable(path: str | Path) -> str:
    for name, module in candidates(path).items():
        if getattr(module, "WRITES", True):
            return name
    raise DataError("EQ3042", f"{path}: formats with this suffix can only be read; use .h5 or .extxyz")
