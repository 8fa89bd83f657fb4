"""Extended XYZ: labels by the names the field uses, or by the names you give.

Energies are in eV and lengths in Å by ASE's convention, unless options say otherwise.  A Lattice with pbc "F F F" makes
no period.  Two labels of one kind that differ (energy and REF_energy) are an error that asks which one is meant.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from eqff.data.frame import Frame, stated_masses
from eqff.data.reading import dialects, stated_units
from eqff.data.reading.file_units import Units
from eqff.data.reading.format import Format
from eqff.data.reading.labels import N_FRAMES_TO_JUDGE, Contents, check_stated, to_frame, units_by_convention
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.xyz import Block, blocks, check_layout
from eqff.elements import ATOMIC_NUMBERS, SYMBOLS
from eqff.errors import DataError

PLAIN = "species:S:1:pos:R:3"  # columns of a file that does not say
COLUMNS: dict[str, Callable[[str], Any]] = {
    "S": str,
    "R": float,
    "I": int,
    "L": lambda word: word.upper() in ("T", "TRUE", "1"),
}
ASE_NAMES = {"symbols": "species", "numbers": "Z", "positions": "pos", "species": "species", "z": "Z", "pos": "pos"}
HEADER = {"properties": "Properties", "lattice": "Lattice", "pbc": "pbc"}  # in any case, as GPUMD writes them
ISOTOPES = {"D": 2.01410177812, "T": 3.0160492779}  # u, of hydrogen; Source: AME2020


def read(path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]:
    """Frames in eV and Å.

    Args:   options: energy_key, forces_key, stress_key take that name and no other
    Raises: DataError EQ3030 unreadable, EQ3031 a named label that a frame lacks, EQ3032 a label of odd shape, and
            those of `eqff.data.reading.xyz` and `eqff.data.reading.labels`
    """
    options = options or ReadOptions()
    decided = units(path, options)
    stated = _stated(path)
    empty = True
    for block in blocks(path):
        where = block.where(path)
        if block.index < options.first:
            continue
        empty = False
        try:
            contents = _contents(block, where)
            if not options.structures:
                _check_columns(block, where)
            check_stated(contents, stated, where)
            frame = to_frame(contents, options, decided, where)
        except DataError as error:
            options.skip(error)
        else:
            yield frame
    if empty:
        raise DataError("EQ3025", f"{path}: there are no frames to read; check that the file is complete")


def units(path: str | Path, options: ReadOptions | None = None) -> Units:
    """The units `read` uses for this file, and how they were decided."""
    options = (options or ReadOptions()).fresh()
    found: list[Contents] = []
    try:
        for block in islice(blocks(path), N_FRAMES_TO_JUDGE):
            try:
                found.append(_contents(block, block.where(path)))
            except DataError as error:
                options.skip(error)
    except DataError:
        if not (options.recover and found):
            raise
    return units_by_convention(str(path), found, options, said=_stated(path))


def _stated(path: str | Path) -> dict[str, str]:
    """Units that the header of the first frame states, also where its atoms cannot be read."""
    block = next(blocks(path), None)
    if block is None:
        return {}
    try:
        header = _header(block.comment)
    except Exception:  # the parser raises whatever it meets in damaged text; reading the frame says what
        return {}
    return stated_units.stated(header, block.where(path))


def write(path: str | Path, frames: Iterable[Frame], provenance: Mapping[str, str] | None = None) -> None:
    """Write frames in eV and Å with the names ASE recognises: energy, forces, stress.  Every digit is kept."""
    from ase.io.extxyz import key_val_dict_to_str

    n_frames = 0
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for frame in frames:
            columns = PLAIN
            header: dict[str, Any] = {}
            if frame.pbc.any() or frame.cell.any():
                header["Lattice"] = frame.cell.T  # ASE's dictionary has vectors as columns
            if frame.forces is not None:
                columns += ":forces:R:3"
            masses = stated_masses(frame)
            if masses is not None:
                columns += ":masses:R:1"
            header["Properties"] = columns
            hidden = ("Properties", "Lattice", "pbc") if masses is None else ("Properties", "Lattice", "pbc", "masses")
            header |= {name: value for name, value in frame.info.items() if name not in hidden}
            if frame.energy is not None:
                header["energy"] = float(frame.energy)
            if frame.stress is not None:
                xx, yy, zz, yz, xz, xy = frame.stress
                header["stress"] = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
            header["pbc"] = np.asarray(frame.pbc, dtype=bool)
            comment = " ".join(key_val_dict_to_str(header).split("\n"))
            file.write(f"{len(frame.atomic_numbers)}\n{comment}\n")
            numbers = [frame.positions] if frame.forces is None else [frame.positions, frame.forces]
            numbers += [] if masses is None else [masses[:, None]]
            symbols = [SYMBOLS[int(z)] for z in frame.atomic_numbers]
            for symbol, row in zip(symbols, np.hstack(numbers).tolist(), strict=True):
                file.write(f"{symbol:<2} {' '.join(map(repr, row))}\n")
            n_frames += 1
    if not n_frames:
        raise DataError("EQ3920", "there are no frames to write; give at least one")


def _check_columns(block: Block, where: str) -> None:
    """Three or more columns that no header explains may be forces.  Raises: DataError EQ3610"""
    n_columns = len(block.lines[0].split()) if block.lines else 0
    if n_columns < 7 or re.search(r"(^|\s)properties=", block.comment, re.IGNORECASE):
        return
    raise DataError(
        "EQ3610",
        f"{where}: the lines of atoms have {n_columns} columns, and 4 are explained (species x y z); write what the "
        "others are into the second line of the frame, e.g. Properties=species:S:1:pos:R:3:forces:R:3",
    )


def _contents(block: Block, where: str) -> Contents:
    """The frame as numbers.  Raises: DataError EQ3030 saying what cannot be understood"""
    try:
        return _parsed(block)
    except Exception as error:  # the parsers of comments and numbers raise whatever they meet in damaged text
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise DataError("EQ3030", f"{where} cannot be read ({reason}); repair or remove it") from error


def _parsed(block: Block) -> Contents:
    from ase.data import atomic_masses

    info: dict[str, Any] = {}
    if block.vectors and "=" not in block.comment:  # the comment of this dialect is free text
        info["comment"] = block.comment
    elif block.comment:
        info = _header(block.comment)
    info = {HEADER.get(key.lower(), key): value for key, value in info.items()}
    arrays = _columns(block.lines, info.pop("Properties", None))
    arrays = {ASE_NAMES.get(name.lower(), name): values for name, values in arrays.items()}
    numbers, positions = arrays.pop("Z", None), arrays.pop("pos", None)
    symbols = arrays.pop("species", None)
    if numbers is None and symbols is not None:
        words = [str(symbol) for symbol in symbols.tolist()]
        numbers = np.array([_atomic_number(word, atom) for atom, word in enumerate(words)], dtype=np.int64)
        if "masses" not in arrays and any(word in ISOTOPES for word in words):
            heavy = [ISOTOPES.get(word) or atomic_masses[z] for word, z in zip(words, numbers.tolist(), strict=True)]
            arrays["masses"] = np.array(heavy)
    if numbers is None or positions is None:
        raise ValueError("Properties must name species (or Z) and pos")
    lattice, pbc = info.pop("Lattice", None), info.pop("pbc", None)
    cell = np.zeros((3, 3)) if lattice is None else np.asarray(lattice, dtype=np.float64).T
    if cell.shape == (9,):  # under another spelling than ASE's
        cell = cell.reshape(3, 3)
    if cell.shape != (3, 3):
        raise ValueError(f"Lattice has {cell.size} numbers, expected 9")
    for k, line in enumerate(block.vectors):
        cell[k] = [float(word) for word in line.split()[1:4]]
    if pbc is None:
        pbc = [lattice is not None] * 3 if not block.vectors else [k < len(block.vectors) for k in range(3)]
    pbc = np.asarray(pbc)
    if pbc.shape != (3,) or pbc.dtype.kind not in "bi":
        raise ValueError(f"pbc={pbc.tolist()}, expected three of T and F")
    return Contents(numbers, positions, cell, pbc.astype(bool), info, arrays)


def _header(comment: str) -> dict[str, Any]:
    """Entries of the comment line.  ASE refuses `stress` and `virial` of six numbers, so these are hidden from it."""
    from ase.io.extxyz import key_val_str_to_dict

    known = dialects.entries(comment)
    if known is not None:
        return known
    try:
        return dict(key_val_str_to_dict(comment))
    except ValueError:
        hidden = key_val_str_to_dict(re.sub(r"(^|\s)(stress|virial)=", r"\1eqff_six_\2=", comment))
        return {key.removeprefix("eqff_six_"): value for key, value in hidden.items()}


def _columns(lines: list[str], properties: Any) -> dict[str, np.ndarray]:
    """The table of atoms as arrays by name, as Properties says: name:kind:n_columns:...  Raises: ValueError"""
    words = str(properties or PLAIN).split(":")
    if len(words) % 3:
        raise ValueError(f"Properties={properties!r}, expected name:kind:columns, ...")
    fields = [(name, kind, int(count)) for name, kind, count in zip(*[iter(words)] * 3, strict=True)]
    if any(kind not in COLUMNS or not 0 < count <= 1000 for _, kind, count in fields):
        raise ValueError(f"Properties={properties!r}: a kind is S, R, I or L, and a count of columns positive")
    width = sum(count for *_, count in fields)
    rows = [line.split() for line in lines]
    for atom, row in enumerate(rows):
        if len(row) < width or (len(row) > width and properties is not None):
            raise ValueError(f"atom {atom} has {len(row)} columns, expected {width}")
    arrays, first = {}, 0
    for name, kind, count in fields:
        cells = chain.from_iterable(row[first : first + count] for row in rows)
        values = np.array(list(map(COLUMNS[kind], cells))).reshape(len(rows), count)
        arrays[name] = values[:, 0] if count == 1 else values
        first += count
    return arrays


def _atomic_number(symbol: str, atom: int) -> int:
    if symbol.isdecimal() and symbol.isascii():
        return int(symbol)
    if symbol in ISOTOPES:
        return 1
    found = ATOMIC_NUMBERS.get(symbol) or ATOMIC_NUMBERS.get(symbol.capitalize())
    if not found:
        is_ghost = symbol.upper() in ("X", "XX", "BQ", "GH") or symbol.lower().endswith(("_gh", "-gh", ":gh"))
        what = "a ghost or dummy atom, which has no place in a potential" if is_ghost else "not a chemical symbol"
        raise ValueError(f"atom {atom}: {symbol!r} is {what}")
    return found


FORMAT = Format(
    summary="extended XYZ, plain XYZ",
    suffixes=(".extxyz", ".xyz"),
    read=read,
    units=units,
    write=write,
    count=check_layout,
    takes_keys=True,
    skips=True,
)
