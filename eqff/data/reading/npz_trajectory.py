"""Frames of one molecule as big arrays: what MD17, rMD17 and sGDML files hold, and which units they are in."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eqff.data.frame import Frame
from eqff.data.reading.file_units import Units, decide_units
from eqff.data.reading.npz import BLOCK, Rows, in_blocks, open_npz
from eqff.errors import DataError

N_FRAMES_TO_JUDGE = 1000
N_ATOMS_TO_JUDGE = 500


def frame_count(path: str | Path, name: str) -> int:
    """Number of rows of an array, from its header.  Raises: DataError as `open_npz`"""
    shape = open_npz(path, required=(name,))[name].shape
    return shape[0] if shape else 0


class Trajectory:
    """Frames of one molecule as big arrays, checked: what MD17 and rMD17 files hold, still in the file's units.

    Args:   path: for messages; arrays: in memory or in a file;
            names: what the file calls (atomic_numbers, positions, energies, forces)
    Raises: DataError EQ3915 a missing array, EQ3023 wrong shape, EQ3028 wrong dtype, EQ3025 no frames
    """

    def __init__(
        self, path: str | Path, arrays: "Mapping[str, np.ndarray | Rows]", names: tuple[str, str, str, str]
    ) -> None:
        self.path = Path(path)
        numbers, positions, energies, forces = (arrays.get(name) for name in names)
        if numbers is None or positions is None:
            raise DataError(
                "EQ3915",
                f"{path}: {names[0]} and {names[1]} are needed; add them, or choose another format with --from",
            )
        for name, array in zip(names, (numbers, positions, energies, forces), strict=True):
            if array is not None and array.dtype.kind not in ("iuf" if name != names[0] else "iu"):
                raise DataError(
                    "EQ3028", f"{path}: {name} has dtype {array.dtype}, expected numbers; write the array again"
                )
        if len(positions.shape) != 3 or positions.shape[2] != 3:
            self._refuse(names[1], positions, "(n_frames, n_atoms, 3)")
        n_frames, n_atoms = positions.shape[:2]
        if n_frames == 0 or n_atoms == 0:
            raise DataError("EQ3025", f"{path}: there are no frames to read; check that the file is complete")
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
        raise DataError(
            "EQ3023", f"{self.path}: {name} has shape {array.shape}, expected {expected}; write the array again"
        )

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
