"""QM9 as one npz: molecules one after the other, R [atoms, 3] and Z [atoms], N [n] atoms each; energies, no forces.

The energy is U0 (internal energy at 0 K) unless energy_key names another column; units are not in the file, and the
usual file is in eV.  Source: the file qm9_eV.npz of DimeNet, Gasteiger et al. (2020).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from eqff.data.frame import Frame
from eqff.data.reading.file_units import Units, decide_units
from eqff.data.reading.format import Format
from eqff.data.reading.npz import BLOCK, Rows, in_blocks, npz_names, open_npz
from eqff.data.reading.options import ReadOptions
from eqff.errors import DataError

ENERGY = "U0"
N_FRAMES_TO_JUDGE = 1000
COLUMNS = ("id", "A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")


def accepts(path: str | Path) -> bool:
    """Whether the archive has the keys of this layout."""
    return {"R", "Z", "N"} <= set(npz_names(path))


def read(path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]:
    """Frames in eV and Å; other columns are kept in info, as they are.

    Args:   options: energy_unit is needed
    Raises: DataError for a damaged file, missing keys, wrong shapes, units that are not stated
    """
    options = options or ReadOptions()
    arrays, energy_key = _load(path, options)
    decided = _units(path, arrays, energy_key, options)
    counts = arrays["N"].whole().astype(np.int64)
    columns = {name: rows.whole() for name, rows in arrays.items() if name not in ("R", "Z", "N")}
    for index, (positions, numbers) in enumerate(_molecules(arrays, counts)):
        energy = None if energy_key is None else float(columns[energy_key][index]) * decided.energy_factor
        yield Frame(
            atomic_numbers=numbers.astype(np.int64),
            positions=positions.astype(np.float64) * decided.length_factor,
            energy=energy,
            info={name: values[index].item() for name, values in columns.items() if name != energy_key},
        )
        if energy is not None:
            options.log.names["energy", str(energy_key)] += 1


def units(path: str | Path, options: ReadOptions | None = None) -> Units:
    """The units `read` uses for this file, and how they were decided."""
    options = options or ReadOptions()
    return _units(path, *_load(path, options), options)


def _load(path: str | Path, options: ReadOptions) -> tuple[dict[str, Rows], str | None]:
    """Arrays whose shapes fit each other, and the name of the energy."""
    key = options.energy_key or (ENERGY if ENERGY in npz_names(path) else None)
    key = None if key == "none" else key
    wanted = ("R", "Z", "N") if key is None else ("R", "Z", "N", key)
    arrays = open_npz(path, required=wanted, optional=[name for name in COLUMNS if name != key])
    n_frames = arrays["N"].shape[0] if arrays["N"].shape else -1
    n_atoms = arrays["Z"].shape[0] if arrays["Z"].shape else -1
    expected: dict[str, Any] = {"R": (n_atoms, 3), "Z": (n_atoms,)}
    for name, rows in arrays.items():
        shape = expected.get(name, (n_frames,))
        if rows.shape != shape and rows.shape != (n_frames, 1):
            raise DataError("EQ3023", f"{path}: {name} has shape {rows.shape}, expected {shape}; write the array again")
        if rows.dtype.kind not in ("iu" if name in ("Z", "N") else "iuf"):
            raise DataError("EQ3028", f"{path}: {name} has dtype {rows.dtype}, expected numbers; write the array again")
    counts = arrays["N"].whole().astype(np.int64)
    if n_frames == 0:
        raise DataError("EQ3025", f"{path}: there are no frames to read; check that the file is complete")
    if counts.ndim != 1 or (counts < 0).any() or (counts > n_atoms).any() or int(counts.sum()) != n_atoms:
        raise DataError(
            "EQ3917",
            f"{path}: the atom counts in N do not add up to the {n_atoms} atoms of Z; "
            "write N again with one count for each molecule",
        )
    return arrays, key


def _units(path: str | Path, arrays: dict[str, Rows], energy_key: str | None, options: ReadOptions) -> Units:
    energies: list[float] = []
    numbers: list[np.ndarray] = []
    if energy_key is not None:
        counts = arrays["N"].whole()[:N_FRAMES_TO_JUDGE].astype(np.int64)
        energies = next(in_blocks(arrays[energy_key], len(counts))).reshape(-1).tolist()
        numbers = np.split(next(in_blocks(arrays["Z"], max(int(counts.sum()), 1))), np.cumsum(counts))[:-1]
    return decide_units(
        str(path),
        energy=(options.energy_unit, None, "eV" if energy_key is None else None),
        length=(options.length_unit, None, "Å"),
        energies=(energies, numbers),
    )


def _molecules(arrays: dict[str, Rows], counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions and atomic numbers, molecule by molecule."""
    n_rows = max(BLOCK // 24, int(counts.max(initial=1)))
    positions, numbers = arrays["R"].blocks(n_rows), arrays["Z"].blocks(n_rows)
    held, held_numbers, start = np.zeros((0, 3)), np.zeros(0, dtype=np.int64), 0
    for count in counts.tolist():
        if start + count > len(held):
            held = np.concatenate([held[start:], next(positions)])
            held_numbers = np.concatenate([held_numbers[start:], next(numbers)])
            start = 0
        yield held[start : start + count], held_numbers[start : start + count]
        start += count
    for rest in (positions, numbers):
        next(rest, None)  # compares their checksums


FORMAT = Format(
    summary="QM9, npz",
    suffixes=(".npz",),
    read=read,
    units=units,
    accepts=accepts,
    takes_keys=True,
)
