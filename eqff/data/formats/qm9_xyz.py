"""QM9 as published: one molecule a file, `gdb i` and 15 properties in the comment, numbers such as 1.2*^-6; no forces.

Reads one file, several after each other, the archive dsgdb9nsd.xyz.tar.bz2 without unpacking it, or a folder.  The
energy is U0 (internal energy at 0 K, Hartree) unless energy_key says U, H or G.
Source: Ramakrishnan et al., Sci. Data 1, 140022 (2014).
"""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from eqff.data.frame import Frame
from eqff.data.reading.file_units import Units, decide_units
from eqff.data.reading.format import Format
from eqff.data.reading.options import ReadOptions
from eqff.elements import ATOMIC_NUMBERS
from eqff.errors import ConfigError, DataError

NAMES = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")
ENERGIES = ("U0", "U", "H", "G")
MEMBER = re.compile(r"(.*/)?dsgdb9nsd_\d+\.xyz")
FIRST_LINES = re.compile(rb"\s*\d{1,3}\s*\r?\n\s*gdb[ \t]")
MAX_BYTES = 2**16  # of one molecule; the largest has 29 atoms and 5 kB
MAX_RATIO = 1000  # of an archive


def accepts(path: str | Path) -> bool:
    """Whether it begins with `gdb` in the comment, or is an archive or a folder of such files."""
    path = Path(path)
    if path.is_dir():
        return any(MEMBER.fullmatch(member.name) for member in path.iterdir())
    if path.suffix == ".xyz":
        with open(path, "rb") as file:
            return FIRST_LINES.match(file.read(200)) is not None
    try:
        return next(_members(path), None) is not None
    except DataError:
        return False


def read(path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]:
    """Frames in eV and Å; the other properties are kept in info in the units of the publication.

    Raises: DataError EQ3211, EQ3936, EQ3937 a molecule that cannot be read, EQ3212, EQ3938 a damaged archive
    """
    options = options or ReadOptions()
    decided = units(path, options)
    key = options.energy_key or ENERGIES[0]
    empty = True
    for where, text in _texts(Path(path)):
        empty = False
        try:
            numbers, positions, properties = _parsed(text, where)
        except DataError as error:
            options.skip(error)
            continue
        energy = None if key == "none" else float(properties.pop(key)) * decided.energy_factor
        if energy is not None:
            options.log.names["energy", key] += 1
        yield Frame(atomic_numbers=numbers, positions=positions * decided.length_factor, energy=energy, info=properties)
    if empty:
        raise DataError("EQ3025", f"{path}: there are no frames to read; check that the file is complete")


def units(path: str | Path, options: ReadOptions | None = None) -> Units:
    """Hartree and Å, by the publication.  Raises: ConfigError EQ1921 for an energy_key that is none of them"""
    options = options or ReadOptions()
    if not Path(path).exists():
        raise DataError("EQ3024", f"{path}: no such file; check the name")
    if options.energy_key not in (None, "none", *ENERGIES):
        raise ConfigError(
            "EQ1921", f"energy_key={options.energy_key!r}: QM9 has {', '.join(ENERGIES)}; choose one of them"
        )
    return decide_units(
        str(path), energy=(options.energy_unit, None, "Hartree"), length=(options.length_unit, None, "Å")
    )


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """Name and text of every molecule."""
    if path.is_dir():
        for member in sorted(p for p in path.iterdir() if MEMBER.fullmatch(p.name)):
            if member.stat().st_size > MAX_BYTES:
                raise DataError(
                    "EQ3936", f"{path}: {member.name} is larger than any molecule of QM9; get it again or remove it"
                )
            yield str(member), _text(member.read_bytes())
    elif path.suffix == ".xyz":
        yield from _molecules(path)
    else:
        yield from _members(path)


def _members(path: Path) -> Iterator[tuple[str, str]]:
    """Molecules of an archive, unpacked in memory one at a time.  Raises: DataError EQ3212, EQ3936, EQ3938"""
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if member.offset_data + member.size > MAX_RATIO * path.stat().st_size:
                    raise DataError("EQ3938", f"{path}: unpacks to implausibly much; get it again")
                if not member.isfile() or not MEMBER.fullmatch(member.name):
                    continue
                file = archive.extractfile(member)
                if member.size > MAX_BYTES or file is None:
                    raise DataError(
                        "EQ3936", f"{path}: {member.name} is larger than any molecule of QM9; get it again or remove it"
                    )
                yield f"{path}: {member.name}", _text(file.read())
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError("EQ3212", f"{path}: the archive is damaged ({error}); get it again") from None


def _molecules(path: Path) -> Iterator[tuple[str, str]]:
    """Molecules of one file: each is N, comment, N atoms, frequencies, SMILES, InChI."""
    with open(path, "rb") as file:
        index = 0
        while head := file.readline(MAX_BYTES):
            if not head.strip():
                continue
            if not re.fullmatch(rb"\s*\d{1,3}\s*", head):
                raise DataError(
                    "EQ3937",
                    f"{path}: molecule {index} does not begin with its number of atoms; "
                    "get the file again or repair it",
                )
            lines = [file.readline(MAX_BYTES) for _ in range(int(head) + 4)]
            yield f"{path}: frame {index}", _text(head + b"".join(lines))
            index += 1


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _parsed(text: str, where: str) -> tuple[np.ndarray, np.ndarray, dict[str, float | int]]:
    """Atomic numbers, positions, properties of one molecule.  Raises: DataError EQ3211"""
    lines = text.replace("*^", "e").splitlines()
    try:
        n_atoms, words = int(lines[0]), lines[1].split()
        if words[0] != "gdb" or len(words) != 2 + len(NAMES):
            raise ValueError(f"its comment has {len(words)} words, expected 'gdb', an index and {len(NAMES)} numbers")
        rows = [line.split() for line in lines[2 : 2 + n_atoms]]
        if not rows or len(rows) != n_atoms:
            raise ValueError(f"it announces {n_atoms} atoms, and has {len(rows)}")
        numbers = np.array([ATOMIC_NUMBERS[row[0]] for row in rows])
        positions = np.array([[float(row[1]), float(row[2]), float(row[3])] for row in rows])
        properties: dict[str, float | int] = {"index": int(words[1])}
        properties |= dict(zip(NAMES, map(float, words[2:]), strict=True))
    except (ValueError, IndexError, KeyError) as error:
        raise DataError("EQ3211", f"{where} is no molecule of QM9 ({error}); get it again or remove it") from None
    return numbers, positions, properties


FORMAT = Format(
    summary="QM9 as published: a file, the archive, or a folder of files",
    suffixes=(".xyz", ".bz2", ".gz", ".tar", ""),
    read=read,
    units=units,
    accepts=accepts,
    takes_keys=True,
)
