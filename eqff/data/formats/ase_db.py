"""ASE databases (sqlite): labels in the rows, in eV and Å; and those of SchNetPack, which keep arrays in `data` and
state their units and the energies of single atoms in the metadata.

Source: ASE's documentation; Schütt et al., J. Chem. Theory Comput. 15, 448 (2019).
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from eqff.data.frame import LABELS, Frame
from eqff.data.reading.file_units import Units, decide_units, same_unit
from eqff.data.reading.format import Format
from eqff.data.reading.labels import N_FRAMES_TO_JUDGE, Contents, find, to_frame, units_by_convention
from eqff.data.reading.options import ReadOptions
from eqff.errors import DataError

SIGNATURE = b"SQLite format 3\x00"
UNITS, LENGTH, ATOMREFS = "_property_unit_dict", "_distance_unit", "atomrefs"  # SchNetPack's metadata


def accepts(path: str | Path) -> bool:
    """Whether it is a sqlite file."""
    with open(path, "rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def read(path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]:
    """Frames in eV and Å, in the order of ids.

    Raises: DataError EQ3943 not an ASE database, EQ3216 damaged; EQ3217 units of energy and forces that differ;
            and those of `eqff.data.reading.labels`
    """
    options = options or ReadOptions()
    decided = units(path, options)
    empty = True
    for where, contents in _rows(path):
        empty = False
        try:
            frame = to_frame(contents, options, decided, where)
        except DataError as error:
            options.skip(error)
        else:
            yield frame
    if empty:
        raise DataError("EQ3025", f"{path}: there are no frames to read; check that the file is complete")


def units(path: str | Path, options: ReadOptions | None = None) -> Units:
    """As the metadata say; eV and Å for a database without them."""
    options = (options or ReadOptions()).fresh()
    metadata = _metadata(path)
    first = [contents for _, contents in islice(_rows(path), N_FRAMES_TO_JUDGE)]
    if not isinstance(metadata.get(UNITS), dict):
        return units_by_convention(str(path), first, options, defined=True)
    stated = {str(name): str(unit) for name, unit in metadata[UNITS].items()}
    where = f"{path}: frame 0"
    names = {label: find(first[0], label, options, where)[1] if first else "" for label in ("energy", "forces")}
    energy_unit = stated.get(names["energy"])
    length_unit = str(metadata[LENGTH]) if LENGTH in metadata else None
    _check_forces(str(path), stated.get(names["forces"]), energy_unit, length_unit)
    return decide_units(
        str(path), energy=(options.energy_unit, energy_unit, None), length=(options.length_unit, length_unit, "Å")
    )


def count(path: str | Path) -> int:
    """Number of rows."""
    database = _database(path)
    try:
        return int(database.count())
    except Exception as error:  # sqlite and ASE each raise their own
        raise _damaged(path, error) from error


def provenance(path: str | Path) -> dict[str, str]:
    """Units of all properties and energies of single atoms, where the metadata state them."""
    metadata = _metadata(path)
    found = {}
    if isinstance(metadata.get(UNITS), dict):
        found["origin_units"] = json.dumps(metadata[UNITS], sort_keys=True)
    if isinstance(metadata.get(ATOMREFS), dict):
        references = {}
        for name, values in metadata[ATOMREFS].items():
            if isinstance(values, list):
                references[name] = {z: v for z, v in enumerate(values) if isinstance(v, int | float) and v != 0.0}
        found["origin_atomrefs"] = json.dumps(references, sort_keys=True)
    return found


def write(path: str | Path, frames: Iterable[Frame], provenance: Mapping[str, str] | None = None) -> None:
    """Write an ASE database in eV and Å, labels as the results of a calculator.  Every digit is kept."""
    from ase.db import connect

    from eqff.data.store.ase_store import to_atoms

    n_frames = 0
    with connect(str(path), type="db", append=False, use_lock_file=False) as database:
        for frame in frames:
            atoms = to_atoms(frame)
            data = {name: _plain(value) for name, value in atoms.info.items()}
            atoms.info = {}
            database.write(atoms, data=data)
            n_frames += 1
    if not n_frames:
        raise DataError("EQ3920", "there are no frames to write; give at least one")


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | np.ndarray | list | dict) else str(value)


def _check_forces(path: str, forces: str | None, energy: str | None, length: str | None) -> None:
    """Forces must be in the unit of energy over the unit of length.  Raises: DataError EQ3217"""
    if forces is None or energy is None:
        return
    of_energy, _, of_length = forces.rpartition("/")
    if not same_unit(of_energy, energy) or not same_unit(of_length, length or "Å"):
        raise DataError(
            "EQ3217",
            f"{path}: the metadata state energies in {energy}, lengths in {length or 'Å'}, but forces in {forces}; "
            "repair the metadata",
        )


def _database(path: str | Path) -> Any:
    """The database, if it is one: ASE writes tables into files that have none.

    Raises: DataError EQ3024, EQ3216, EQ3943
    """
    from ase.db import connect

    if not Path(path).is_file():
        raise DataError("EQ3024", f"{path}: no such file; check the name")
    try:
        place = Path(path).resolve().as_uri()
        connection = sqlite3.connect(f"{place}?mode=ro", uri=True)
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        finally:
            connection.close()
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise _damaged(path, error) from None
    if not {"systems", "information"} <= tables:
        raise DataError(
            "EQ3943",
            f"{path}: a database, but not of ASE (it has {', '.join(sorted(tables)) or 'nothing'}); check the name",
        )
    try:
        return connect(str(Path(path).resolve()), type="db", use_lock_file=False)
    except Exception as error:  # whatever ASE meets
        raise _damaged(path, error) from error


def _damaged(path: str | Path, error: Exception) -> DataError:
    reason = f"{type(error).__name__}: {error}"
    return DataError("EQ3216", f"{path}: not an ASE database, or damaged ({reason}); get it or write it again")


def _metadata(path: str | Path) -> dict[str, Any]:
    database = _database(path)
    try:
        found = database.metadata
    except Exception as error:  # sqlite, JSON and ASE each raise their own
        raise _damaged(path, error) from error
    return found if isinstance(found, dict) else {}


def _rows(path: str | Path) -> Iterator[tuple[str, Contents]]:
    """Rows in the order of ids, as contents.  Raises: DataError EQ3216"""
    rows = _database(path).select(sort="id")
    index = 0
    while True:
        where = f"{path}: frame {index}"
        try:
            row = next(rows, None)
            if row is None:
                return
            contents = _contents(row)
        except Exception as error:  # sqlite, JSON and ASE each raise their own
            raise _damaged(where, error) from error
        yield where, contents
        index += 1


def _contents(row: Any) -> Contents:
    results = {name: row.get(name) for name in LABELS if row.get(name) is not None}
    info = dict(row.key_value_pairs)
    arrays = {}
    if row.get("masses") is not None:
        arrays["masses"] = row.masses
    n_atoms = len(row.numbers)
    for name, value in row.data.items():
        if np.shape(value) == (n_atoms, 3):
            arrays[name] = value
        else:
            info[name] = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    return Contents(
        row.numbers, row.positions, row.cell, row.pbc, info, arrays, results, lambda: _atoms(row, info, arrays)
    )


def _atoms(row: Any, info: dict[str, Any], arrays: dict[str, Any]) -> Any:
    """The row as ase.Atoms, with constraints, momenta, masses, tags and what else was written beside them."""
    atoms = row.toatoms()
    atoms.info.update(info)
    for name, values in arrays.items():
        if not atoms.has(name):
            atoms.set_array(name, np.asarray(values))
    return atoms


FORMAT = Format(
    summary="ASE database, also of SchNetPack",
    suffixes=(".db",),
    read=read,
    units=units,
    accepts=accepts,
    write=write,
    provenance=provenance,
    count=count,
    takes_keys=True,
)
