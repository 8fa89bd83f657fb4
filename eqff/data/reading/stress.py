"""The stress of a frame, from what a file calls stress or virial, in eV/Å^3, with ASE's sign and in Voigt's order.

name of the label                           what it is                                     six numbers are
stress, REF_stress, dft_stress ...          a stress with ASE's sign (negative pressure)   Voigt: xx yy zz yz xz xy
virial, REF_virial ...                      -stress * volume, an energy                    refused without an order
any other name, e.g. virial_stress, sigma   a stress whose unit must be stated             refused without an order

The order `vasp` is xx yy zz xy yz zx, positive under compression.  Nine numbers need no order, but with `vasp` their
sign is VASP's, too.
"""

from typing import Any

import numpy as np

from eqff.data.reading.file_units import Units
from eqff.data.reading.options import ReadOptions
from eqff.errors import ConfigError, DataError
from eqff.units import VOIGT

STRESS_KEYS = "stress REF_stress ref_stress dft_stress DFT_stress".split()
VIRIAL_KEYS = "virial virials REF_virial REF_virials dft_virial DFT_virial".split()
USUAL = {name.lower() for name in STRESS_KEYS}
VASP = (0, 1, 2, 4, 5, 3)  # the numbers of a file in VASP's order that are xx yy zz yz xz xy
ROUNDING = 1e-5  # in the file's unit
ORDERS = ("voigt", "vasp")


def is_virial(name: str) -> bool:
    """Whether a name means a virial, an energy, and not a stress."""
    return "virial" in name.lower() and "stress" not in name.lower()


def check_order(order: str | None) -> None:
    """Raises: ConfigError EQ1008"""
    if order is not None and order not in ORDERS:
        raise ConfigError("EQ1008", f"stress_order={order!r} is unknown; choose voigt or vasp")


def from_label(value: Any, name: str, cell: np.ndarray, options: ReadOptions, units: Units, where: str) -> np.ndarray:
    """[6] eV/Å^3 of a stress or a virial.

    Args:   value: six or nine numbers; name: in the file; cell [3, 3] in the file's unit of length
    Raises: DataError EQ3605 six numbers in an unknown order, EQ3606 a stress in an unknown unit, EQ3034 a virial
            without volume, EQ3608 numbers of another shape, or no symmetric matrix
    """
    virial = is_virial(name)
    known = name.lower() in USUAL
    if np.size(value) == 6 and not known and options.stress_order is None:
        raise DataError(
            "EQ3605",
            f"{where}: {name!r} has six numbers, and their order is not known from its name; pass stress_order "
            "(--stress-order voigt: xx yy zz yz xz xy; vasp: xx yy zz xy yz zx, positive under compression)",
        )
    open_length = units.energy in ("Hartree", "Rydberg") and units.length_source.startswith("convention")
    if not virial and units.stress is None and (not known or open_length):
        raise DataError(
            "EQ3606",
            f"{where}: the unit of {name!r} is not known; pass stress_unit (--stress-unit eV/Å^3, GPa, kbar ...)",
        )
    try:
        six = voigt(value, options.stress_order)
    except (TypeError, ValueError) as error:
        raise DataError(
            "EQ3608",
            f"{where}: {name!r} is no stress ({error}); repair it, choose another name with --stress-key, or use "
            "--stress-key none",
        ) from None
    if virial:
        return -six * units.energy_factor / _volume(cell, where) / units.length_factor**3
    return six * units.stress_factor * (-1.0 if options.stress_order == "vasp" else 1.0)


def voigt(stress: Any, order: str | None = None) -> np.ndarray:
    """6 numbers, or a 3 x 3 matrix as 9 numbers -> [6] in the order xx, yy, zz, yz, xz, xy; the sign is kept.

    Raises: ValueError for any other number of numbers, and a matrix that is not symmetric
    """
    array = np.asarray(stress)
    if array.dtype.kind not in "iuf" or array.size not in (6, 9):
        raise ValueError(f"it has shape {list(array.shape)}, expected 6 or 9 numbers")
    numbers = array.astype(np.float64).reshape(-1)
    if numbers.size == 6:
        return numbers[list(VASP)] if order == "vasp" else numbers
    matrix = numbers.reshape(3, 3)
    if np.abs(matrix - matrix.T).max() > max(1e-3 * np.abs(matrix).max(), ROUNDING):
        raise ValueError(f"it is not symmetric: {matrix.tolist()}")
    matrix = 0.5 * (matrix + matrix.T)
    return np.array([matrix[i, j] for i, j in VOIGT])


def _volume(cell: np.ndarray, where: str) -> float:
    with np.errstate(all="ignore"):
        volume = abs(float(np.linalg.det(cell)))
    if not 0.0 < volume < np.inf:
        raise DataError(
            "EQ3034",
            f"{where}: a virial needs three lattice vectors, the cell has no volume; "
            "state the cell, or leave the virial out",
        )
    return volume
