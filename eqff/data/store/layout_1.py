"""Stores of schema 1, as eqff 0.1 wrote them: only read.

atom arrays   atomic_numbers [N] uint8, positions [N, 3], forces [N, 3]          N = atoms of all frames
frame arrays  offsets [n + 1], energy [n], cell [n, 3, 3], pbc [n, 3], stress [n, 6], has_energy/forces/stress [n]
info          info [bytes] JSON text of all frames, info_offsets [n + 1]
"""

import hashlib
from pathlib import Path

import h5py
import numpy as np

from eqff.data.frame import LABELS
from eqff.data.store.block import Block
from eqff.data.store.damage import damage_named
from eqff.data.store.journal import IndependentFile
from eqff.data.store.layout import read_rows
from eqff.errors import DataError

SCHEMA = 1
# name -> (dtype, shape of one row); the digest runs over them in this order
ARRAYS: dict[str, tuple[str, tuple[int, ...]]] = {
    "offsets": ("<i8", ()),
    "atomic_numbers": ("u1", ()),
    "positions": ("<f8", (3,)),
    "forces": ("<f8", (3,)),
    "energy": ("<f8", ()),
    "cell": ("<f8", (3, 3)),
    "pbc": ("u1", (3,)),
    "stress": ("<f8", (6,)),
    "has_energy": ("u1", ()),
    "has_forces": ("u1", ()),
    "has_stress": ("u1", ()),
    "info_offsets": ("<i8", ()),
    "info": ("u1", ()),
}
PER_ATOM = ("atomic_numbers", "positions", "forces")


class Layout:
    """A store of schema 1, open for reading.

    Args:   file; path: for messages; raw: not needed
    Raises: DataError EQ3072 if arrays are missing, or do not fit each other
    """

    def __init__(self, file: h5py.File, path: Path, raw: IndependentFile) -> None:
        self.file, self.path = file, path
        n_rows = {}
        for name, (dtype, shape) in ARRAYS.items():
            dataset = file.get(name)
            if not isinstance(dataset, h5py.Dataset) or dataset.dtype != dtype or dataset.shape[1:] != shape:
                raise DataError("EQ3072", f"{path}: array {name} is missing or of another kind; write it again")
            n_rows[name] = dataset.shape[0]
        with damage_named(path):
            self.offsets, self.info_offsets = file["offsets"][()], file["info_offsets"][()]
            self.energy = file["energy"][()]
            self.has = np.stack([file[f"has_{label}"][()] for label in LABELS], axis=1)
        self.n_frames = n_rows["energy"]
        for offsets, end in ((self.offsets, "positions"), (self.info_offsets, "info")):
            fits = len(offsets) == self.n_frames + 1 and offsets[0] == 0 and offsets[-1] == n_rows[end]
            if not fits or (np.diff(offsets) < 0).any():
                raise DataError("EQ3072", f"{path}: the offsets do not fit {end}; write it again")
        for name in ARRAYS:
            expected = n_rows["positions"] if name in PER_ATOM else self.n_frames
            if not name.endswith(("offsets", "info")) and n_rows[name] != expected:
                raise DataError("EQ3072", f"{path}: {name} has {n_rows[name]} rows, expected {expected}")

    def block(self, rows: np.ndarray) -> Block:
        """Frames of distinct, ascending numbers.  Raises: DataError EQ3072 for a damaged chunk"""
        with damage_named(self.path):
            starts, stops = self.offsets[rows], self.offsets[rows + 1]
            offsets = np.zeros(len(rows) + 1, dtype=np.int64)
            np.cumsum(stops - starts, out=offsets[1:])
            per_atom = {name: read_rows(self.file[name], starts, stops) for name in PER_ATOM}
            per_frame = {name: read_rows(self.file[name], rows, rows + 1) for name in ("cell", "pbc", "stress")}
            text_starts, text_stops = self.info_offsets[rows], self.info_offsets[rows + 1]
            text = read_rows(self.file["info"], text_starts, text_stops).tobytes()
            ends = np.cumsum(text_stops - text_starts).tolist()
            return Block(
                offsets=offsets,
                atomic_numbers=per_atom["atomic_numbers"],
                atoms=np.concatenate([per_atom["positions"], per_atom["forces"]], axis=1),
                energy=self.energy[rows],
                has=self.has[rows],
                info=[text[start:stop] for start, stop in zip([0, *ends], ends, strict=False)],
                **per_frame,
            )

    def species(self) -> list[int]:
        """Atomic numbers that occur, ascending."""
        with damage_named(self.path):
            return np.unique(self.file["atomic_numbers"][()]).tolist()

    def digest(self) -> str:
        """SHA-256 over name, dtype, shape and little-endian bytes of every array, in the order of ARRAYS."""
        digest = hashlib.sha256(f"eqff-store {SCHEMA}".encode())
        for name, (dtype, _) in ARRAYS.items():
            dataset = self.file[name]
            digest.update(f"{name} {dtype} {dataset.shape}".encode())
            for start in range(0, dataset.shape[0], 65536):
                digest.update(np.ascontiguousarray(dataset[start : start + 65536], dtype=dtype).tobytes())
        return digest.hexdigest()
