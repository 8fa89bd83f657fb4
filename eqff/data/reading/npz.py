"""Arrays out of npz files that nobody vouches for, and frames out of arrays.  Nothing is ever unpickled.

What an array claims to be is compared with the bytes that are there before any memory is taken, and large arrays are
read in blocks of rows.
"""

import lzma
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from eqff.data.frame import Frame
from eqff.data.reading.file_units import Units, decide_units
from eqff.errors import DataError

# what numpy and zipfile raise on archives that are cut short, changed, or claim impossible sizes
DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, MemoryError, ValueError, KeyError,
    NotImplementedError, RuntimeError, OverflowError, SyntaxError, TypeError,
)  # fmt: skip

MAX_RATIO = 100  # numbers that were measured or computed do not shrink a hundredfold
RATIO_FROM = 2**26  # bytes; smaller arrays may be all zeros
MAX_MEMBERS = 10_000
BLOCK = 2**22  # bytes read at once
N_FRAMES_TO_JUDGE = 1000
N_ATOMS_TO_JUDGE = 500


def npz_names(path: str | Path) -> list[str]:
    """Names of the arrays in an npz file.

    Raises: DataError EQ3024 no file, EQ3020 not a readable npz archive, EQ3029 implausibly many members
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except FileNotFoundError:
        raise DataError("EQ3024", f"{path}: no such file") from None
    except DAMAGE as error:
        raise DataError("EQ3020", f"{path}: not a readable npz archive ({error}); download or write it again") from None
    if len(names) > MAX_MEMBERS:
        raise DataError("EQ3029", f"{path}: holds {len(names)} members, no data set has more than {MAX_MEMBERS}")
    if len(set(names)) < len(names):
        raise DataError("EQ3020", f"{path}: two of its arrays have one name; write it again")
    return names


def read_npz(path: str | Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Chosen arrays of an npz file in memory; others are not touched.  Raises: as `open_npz`"""
    return {name: rows.whole() for name, rows in open_npz(path, required, optional).items()}


def open_npz(path: str | Path, required: Sequence[str], optional: Sequence[str] = ()) -> "dict[str, Rows]":
    """Chosen arrays of an npz file, to be read in blocks; others are not touched.

    Raises: DataError EQ3020 damaged, EQ3021 missing key, EQ3022 pickled objects, EQ3029 unpacks to implausibly much
    """
    present = npz_names(path)
    missing = [name for name in required if name not in present]
    if missing:
        raise DataError(
            "EQ3021", f"{path}: no array {', '.join(missing)}; it has {', '.join(sorted(present)) or 'none'}"
        )
    return {name: Rows(path, name) for name in (*required, *(o for o in optional if o in present))}


