"""XYZ files cut into frames, with every announcement checked before it is believed.

ASE believes every atom count it meets (a count of 1e12 keeps it busy for hours) and stops at the first blank line,
silently leaving out the frames behind it.
"""

import codecs
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from eqff.errors import DataError

MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
N_VECTORS = 3  # lines `VEC1 ...` that may follow the atoms of a frame
MAX_LINE = 2**20  # bytes; a comment of a megabyte is none
COUNT = re.compile(rb"\s*[+-]?\d{1,18}\s*")


@dataclass(frozen=True)
class Block:
    """One frame of an XYZ file, as text."""

    index: int
    offset: int  # byte of the file where the frame begins
    comment: str
    lines: list[str]  # [n_atoms]
    vectors: list[str]  # lines VEC1, VEC2, VEC3, where there are any

    def where(self, path: str | Path) -> str:
        """What to call this frame in a message."""
        return f"{path}: frame {self.index} (byte {self.offset})"


def blocks(path: str | Path) -> Iterator[Block]:
    """Frames one after the other; what their lines say is left to the reader.

    Raises:  DataError EQ3024 no file, EQ3931 no atom count, EQ3932 text that is not UTF-8,
             EQ3035 a count that cannot be, EQ3036 cut short, EQ3037 text after a blank line,
             EQ3038 a byte-order mark, EQ3039 a line without end
    """
    for index, (offset, raw) in enumerate(_cut(path)):
        try:
            comment, *lines = [line.decode() for line in raw]
        except UnicodeDecodeError as error:
            raise DataError(
                "EQ3932", f"{path}: frame {index} (byte {offset}) is not UTF-8 text ({error}); convert the file"
            ) from None
        n_vectors = next((k for k, line in enumerate(reversed(lines)) if not line.lstrip().startswith("VEC")), 0)
        n_atoms = len(lines) - n_vectors
        yield Block(index, offset, comment.strip(), lines[:n_atoms], lines[n_atoms:])


def check_layout(path: str | Path) -> int:
    """That every frame has as many lines as it announces.

    Returns: number of frames, as far as their counts can be read
    Raises:  DataError as `blocks`, but for counts that cannot be read: the reader says what is wrong with them
    """
    n_frames = 0
    try:
        for _ in _cut(path):
            n_frames += 1
    except DataError as error:
        if error.id != "EQ3931":
            raise
    return n_frames


def _cut(path: str | Path) -> Iterator[tuple[int, list[bytes]]]:
    """(offset, comment line, atom lines and VEC lines) of every frame."""
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        raise DataError("EQ3024", f"{path}: no such file; check the name") from None
    with file:
        n_bytes = os.fstat(file.fileno()).st_size
        if file.read(3).startswith(MARKS):
            raise DataError("EQ3038", f"{path}: begins with a byte-order mark; save it as plain UTF-8 text")
        file.seek(0)
        offset, index = 0, 0
        while header := _line(file, f"{path}: frame {index} (byte {offset})"):
            where = f"{path}: frame {index} (byte {offset})"
            if not header.strip():
                _check_end(file, where)
                return
            raw = _atoms(file, _count(header, n_bytes - file.tell(), where), where)
            yield offset, raw
            offset, index = file.tell(), index + 1


def _count(header: bytes, n_left: int, where: str) -> int:
    """The number of atoms a frame announces, if the rest of the file can hold them."""
    if not COUNT.fullmatch(header):
        found = header.strip()[:40].decode("utf-8", "replace")
        raise DataError("EQ3931", f"{where} cannot be read (expected a number of atoms, found {found!r}); repair it")
    n_atoms = int(header)
    if not 0 <= n_atoms <= n_left:  # a line has at least one byte
        raise DataError("EQ3035", f"{where} announces {n_atoms} atoms, which {n_left} bytes cannot hold; correct it")
    return n_atoms


def _atoms(file: BinaryIO, n_atoms: int, where: str) -> list[bytes]:
    raw = [line for _, line in zip(range(n_atoms + 1), iter(lambda: _line(file, where), b""), strict=False)]
    if len(raw) < n_atoms + 1 and n_atoms > 0:
        raise DataError(
            "EQ3036",
            f"{where} announces {n_atoms} atoms, but the file ends after {max(len(raw) - 1, 0)}; the file was "
            "cut short: get it again, or remove this frame",
        )
    for _ in range(N_VECTORS):
        place = file.tell()
        line = file.readline(MAX_LINE)
        if not line.lstrip().startswith(b"VEC"):
            file.seek(place)
            break
        raw.append(line)
    return raw or [b""]


def _line(file: BinaryIO, where: str) -> bytes:
    line = file.readline(MAX_LINE)
    if len(line) == MAX_LINE:
        raise DataError(
            "EQ3039",
            f"{where} has a line of more than {MAX_LINE} bytes, so it is no XYZ file; give another file or format",
        )
    return line


def _check_end(file: BinaryIO, where: str) -> None:
    """Nothing but white space may follow."""
    while line := file.readline(MAX_LINE):
        if line.strip():
            raise DataError(
                "EQ3037", f"{where}: text follows a blank line; remove the blank line, or what follows would be lost"
            )
