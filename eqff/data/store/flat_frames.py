"""Frames as flat arrays, one after the other: the form in which a store keeps them and its digest is computed."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from eqff.data.frame import LABELS, Frame

EMPTY_DIGEST = hashlib.sha256(b"eqff-frames-2").digest()  # the digest of zero frames


class FlatFrames(NamedTuple):
    """n_frames frames, their atoms one after the other.  A missing label is stored as 0, so every number is finite."""

    offsets: np.ndarray  # [n_frames + 1] int64, rows of the atoms of each frame
    atomic_numbers: np.ndarray  # [n_atoms] uint8
    atoms: np.ndarray  # [n_atoms, 6] x, y, z in Å and fx, fy, fz in eV/Å
    energy: np.ndarray  # [n_frames] eV
    cell: np.ndarray  # [n_frames, 3, 3] Å
    pbc: np.ndarray  # [n_frames, 3] uint8
    stress: np.ndarray  # [n_frames, 6] eV/Å^3
    has: np.ndarray  # [n_frames, 3] uint8, whether there is an energy, forces, stress
    info: list[bytes]  # JSON text of each frame, empty for {}

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.energy)

    def frames(self) -> Iterator[Frame]:
        """The frames, with their own copies of the arrays."""
        has, offsets, energy = self.has.astype(bool).tolist(), self.offsets.tolist(), self.energy.tolist()
        periodic = self.pbc.astype(bool)
        for i, (has_energy, has_forces, has_stress) in enumerate(has):
            rows = slice(offsets[i], offsets[i + 1])
            yield Frame(
                atomic_numbers=self.atomic_numbers[rows].astype(np.int64),
                positions=self.atoms[rows, :3].copy(),
                cell=self.cell[i].copy(),
                pbc=periodic[i].copy(),
                energy=energy[i] if has_energy else None,
                forces=self.atoms[rows, 3:].copy() if has_forces else None,
                stress=self.stress[i].copy() if has_stress else None,
                info=json.loads(self.info[i]) if self.info[i] else {},
            )

    def extend_digest(self, digest: bytes) -> bytes:
        """Digest of all frames up to the last of these, computed from the digest of all frames before them.

        The digest is a chain over frames, SHA-256(previous digest, numbers of this frame), so it does not depend on
        how frames are grouped when they are written or read.
        """
        sizes, offsets = np.diff(self.offsets).tolist(), self.offsets.tolist()
        for i, n_atoms in enumerate(sizes):
            rows = slice(offsets[i], offsets[i + 1])
            link = hashlib.sha256(digest)
            link.update(b"%d %d " % (n_atoms, len(self.info[i])))
            link.update(self.has[i].tobytes() + self.pbc[i].tobytes())
            link.update(self.atomic_numbers[rows].tobytes())
            link.update(self.atoms[rows].tobytes())
            link.update(self.energy[i].tobytes() + self.cell[i].tobytes() + self.stress[i].tobytes())
            link.update(self.info[i])
            digest = link.digest()
        return digest


def flatten(frames: Sequence[Frame]) -> FlatFrames:
    """Frames as flat arrays.  They must have passed `check_frame`."""
    offsets = np.zeros(len(frames) + 1, dtype=np.int64)
    np.cumsum([len(f.atomic_numbers) for f in frames], out=offsets[1:])
    atoms = np.zeros((offsets[-1], 6))
    numbers = np.empty(offsets[-1], dtype=np.uint8)
    stress = np.zeros((len(frames), 6))
    for i, (frame, start, stop) in enumerate(zip(frames, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        numbers[start:stop] = frame.atomic_numbers
        atoms[start:stop, :3] = frame.positions
        if frame.forces is not None:
            atoms[start:stop, 3:] = frame.forces
        if frame.stress is not None:
            stress[i] = frame.stress
    return FlatFrames(
        offsets=offsets,
        atomic_numbers=numbers,
        atoms=atoms,
        energy=np.array([0.0 if f.energy is None else f.energy for f in frames], dtype=np.float64),
        cell=np.array([f.cell for f in frames], dtype=np.float64).reshape(-1, 3, 3),
        pbc=np.array([f.pbc for f in frames], dtype=np.uint8).reshape(-1, 3),
        stress=stress,
        has=np.array([[getattr(f, label) is not None for label in LABELS] for f in frames], dtype=np.uint8),
        info=[json.dumps(f.info, default=_plain).encode() if f.info else b"" for f in frames],
    )


def _plain(value: Any) -> Any:
    """A numpy value as JSON, anything else as text."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)