class Rows:
    """An array in an npz file: its shape and dtype are known, its rows are read when they are asked for.

    Raises: DataError EQ3020 damaged or other than it claims, EQ3022 pickled objects, EQ3029 unpacks to implausibly much
    """

    def __init__(self, path: str | Path, name: str) -> None:
        self.path, self.name = path, name
        try:
            with zipfile.ZipFile(path) as archive:
                info = next(i for i in archive.infolist() if i.filename.removesuffix(".npy") == name)
                self._member = info.filename
                self._check_ratio(info)
                with archive.open(info) as stream:
                    self.shape, self._fortran, self.dtype = _header(stream)
                    n_header = stream.tell()
        except DAMAGE as error:
            raise self._damaged(error) from None
        if self.dtype.hasobject:
            raise DataError(
                "EQ3022",
                f"{path}: array {name} holds pickled Python objects, which could run any program when read; "
                "save it again as plain numbers",
            )
        n_bytes = math.prod(self.shape) * self.dtype.itemsize
        if n_bytes != info.file_size - n_header:
            there = f"{info.file_size - n_header} bytes are there"
            raise self._damaged(f"shape {self.shape} of {self.dtype} needs {n_bytes} bytes, {there}")

    def _check_ratio(self, info: zipfile.ZipInfo) -> None:
        """Refuse what would fill the memory with nothing, before it is unpacked."""
        if info.file_size > RATIO_FROM and info.file_size > MAX_RATIO * info.compress_size:
            raise DataError(
                "EQ3029",
                f"{self.path}: array {self.name} unpacks from {info.compress_size} to "
                f"{info.file_size} bytes, which no real data does; if it is meant, save it without compression",
            )

    def _damaged(self, reason: Any) -> DataError:
        return DataError(
            "EQ3020", f"{self.path}: array {self.name} is damaged ({reason}); download or write the file again"
        )

    def whole(self) -> np.ndarray:
        """All of it.  Raises: DataError EQ3020"""
        found = list(self.blocks(self.shape[0] if self.shape else 1))
        return found[0].reshape(self.shape) if found else np.empty(self.shape, self.dtype)

    def blocks(self, n_rows: int) -> Iterator[np.ndarray]:
        """n_rows at a time, in order; the checksum is compared after the last.  Raises: DataError EQ3020"""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._member) as stream:
                _header(stream)
                n_left = self.shape[0] if self.shape else 1
                if self._fortran:
                    n_rows = n_left  # columns are stored one after the other: no row is complete before the end
                row = self.shape[1:]
                while n_left > 0:
                    n_now = min(n_rows, n_left)
                    n_bytes = n_now * math.prod(row) * self.dtype.itemsize
                    content = stream.read(n_bytes)
                    if len(content) < n_bytes:
                        raise EOFError(f"cut short, {n_bytes - len(content)} bytes are missing")
                    values = np.frombuffer(content, self.dtype, count=n_now * math.prod(row))
                    shape = (n_now, *row)
                    yield values.reshape(shape[::-1]).transpose() if self._fortran else values.reshape(shape)
                    n_left -= n_now
                stream.read(1)  # compares the checksum
        except DAMAGE as error:
            raise self._damaged(error) from None


