"""MD17, MD22 and sGDML npz: R [n, N, 3], z [N], E [n] or [n, 1], F [n, N, 3]; units in r_unit and e_unit, where stated.

Source: Chmiela et al., Sci. Adv. 3, e1603015 (2017); sgdml's data set files.
"""

import hashlib
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from eqff.data.frame import Frame, hill_formula
from eqff.data.reading.file_units import Units
from eqff.data.reading.format import Format
from eqff.data.reading.npz import BLOCK, Rows, as_text, npz_names, open_npz
from eqff.data.reading.npz_trajectory import Trajectory, frame_count
from eqff.data.reading.options import ReadOptions
from eqff.errors import DataError
from eqff.units import KCAL_PER_MOL

NAMES = ("z", "R", "E", "F")
STATED = ("e_unit", "r_unit", "theory", "name")


def accepts(path: str | Path) -> bool:
    """Whether the archive has the keys of this layout."""
    names = set(npz_names(path))
    return {"z", "R"} <= names


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


def count(path: str | Path) -> int:
    """Number of frames, from the header of the positions."""
    return frame_count(path, NAMES[1])


def provenance(path: str | Path) -> dict[str, str]:
    """Level of theory and name of the molecule, where the file states them."""
    stated = _stated(path)
    found = {"level_of_theory": stated["theory"], "origin_name": stated["name"]}
    return {name: text for name, text in found.items() if text and text != "unknown"}


def write(path: str | Path, frames: Iterable[Frame], provenance: Mapping[str, str] | None = None) -> None:
    """Write frames of one molecule in this layout, in kcal/mol and Å, with units and sGDML's md5 stated.

    Other programs take kcal/mol for granted; the conversion rounds the last of 16 digits.

    Raises: DataError EQ3026 if frames differ in their atoms, are periodic, or lack energy or forces
    """
    numbers: np.ndarray | None = None
    n_frames = 0
    with tempfile.TemporaryFile() as r, tempfile.TemporaryFile() as e, tempfile.TemporaryFile() as f:
        for index, frame in enumerate(frames):
            numbers = frame.atomic_numbers if numbers is None else numbers
            _check(frame, numbers, index)
            r.write(np.asarray(frame.positions, dtype="<f8").tobytes())
            e.write((np.array(frame.energy, dtype="<f8") / KCAL_PER_MOL).tobytes())
            f.write((np.asarray(frame.forces, dtype="<f8") / KCAL_PER_MOL).tobytes())
            n_frames += 1
        if numbers is None:
            raise DataError("EQ3920", "there are no frames to write; give at least one")
        shape = (n_frames, len(numbers), 3)
        digest = hashlib.md5(
            hashlib.md5(numbers.astype(np.uint8).tobytes(), usedforsecurity=False).digest(), usedforsecurity=False
        )
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            _save(archive, "z", numbers.astype(np.uint8))
            for name, file, size in (("R", r, shape), ("E", e, (n_frames, 1)), ("F", f, shape)):
                digest.update(_copy(archive, name, file, size))
            _save(archive, "type", np.array("d"))
            _save(archive, "name", np.array(hill_formula(numbers)))
            _save(archive, "theory", np.array("unknown"))
            _save(archive, "r_unit", np.array("Ang"))
            _save(archive, "e_unit", np.array("kcal/mol"))
            _save(archive, "md5", np.array(digest.hexdigest().encode("ascii")))


def _check(frame: Frame, numbers: np.ndarray, index: int) -> None:
    if not np.array_equal(frame.atomic_numbers, numbers):
        reason = "has other atoms than frame 0"
    elif frame.energy is None or frame.forces is None:
        reason = "has no energy or no forces"
    elif np.any(frame.pbc):
        reason = "is periodic"
    else:
        return
    raise DataError("EQ3026", f"frame {index} {reason}, which the MD17 layout cannot hold; write .h5 or .extxyz")


def _save(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w") as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def _copy(archive: zipfile.ZipFile, name: str, file: IO[bytes], shape: tuple[int, ...]) -> bytes:
    """Raw float64 numbers of a file as a member of that shape; returns the MD5 of the numbers."""
    digest = hashlib.md5(usedforsecurity=False)
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    file.seek(0)
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        while content := file.read(BLOCK):
            digest.update(content)
            member.write(content)
    return digest.digest()


def _stated(path: str | Path) -> dict[str, str | None]:
    """What the file says in words; anything that is not one short text says nothing."""
    present = npz_names(path)
    found: dict[str, str | None] = dict.fromkeys(STATED)
    for name in STATED:
        if name in present:
            rows = Rows(path, name)
            if rows.dtype.kind in "SU" and rows.dtype.itemsize < 10_000 and rows.shape in ((), (1,)):
                found[name] = as_text(rows.whole())
    return found


def _load(path: str | Path, options: ReadOptions) -> tuple[Trajectory, Units, np.ndarray | None]:
    arrays = open_npz(path, required=("z", "R"), optional=("E", "F", "lattice"))
    trajectory = Trajectory(path, arrays, NAMES)
    stated = _stated(path)
    lattice = None
    if "lattice" in arrays:
        if arrays["lattice"].shape != (3, 3) or arrays["lattice"].dtype.kind not in "iuf":
            found = f"shape {arrays['lattice'].shape} and dtype {arrays['lattice'].dtype}"
            raise DataError(
                "EQ3916",
                f"{path}: lattice has {found}, expected numbers of shape (3, 3); "
                "write the lattice vectors as rows, in Å",
            )
        # sGDML keeps lattice vectors as columns
        lattice = np.ascontiguousarray(arrays["lattice"].whole().astype(np.float64).T)
    decided = trajectory.units(options.energy_unit, options.length_unit, (stated["e_unit"], stated["r_unit"]))
    return trajectory, decided, lattice


FORMAT = Format(
    summary="MD17, MD22 and sGDML, npz",
    suffixes=(".npz",),
    read=read,
    units=units,
    accepts=accepts,
    write=write,
    provenance=provenance,
    count=count,
)
