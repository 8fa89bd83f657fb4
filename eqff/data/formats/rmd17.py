"""Revised MD17 npz: nuclear_charges [N], coords [n, N, 3], energies [n], forces [n, N, 3]; units are not in the file.

The keys old_energies and old_forces hold the original MD17 labels (another level of theory) and are not read.
Source: Christensen and von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from eqff.data.arrays import Trajectory, npz_names, read_npz
from eqff.data.frame import Frame
from eqff.data.options import ReadOptions
from eqff.data.units import Units
from eqff.errors import DataError

SUFFIXES = (".npz",)
WRITES = False
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


def write(path: str | Path, frames: Iterable[Frame]) -> None:
    """Never: this layout cannot state its units.  Raises: DataError EQ3027"""
    raise DataError("EQ3027", "the rMD17 layout cannot state its units; write the md17 layout, .h5 or .extxyz")


def _load(path: str | Path, options: ReadOptions) -> tuple[Trajectory, Units]:
    arrays = read_npz(path, required=NAMES[:2], optional=NAMES[2:])
    trajectory = Trajectory(path, arrays, NAMES)
    return trajectory, trajectory.units(options.energy_unit, options.length_unit)