def in_blocks(array: "np.ndarray | Rows", n_rows: int) -> Iterator[np.ndarray]:
    """Rows of an array in memory or in a file, n_rows at a time."""
    if isinstance(array, Rows):
        yield from array.blocks(n_rows)
    else:
        for start in range(0, len(array), n_rows):
            yield array[start : start + n_rows]


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order, dtype of a .npy.  Raises: what numpy raises; ValueError"""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers that Python 2 wrote are read all the same
        shape, fortran, dtype = read(stream)
    if any(n < 0 for n in shape):
        raise ValueError(f"shape {shape}")
    return shape, fortran, dtype


def as_text(value: np.ndarray | None) -> str | None:
    """A 0-d text array, bytes or str, as text; None where there is none or it is empty."""
    if value is None or value.size != 1:
        return None
    item = value.reshape(-1)[0]
    text = item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
    return text.strip() or None


class Trajectory:
    """Frames of one molecule as big arrays, checked: what MD17 and rMD17 files hold, still in the file's units.

    Args:   path: for messages; arrays: in memory or in a file;
            names: what the file calls (atomic_numbers, positions, energies, forces)
    Raises: DataError EQ3023 wrong shape, EQ3028 wrong dtype, EQ3025 no frames
    """

    def __init__(
        self, path: str | Path, arrays: "Mapping[str, np.ndarray | Rows]", names: tuple[str, str, str, str]
    ) -> None:
        self.path = Path(path)
        numbers, positions, energies, forces = (arrays.get(name) for name in names)
        if numbers is None or positions is None:
            raise DataError("EQ3021", f"{path}: {names[0]} and {names[1]} are needed")
        for name, array in zip(names, (numbers, positions, energies, forces), strict=True):
            if array is not None and array.dtype.kind not in ("iuf" if name != names[0] else "iu"):
                raise DataError("EQ3028", f"{path}: {name} has dtype {array.dtype}, expected numbers")
        if len(positions.shape) != 3 or positions.shape[2] != 3:
            self._refuse(names[1], positions, "(n_frames, n_atoms, 3)")
        n_frames, n_atoms = positions.shape[:2]
        if n_frames == 0 or n_atoms == 0:
            raise DataError("EQ3025", f"{path}: {names[1]} has shape {positions.shape}: there are no frames to read")
        if numbers.shape != (n_atoms,):
            self._refuse(names[0], numbers, f"({n_atoms},), one for each atom of {names[1]}")
        if energies is not None and energies.shape not in ((n_frames,), (n_frames, 1)):
            self._refuse(names[2], energies, f"({n_frames},) or ({n_frames}, 1), one for each frame of {names[1]}")
        if forces is not None and forces.shape != positions.shape:
            self._refuse(names[3], forces, f"{positions.shape}, the shape of {names[1]}")
        self.atomic_numbers = next(in_blocks(numbers, n_atoms)).astype(np.int64)
        self.n_frames, self.n_atoms = n_frames, n_atoms
        self.positions, self.energies, self.forces = positions, energies, forces

    def _refuse(self, name: str, array: "np.ndarray | Rows", expected: str) -> None:
        raise DataError("EQ3023", f"{self.path}: {name} has shape {array.shape}, expected {expected}")

    def units(
        self, energy_unit: str | None, length_unit: str | None, stated: tuple[str | None, str | None] = (None, None)
    ) -> Units:
        """Units of this file; lengths are Å by convention of the MD17 family unless the distances contradict it."""
        n_judged = min(N_FRAMES_TO_JUDGE, self._n_rows)
        shortest = self._shortest_distance()
        with_hydrogen = bool((self.atomic_numbers == 1).any())
        # X-H bonds are 0.9 to 1.2 Å, which is 1.7 to 2.3 Bohr and 0.09 to 0.12 nm
        plausible = shortest is None or 0.5 < shortest < (1.6 if with_hydrogen else 4.0)
        energies = [] if self.energies is None else next(in_blocks(self.energies, n_judged)).reshape(-1).tolist()
        return decide_units(
            str(self.path),
            energy=(energy_unit, stated[0], None),
            length=(length_unit, stated[1], "Å" if plausible else None),
            forces=None if self.forces is None else next(in_blocks(self.forces, n_judged)),
            energies=(energies, [self.atomic_numbers] * len(energies)),
            shortest_distance=shortest,
        )

    def _shortest_distance(self) -> float | None:
        """Of the first frame, in the file's unit; None for one atom, or where there is none to measure."""
        first = next(in_blocks(self.positions, 1))[0, :N_ATOMS_TO_JUDGE].astype(np.float64)
        if len(first) < 2 or not np.isfinite(first).all():
            return None
        with np.errstate(over="ignore"):
            distance = np.linalg.norm(first[:, None] - first[None, :], axis=2)
        return float(distance[~np.eye(len(first), dtype=bool)].min())

    @property
    def _n_rows(self) -> int:
        """Frames read at once."""
        return max(1, BLOCK // (24 * self.n_atoms))

    def frames(self, units: Units, info: dict[str, Any]) -> Iterator[Frame]:
        """All frames in eV and Å."""
        n_rows = self._n_rows
        energy_blocks = iter(()) if self.energies is None else in_blocks(self.energies, n_rows)
        force_blocks = iter(()) if self.forces is None else in_blocks(self.forces, n_rows)
        for block in in_blocks(self.positions, n_rows):
            with np.errstate(over="ignore"):
                positions = block.astype(np.float64) * units.length_factor
                energies, forces = next(energy_blocks, None), next(force_blocks, None)
                if energies is not None:
                    energies = energies.reshape(-1).astype(np.float64) * units.energy_factor
                if forces is not None:
                    forces = forces.astype(np.float64) * units.force_factor
            for index in range(len(positions)):
                yield Frame(
                    atomic_numbers=self.atomic_numbers,
                    positions=positions[index],
                    energy=None if energies is None else float(energies[index]),
                    forces=None if forces is None else forces[index],
                    info=dict(info),
                )
        for rest in (energy_blocks, force_blocks):
            next(rest, None)  # compares their checksums
