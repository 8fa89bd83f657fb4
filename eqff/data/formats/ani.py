"""ANI data sets as HDF5: ANI-1x and ANI-2x with forces, ANI-1 without; Hartree and Å.

    ANI-1x   group by formula: atomic_numbers [N], coordinates [n, N, 3], wb97x_dz.energy [n], wb97x_dz.forces [n, N, 3]
    ANI-2x   group by number of atoms: species [n, N], coordinates, energies, forces
    ANI-1    groups of groups: species [N] as symbols, coordinates, energies

The energy of ANI-1x is wb97x_dz.energy unless energy_key names another, e.g. ccsd(t)_cbs.energy; frames where it is NaN
(which says: not computed) have no energy.  Source: Smith et al., Sci. Data 7, 134 (2020) and 4, 170193 (2017).
"""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from eqff.data.frame import Frame
from eqff.data.reading.file_units import Units, decide_units
from eqff.data.reading.foreign_hdf5 import array, expect, groups, names_in_groups, opened, row_blocks
from eqff.data.reading.format import Format
from eqff.data.reading.options import ReadOptions
from eqff.elements import ATOMIC_NUMBERS
from eqff.errors import DataError

ENERGIES, FORCES, NUMBERS = (
    ("wb97x_dz.energy", "energies"),
    ("wb97x_dz.forces", "forces"),
    ("atomic_numbers", "species"),
)


def accepts(path: str | Path) -> bool:
    """Whether the first group, or the first in it, has coordinates and species."""
    return any("coordinates" in names and names & set(NUMBERS) for names in names_in_groups(path))


def read(path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]:
    """Frames in eV and Å.

    Raises: DataError for a damaged file, missing arrays, shapes that do not fit
    """
    options = options or ReadOptions()
    decided = units(path, options)
    empty = True
    with opened(path) as file:
        for _, outer in groups(file):
            for group in [outer] if "coordinates" in outer else [inner for _, inner in groups(outer)]:
                for frame in _frames(group, options, decided):
                    empty = False
                    yield frame
    if empty:
        raise DataError("EQ3025", f"{path}: there are no frames to read; check that the file is complete")


def units(path: str | Path, options: ReadOptions | None = None) -> Units:
    """Hartree and Å, by the publications."""
    options = options or ReadOptions()
    with opened(path):
        pass
    return decide_units(
        str(path), energy=(options.energy_unit, None, "Hartree"), length=(options.length_unit, None, "Å")
    )


def _frames(group: h5py.Group, options: ReadOptions, units: Units) -> Iterator[Frame]:
    where = f"{group.file.filename}: group {group.name}"
    positions = array(group, "coordinates")
    numbers = next((found for name in NUMBERS if (found := array(group, name, "iuOS")) is not None), None)
    if positions is None or numbers is None or positions.ndim != 3:
        raise DataError(
            "EQ3912",
            f"{where} has no coordinates of shape (n, N, 3), or no species; "
            "check that this is a file of ANI-1, ANI-1x or ANI-1ccx",
        )
    n_frames, n_atoms = positions.shape[:2]
    expect(positions, ((n_frames, n_atoms, 3),))
    energy_key, energies = _labels(group, ENERGIES, options.energy_key)
    _, forces = _labels(group, FORCES, options.forces_key)
    expect(energies, ((n_frames,), (n_frames, 1)))
    expect(forces, ((n_frames, n_atoms, 3),))
    expect(numbers, ((n_frames, n_atoms), (n_atoms,)))
    fixed = _numbers(numbers, where) if numbers.ndim == 1 else None
    if not n_frames or not n_atoms:
        return
    of_frames = numbers if fixed is None and numbers.dtype.kind in "iu" else None
    if fixed is None and of_frames is None:
        raise DataError("EQ3926", f"{where}: species [n, N] are not numbers; write them as atomic numbers")
    for kinds, xyz, energy, force in row_blocks(of_frames, positions, energies, forces):
        for row in range(len(xyz)):
            has_energy = energy is not None and not np.isnan(energy[row]).all()
            has_forces = force is not None and not np.isnan(force[row]).all()
            if has_energy:
                options.log.names["energy", energy_key] += 1
            yield Frame(
                atomic_numbers=fixed if fixed is not None else kinds[row],
                positions=xyz[row] * units.length_factor,
                energy=float(energy[row].reshape(())) * units.energy_factor if has_energy else None,
                forces=force[row] * units.force_factor if has_forces else None,
            )


def _labels(group: h5py.Group, names: tuple[str, ...], key: str | None) -> tuple[str, h5py.Dataset | None]:
    """Name and array of a label: under the name that the caller gave, or the first of `names` that is there."""
    if key == "none":
        return "", None
    for name in names if key is None else (key,):
        found = array(group, name)
        if found is not None:
            return name, found
    return "", None


def _numbers(species: h5py.Dataset, where: str) -> np.ndarray:
    """Atomic numbers of one molecule, from numbers or from symbols as bytes.  Raises: DataError EQ3927"""
    values = species[:]
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    symbols = [value.decode("ascii", "replace") if isinstance(value, bytes) else str(value) for value in values]
    unknown = [symbol for symbol in symbols if symbol not in ATOMIC_NUMBERS]
    if unknown:
        raise DataError(
            "EQ3927", f"{where}: species has {unknown[0]!r}, expected chemical symbols; correct the symbols"
        )
    return np.array([ATOMIC_NUMBERS[symbol] for symbol in symbols])


FORMAT = Format(
    summary="ANI-1, ANI-1x and ANI-2x, HDF5",
    suffixes=(".h5", ".hdf5"),
    read=read,
    units=units,
    accepts=accepts,
    takes_keys=True,
)
