"""The layout of an XYZ file, checked in one pass before ASE reads it.

ASE believes every atom count it meets (a count of 1e12 keeps it busy for hours) and stops at the first blank line,
silently leaving out the frames behind it.
"""

import codecs
from pathlib import Path
from typing import BinaryIO

from eqff.errors import DataError

MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
N_VECTORS = 3  # lines `VEC1 ...` that may follow the atoms of a frame


def check_layout(path: str | Path) -> int:
    """That every frame has as many lines as it announces; what the lines say is left to the reader.

    Returns: number of frames, as far as their counts can be read
    Raises:  DataError EQ3035 a count that cannot be, EQ3036 cut short, EQ3037 text after a blank line, EQ3038 not UTF-8
    """
    n_bytes = Path(path).stat().st_size
    with open(path, "rb") as file:
        start = file.read(3)
        if start.startswith(MARKS):
            raise DataError("EQ3038", f"{path}: begins with a byte-order mark; save it as plain UTF-8 text")
        file.seek(0)
        frame = 0
        while header := file.readline():
            where = f"{path}: frame {frame} (byte {file.tell() - len(header)})"
            if not header.strip():
                _check_end(file, where)
                return frame
            try:
                n_atoms = int(header)
            except ValueError:
                return frame  # the reader says what is wrong with this line
            if not 0 <= n_atoms <= n_bytes - file.tell():  # a line has at least one byte
                raise DataError(
                    "EQ3035",
                    f"{where} announces {n_atoms} atoms, which {n_bytes - file.tell()} bytes cannot hold; correct it",
                )
            n_lines = sum(1 for _ in zip(range(n_atoms + 1), iter(file.readline, b""), strict=False))
            if n_lines < n_atoms + 1 and n_atoms > 0:
                raise DataError(
                    "EQ3036",
                    f"{where} announces {n_atoms} atoms, but the file ends after {max(n_lines - 1, 0)}; the file was "
                    "cut short: get it again, or remove this frame",
                )
            _skip_vectors(file)
            frame += 1
        return frame


def _check_end(file: BinaryIO, where: str) -> None:
    """Nothing but white space may follow."""
    while line := file.readline():
        if line.strip():
            raise DataError(
                "EQ3037", f"{where}: text follows a blank line; remove the blank line, or what follows would be lost"
            )


def _skip_vectors(file: BinaryIO) -> None:
    for _ in range(N_VECTORS):
        place = file.tell()
        if not file.readline().lstrip().startswith(b"VEC"):
            file.seek(place)
            return
