"""Arrays out of npz files that nobody vouches for, and frames out of arrays.  Nothing is ever unpickled."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqff.data.frame import Frame
from eqff.data.units import Units, decide_units
from eqff.errors import DataError

# what numpy and zipfile raise on archives that are cut short, changed, or claim impossible sizes
DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, MemoryError, ValueError, NotImplementedError, RuntimeError)

MAX_RATIO = 100  # numbers that were measured or computed do not shrink a hundredfold
RATIO_FROM = 2**26  # bytes; smaller arrays may be all zeros


def npz_names(path: str | Path) -> list[str]:
    """Names of the arrays in an npz file.  Raises: DataError EQ3020 if it is not a readable npz archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except FileNotFoundError:
        raise DataError("EQ3024", f"{path}: no such file") from None
    except DAMAGE as error:
        raise DataError("EQ3020", f"{path}: not a readable npz archive ({error}); download or write it again") from None


def read_npz(path: str | Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Chosen arrays of an npz file; others are not touched.

    Raises: DataError EQ3020 damaged, EQ3021 missing key, EQ3022 pickled objects, EQ3029 unpacks to implausibly much
    """
    present = npz_names(path)
    missing = [name for name in required if name not in present]
    if missing:
        raise DataError(
            "EQ3021", f"{path}: no array {', '.join(missing)}; it has {', '.join(sorted(present)) or 'none'}"
        )
    chosen = [*required, *(o for o in optional if o in present)]
    _check_ratio(path, chosen)
    arrays = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in chosen:
            try:
                arrays[name] = np.asarray(archive[name])
            except DAMAGE as error:
                if "allow_pickle" in str(error):
                    raise DataError(
                        "EQ3022",
                        f"{path}: array {name} holds pickled Python objects, which could run any program when read; "
                        "save it again as plain numbers",
                    ) from None
                raise DataError(
                    "EQ3020", f"{path}: array {name} is damaged ({error}); download or write the file again"
                ) from None
    return arrays


def _check_ratio(path: str | Path, names: Sequence[str]) -> None:
    """Refuse arrays that would fill the memory with nothing, before they are unpacked."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            suspicious = info.file_size > RATIO_FROM and info.file_size > MAX_RATIO * info.compress_size
            if info.filename.removesuffix(".npy") in names and suspicious:
                raise DataError(
                    "EQ3029",
                    f"{path}: array {info.filename.removesuffix('.npy')} unpacks from {info.compress_size} to "
                    f"{info.file_size} bytes, which no real data does; if it is meant, save it without compression",
                )


def as_text(value: np.ndarray | None) -> str | None:
    """A 0-d text array, bytes or str, as text; None where there is none or it is empty."""
    if value is None or value.size != 1:
        return None
    item = value.reshape(-1)[0]
    text = item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
    return text.strip() or None


class Trajectory:
    """Frames of one molecule as big arrays, checked: what MD17 and rMD17 files hold, still in the file's units.

    Args:   path: for messages; names: what the file calls (atomic_numbers, positions, energies, forces)
    Raises: DataError EQ3023 wrong shape, EQ3028 wrong dtype, EQ3025 no frames
    """

    def __init__(self, path: str | Path, arrays: dict[str, np.ndarray], names: tuple[str, str, str, str]) -> None:
        self.path = Path(path)
        numbers, positions, energies, forces = (arrays.get(name) for name in names)
        if numbers is None or positions is None:
            raise DataError("EQ3021", f"{path}: {names[0]} and {names[1]} are needed")
        for name, array in zip(names, (numbers, positions, energies, forces), strict=True):
            if array is not None and array.dtype.kind not in ("iuf" if name != names[0] else "iu"):
                raise DataError("EQ3028", f"{path}: {name} has dtype {array.dtype}, expected numbers")
        if positions.ndim != 3 or positions.shape[2] != 3:
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
        self.atomic_numbers = numbers.astype(np.int64)
        self.positions = positions.astype(np.float64)
        self.energies = None if energies is None else energies.reshape(-1).astype(np.float64)
        self.forces = None if forces is None else forces.astype(np.float64)

    def _refuse(self, name: str, array: np.ndarray, expected: str) -> None:
        raise DataError("EQ3023", f"{self.path}: {name} has shape {array.shape}, expected {expected}")

    def units(
        self, energy_unit: str | None, length_unit: str | None, stated: tuple[str | None, str | None] = (None, None)
    ) -> Units:
        """Units of this file; lengths are Å by convention of the MD17 family unless the distances contradict it."""
        shortest = self._shortest_distance()
        with_hydrogen = bool((self.atomic_numbers == 1).any())
        # X-H bonds are 0.9 to 1.2 Å, which is 1.7 to 2.3 Bohr and 0.09 to 0.12 nm
        plausible = shortest is None or 0.5 < shortest < (1.6 if with_hydrogen else 4.0)
        return decide_units(
            str(self.path),
            energy=(energy_unit, stated[0], None),
            length=(length_unit, stated[1], "Å" if plausible else None),
            forces=self.forces,
            shortest_distance=shortest,
        )

    def _shortest_distance(self) -> float | None:
        """Of the first frame, in the file's unit; None for one atom."""
        if len(self.atomic_numbers) < 2:
            return None
        first = self.positions[0]
        distance = np.linalg.norm(first[:, None] - first[None, :], axis=2)
        return float(distance[~np.eye(len(first), dtype=bool)].min())

    def frames(self, units: Units, info: dict[str, Any]) -> Iterator[Frame]:
        """All frames in eV and Å."""
        positions = self.positions * units.length_factor
        energies = None if self.energies is None else self.energies * units.energy_factor
        forces = None if self.forces is None else self.forces * units.force_factor
        for index in range(len(positions)):
            yield Frame(
                atomic_numbers=self.atomic_numbers,
                positions=positions[index],
                energy=None if energies is None else float(energies[index]),
                forces=None if forces is None else forces[index],
                info=dict(info),
            )
