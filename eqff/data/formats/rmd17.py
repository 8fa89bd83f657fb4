"""Revised MD17 npz: nuclear_charges [N], coords [n, N, 3], energies [n], forces [n, N, 3]; units are not in the file.

The keys old_energies and old_forces hold the original MD17 labels (another level of theory) and are not read.
Source: Christensen and von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020).
"""

from collections.abc import Iterator
from pathlib import Path

from eqff.data.frame import Frame
from eqff.data.reading.file_units import Units
from eqff.data.reading.format import Format
from eqff.data.reading.npz import npz_names, open_npz
from eqff.data.reading.npz_trajectory import Trajectory, frame_count
from eqff.data.reading.options import ReadOptions

NAMES = ("nuclear_charges", "coords", "energies", "forces")


def accepts(path: str | Path) -> bool:
    """Whether the archive has the keys of this layout."""
    return {"nuclear_charges", "coords"} <= set(npz_names(path))


def read(path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]:
    """Frames in eV and Å.

    Args:   options: energy_unit is needed, the layout does not state it (the published files are in kcal/mol)
    Raises: DataError for a damaged file, missing keys, wrong shapes, units that are not stated
    """
    trajectory, units = _load(path, options or ReadOptions())
    yield from trajectory.frames(units, {})


def units(path: str | Path, options: ReadOptions | None = None) -> Units:
    """The units `read` uses for this file, and how they were decided."""
    return _load(path, options or ReadOptions())[1]


def count(path: str | Path) -> int:
    """Number of frames, from the header of the positions."""
    return frame_count(path, NAMES[1])


def _load(path: str | Path, options: ReadOptions) -> tuple[Trajectory, Units]:
    arrays = open_npz(path, required=NAMES[:2], optional=NAMES[2:])
    trajectory = Trajectory(path, arrays, NAMES)
    return trajectory, trajectory.units(options.energy_unit, options.length_unit)


FORMAT = Format(
    summary="revised MD17, npz",
    suffixes=(".npz",),
    read=read,
    units=units,
    accepts=accepts,
    count=count,
)
