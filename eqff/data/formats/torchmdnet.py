"""HDF5 of TorchMD-Net, also written for NequIP: groups of frames with equal atoms; units are not in the file.

    types (or atomic_numbers) [n, N] or [N], pos [n, N, 3], energy [n], forces [n, N, 3]; the group _metadata is ignored

Source: torchmd-net's HDF5 data set; nequip's HDF5Dataset.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from eqff.data.frame import Frame
from eqff.data.reading.file_units import Units, decide_units
from eqff.data.reading.foreign_hdf5 import array, expect, groups, names_in_groups, opened, row_blocks
from eqff.data.reading.format import Format
from eqff.data.reading.options import ReadOptions
from eqff.errors import DataError

NUMBERS = ("types", "atomic_numbers")
N_FRAMES_TO_JUDGE = 1000


class Group(NamedTuple):
    """Data sets of one group, shapes checked."""

    numbers: h5py.Dataset
    positions: h5py.Dataset
    energies: h5py.Dataset | None
    forces: h5py.Dataset | None


def accepts(path: str | Path) -> bool:
    """Whether the first group has positions and types of atoms under the names of this layout."""
    return any("pos" in names and names & set(NUMBERS) for names in names_in_groups(path)[:1])


def read(path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]:
    """Frames in eV and Å.

    Args:   options: energy_unit is needed
    Raises: DataError for a damaged file, shapes that do not fit, units that are not stated
    """
    decided = units(path, options)
    with opened(path) as file:
        for group in _groups(file):
            fixed = group.numbers[:].astype(np.int64) if group.numbers.ndim == 1 else None
            of_frames = group.numbers if fixed is None else None
            for numbers, positions, energies, forces in row_blocks(
                of_frames, group.positions, group.energies, group.forces
            ):
                for row in range(len(positions)):
                    yield Frame(
                        atomic_numbers=fixed if fixed is not None else numbers[row],
                        positions=positions[row] * decided.length_factor,
                        energy=None if energies is None else float(energies[row].reshape(())) * decided.energy_factor,
                        forces=None if forces is None else forces[row] * decided.force_factor,
                    )


def units(path: str | Path, options: ReadOptions | None = None) -> Units:
    """The units `read` uses for this file, judged by its first group."""
    options = options or ReadOptions()
    with opened(path) as file:
        first = next(_groups(file), None)
        if first is None:
            raise DataError("EQ3025", f"{path}: there are no frames to read; check that the file is complete")
        numbers, positions, energies, forces = next(
            row_blocks(
                first.numbers if first.numbers.ndim == 2 else None, first.positions, first.energies, first.forces
            )
        )
        kinds = [first.numbers[:]] * len(positions) if numbers is None else list(numbers)
    return decide_units(
        str(path),
        energy=(options.energy_unit, None, None),
        length=(options.length_unit, None, "Å"),
        forces=None if forces is None else forces[:N_FRAMES_TO_JUDGE],
        energies=([] if energies is None else energies.reshape(-1)[: len(kinds)].tolist(), kinds)
        if energies is not None
        else ([], []),
    )


def _groups(file: h5py.File) -> Iterator[Group]:
    for name, group in groups(file):
        if name.startswith("_"):
            continue
        numbers = next((found for key in NUMBERS if (found := array(group, key, "iu")) is not None), None)
        positions = array(group, "pos")
        if numbers is None or positions is None:
            raise DataError(
                "EQ3914",
                f"{file.filename}: group {name} has no pos, or no types of atoms; "
                "add both arrays to the group or remove it",
            )
        if positions.ndim != 3 or positions.shape[2] != 3:
            array_name, expected = f"{name}/pos", "(n, N, 3)"
            message = (
                f"{file.filename}: {array_name} has shape {positions.shape}, expected {expected}; write the array again"
            )
            raise DataError("EQ3023", message)
        if not positions.shape[0] or not positions.shape[1]:
            continue
        n_frames, n_atoms = positions.shape[:2]
        found = Group(numbers, positions, array(group, "energy"), array(group, "forces"))
        expect(found.numbers, ((n_frames, n_atoms), (n_atoms,)))
        expect(found.energies, ((n_frames,), (n_frames, 1)))
        expect(found.forces, ((n_frames, n_atoms, 3),))
        yield found


FORMAT = Format(
    summary="TorchMD-Net and NequIP, HDF5",
    suffixes=(".h5", ".hdf5"),
    read=read,
    units=units,
    accepts=accepts,
)
