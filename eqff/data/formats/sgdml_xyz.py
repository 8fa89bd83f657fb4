"""XYZ as sGDML wrote it: the comment is the energy and nothing else, atoms are `El x y z fx fy fz`; no units stated.

Source: sgdml's tools for data sets.  The newer form, `Energy=... Properties=...`, is extended XYZ.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from eqff.data.frame import Frame
from eqff.data.reading.file_units import Units
from eqff.data.reading.format import Format
from eqff.data.reading.npz_trajectory import Trajectory
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.xyz import Block, blocks, check_layout
from eqff.elements import ATOMIC_NUMBERS
from eqff.errors import DataError

N_FRAMES_TO_JUDGE = 20


def accepts(path: str | Path) -> bool:
    """Whether the first comment is one number and the first atom has seven columns."""
    try:
        first = next(blocks(path), None)
    except DataError:
        return False
    return first is not None and bool(first.lines) and _is_number(first.comment) and len(first.lines[0].split()) == 7


def read(path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]:
    """Frames in eV and Å.

    Args:   options: energy_unit is needed, the layout does not state it (published files are in kcal/mol)
    Raises: DataError EQ3210, EQ3935 a frame that is not of this layout, units that are not stated, and those of
            `eqff.data.reading.xyz`
    """
    options = options or ReadOptions()
    decided = units(path, options)
    for block in blocks(path):
        try:
            numbers, energy, table = _parsed(block, block.where(path))
        except DataError as error:
            options.skip(error)
            continue
        yield Frame(
            atomic_numbers=numbers,
            positions=table[:, :3] * decided.length_factor,
            energy=energy * decided.energy_factor,
            forces=table[:, 3:] * decided.force_factor,
        )


def units(path: str | Path, options: ReadOptions | None = None) -> Units:
    """The units `read` uses for this file, judged by its first frames."""
    options = options or ReadOptions()
    frames = []
    try:
        for block in islice(blocks(path), N_FRAMES_TO_JUDGE):
            try:
                frames.append(_parsed(block, block.where(path)))
            except DataError as error:
                options.fresh().skip(error)
    except DataError:
        if not (options.recover and frames):
            raise
    if not frames:
        raise DataError("EQ3025", f"{path}: there are no frames to read; check that the file is complete")
    numbers = frames[0][0]
    alike = [table for other, _, table in frames if np.array_equal(other, numbers)]
    energies = np.array([energy for other, energy, _ in frames if np.array_equal(other, numbers)])
    arrays = {"z": numbers, "R": np.stack(alike)[:, :, :3], "E": energies, "F": np.stack(alike)[:, :, 3:]}
    return Trajectory(path, arrays, ("z", "R", "E", "F")).units(options.energy_unit, options.length_unit)


def _parsed(block: Block, where: str) -> tuple[np.ndarray, float, np.ndarray]:
    """Atomic numbers [n_atoms], energy, positions and forces [n_atoms, 6].  Raises: DataError EQ3210, EQ3935"""
    rows = [line.split() for line in block.lines]
    if not rows or any(len(row) != 7 or row[0].capitalize() not in ATOMIC_NUMBERS for row in rows):
        raise DataError("EQ3210", f"{where}: atoms are not lines of an element and six numbers; repair or remove it")
    try:
        table = np.array([[float(word) for word in row[1:]] for row in rows])
        energy = float(block.comment)
    except ValueError as error:
        raise DataError("EQ3935", f"{where}: {error}; repair or remove the frame") from None
    return np.array([ATOMIC_NUMBERS[row[0].capitalize()] for row in rows]), energy, table


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


FORMAT = Format(
    summary="sGDML, XYZ",
    suffixes=(".xyz",),
    read=read,
    units=units,
    accepts=accepts,
    count=check_layout,
)
