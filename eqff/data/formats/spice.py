"""SPICE HDF5: one group a molecule, conformations in Bohr, energies in Hartree, gradients (not forces) in Hartree/Bohr.

The energy is dft_total_energy unless energy_key says formation_energy.
Source: Eastman et al., Sci. Data 10, 11 (2023).
"""

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from eqff.data.frame import Frame
from eqff.data.reading.file_units import Units, decide_units
from eqff.data.reading.foreign_hdf5 import array, expect, first_group, groups, names_in_groups, opened, row_blocks
from eqff.data.reading.format import Format
from eqff.data.reading.options import ReadOptions
from eqff.errors import DataError

ENERGY, GRADIENT = "dft_total_energy", "dft_total_gradient"


def accepts(path: str | Path) -> bool:
    """Whether the first group has conformations."""
    return any({"atomic_numbers", "conformations"} <= names for names in names_in_groups(path)[:1])


def read(path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]:
    """Frames in eV and Å; name, subset and SMILES of the molecule in info.

    Raises: DataError for a damaged file, missing arrays, shapes that do not fit
    """
    options = options or ReadOptions()
    decided = units(path, options)
    energy_key = options.energy_key or ENERGY
    empty = True
    with opened(path) as file:
        for name, group in groups(file):
            numbers, positions = array(group, "atomic_numbers", "iu"), array(group, "conformations")
            if numbers is None or positions is None:
                raise DataError(
                    "EQ3913",
                    f"{path}: group {name} has no atomic_numbers, or no conformations; "
                    "download the file again or remove the group",
                )
            expect(numbers, (positions.shape[1:2],))
            expect(positions, ((*positions.shape[:1], *numbers.shape, 3),))
            energies = None if energy_key == "none" else array(group, energy_key)
            gradients = None if options.forces_key == "none" else array(group, GRADIENT)
            expect(energies, (positions.shape[:1],))
            expect(gradients, (positions.shape,))
            info = {"name": name} | {key: text for key in ("subset", "smiles") if (text := _text(group, key))}
            atomic_numbers = numbers[:].astype(np.int64)
            for xyz, energy, gradient in row_blocks(positions, energies, gradients):
                for row in range(len(xyz)):
                    empty = False
                    if energy is not None:
                        options.log.names["energy", energy_key] += 1
                    yield Frame(
                        atomic_numbers=atomic_numbers,
                        positions=xyz[row] * decided.length_factor,
                        energy=None if energy is None else float(energy[row]) * decided.energy_factor,
                        forces=None if gradient is None else -gradient[row] * decided.force_factor,
                        info=dict(info),
                    )
    if empty:
        raise DataError("EQ3025", f"{path}: there are no frames to read; check that the file is complete")


def units(path: str | Path, options: ReadOptions | None = None) -> Units:
    """Hartree and Bohr, as the arrays state in their attributes, or by the publication."""
    options = options or ReadOptions()
    with opened(path) as file:
        group = first_group(file)
        stated = [None if group is None else _stated(group, name) for name in (ENERGY, "conformations")]
    return decide_units(
        str(path),
        energy=(options.energy_unit, stated[0], "Hartree"),
        length=(options.length_unit, stated[1], "Bohr"),
    )


def _stated(group: h5py.Group, name: str) -> str | None:
    """The attribute `units` of an array, where it is text."""
    found = array(group, name)
    unit = None if found is None else found.attrs.get("units")
    return unit.decode("utf-8", "replace") if isinstance(unit, bytes) else unit if isinstance(unit, str) else None


def _text(group: h5py.Group, name: str) -> str | None:
    """One text of a molecule, if there is one."""
    found = array(group, name, "OSU")
    if found is None or found.size != 1:
        return None
    value = np.asarray(found[()]).reshape(-1)[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


FORMAT = Format(
    summary="SPICE, HDF5",
    suffixes=(".h5", ".hdf5"),
    read=read,
    units=units,
    accepts=accepts,
    takes_keys=True,
)
