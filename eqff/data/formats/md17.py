"""MD17 and sGDML npz: R [n, N, 3], z [N], E [n] or [n, 1], F [n, N, 3]; units in r_unit and e_unit, where stated.

Source: Chmiela et al., Sci. Adv. 3, e1603015 (2017); sgdml's data set files.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from eqff.data.arrays import Trajectory, as_text, npz_names, read_npz
from eqff.data.frame import Frame, hill_formula
from eqff.data.options import ReadOptions
from eqff.data.units import Units
from eqff.errors import DataError
from eqff.units import KCAL_PER_MOL

SUFFIXES = (".npz",)
NAMES = ("z", "R", "E", "F")


def accepts(path: str | Path) -> bool:
    """Whether the archive has the keys of this layout."""
    return {"z", "R"} <= set(npz_names(path))


def read(path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]:
    """Frames in eV and Å.

    Args:   options: energy_unit is needed where the file has no e_unit
    Raises: DataError for a damaged file, missing keys, wrong shapes, units that are not stated
    """
    trajectory, units, lattice = _load(path, options or ReadOptions())
    for frame in trajectory.frames(units, {}):
        if lattice is None:
            yield frame
        else:
            yield Frame(**{**vars(frame), "cell": lattice * units.length_factor, "pbc": np.ones(3, dtype=bool)})


def units(path: str | Path, options: ReadOptions | None = None) -> Units:
    """The units `read` uses for this file, and how they were decided."""
    return _load(path, options or ReadOptions())[1]


def write(path: str | Path, frames: Iterable[Frame]) -> None:
    """Write frames of one molecule in this layout, in kcal/mol and Å, with units and sGDML's md5 stated.

    Raises: DataError EQ3026 if frames differ in their atoms, are periodic, or lack energy or forces
    """
    frames = list(frames)
    if not frames:
        raise DataError("EQ3025", "there are no frames to write")
    for index, frame in enumerate(frames):
        if not np.array_equal(frame.atomic_numbers, frames[0].atomic_numbers):
            reason = "has other atoms than frame 0"
        elif frame.energy is None or frame.forces is None:
            reason = "has no energy or no forces"
        elif np.any(frame.pbc):
            reason = "is periodic"
        else:
            continue
        raise DataError("EQ3026", f"frame {index} {reason}, which the MD17 layout cannot hold; write .h5 or .extxyz")
    arrays: dict[str, Any] = {
        "z": frames[0].atomic_numbers.astype(np.uint8),
        "R": np.stack([frame.positions for frame in frames]),
        "E": np.array([[frame.energy] for frame in frames]) / KCAL_PER_MOL,
        "F": np.stack([frame.forces for frame in frames if frame.forces is not None]) / KCAL_PER_MOL,
    }
    digest = hashlib.md5(usedforsecurity=False)
    for name in ("z", "R", "E", "F"):
        digest.update(hashlib.md5(arrays[name].ravel(), usedforsecurity=False).digest())
    with open(path, "wb") as file:
        np.savez_compressed(
            file,
            **arrays,
            type=np.array("d"),
            name=np.array(hill_formula(frames[0].atomic_numbers)),
            theory=np.array("unknown"),
            r_unit=np.array("Ang"),
            e_unit=np.array("kcal/mol"),
            md5=np.array(digest.hexdigest().encode("ascii")),
        )


def _load(path: str | Path, options: ReadOptions) -> tuple[Trajectory, Units, np.ndarray | None]:
    arrays = read_npz(path, required=("z", "R"), optional=("E", "F", "r_unit", "e_unit", "lattice"))
    trajectory = Trajectory(path, arrays, NAMES)
    stated = as_text(arrays.get("e_unit")), as_text(arrays.get("r_unit"))
    lattice = arrays.get("lattice")
    if lattice is not None:
        if lattice.shape != (3, 3):
            raise DataError("EQ3023", f"{path}: lattice has shape {lattice.shape}, expected (3, 3)")
        lattice = np.ascontiguousarray(lattice.astype(np.float64).T)  # sGDML keeps lattice vectors as columns
    return trajectory, trajectory.units(options.energy_unit, options.length_unit, stated), lattice
