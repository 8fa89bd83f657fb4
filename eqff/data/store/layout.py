"""How a store lies in HDF5 (schema 2): a few numbers per frame are held in memory, numbers per atom are read on demand.

    per frame    offsets [n + 1] rows of its atoms, composition_id, cell_id, stress_id, info_id (-1: none),
                 energy [n] eV, pbc [n, 3], has [n, 3] (energy, forces, stress)             about 40 bytes in memory
    per atom     atoms [N, 6]: x, y, z in Å, fx, fy, fz in eV/Å
    shared       composition_offsets, composition_numbers: the distinct sequences of atomic numbers; cells [m, 3, 3] Å
                 and info (JSON text, info_offsets): written only when they differ from the frame before;
                 stresses [k, 6] eV/Å^3

Positions and forces share a row, so a random frame costs one read.  Chunks of atoms are small (3 kB, half the reading
time of 65 kB for a random frame of aspirin), and compressed only where that saves a fifth, for thermal motion fills all
53 bits.  All chunks carry Fletcher-32 checksums.
"""

import zlib
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from eqff.data.store.damage import hdf5_errors
from eqff.data.store.flat_frames import FlatFrames
from eqff.errors import DataError

SCHEMA = 2
COMPRESS_BELOW = 0.8  # of the size; otherwise atoms are not compressed
# name -> (dtype, shape of one row, rows in a chunk, attributes)
PER_FRAME: dict[str, tuple[str, tuple[int, ...], int, dict[str, str]]] = {
    "offsets": ("<i8", (), 1024, {}),
    "composition_id": ("<i4", (), 1024, {}),
    "energy": ("<f8", (), 1024, {"unit": "eV"}),
    "pbc": ("u1", (3,), 1024, {}),
    "has": ("u1", (3,), 1024, {"columns": "energy forces stress"}),
    "cell_id": ("<i4", (), 1024, {}),
    "stress_id": ("<i4", (), 1024, {}),
    "info_id": ("<i4", (), 1024, {}),
}
SHARED: dict[str, tuple[str, tuple[int, ...], int, dict[str, str]]] = {
    "composition_offsets": ("<i8", (), 1024, {}),
    "composition_numbers": ("u1", (), 4096, {}),
    "cells": ("<f8", (3, 3), 64, {"unit": "Å", "rows": "lattice vectors"}),
    "stresses": ("<f8", (6,), 64, {"unit": "eV/Å^3", "columns": "xx yy zz yz xz xy, positive under tension"}),
    "info_offsets": ("<i8", (), 1024, {}),
    "info": ("u1", (), 4096, {"text": "JSON"}),
}
PER_ATOM: dict[str, tuple[str, tuple[int, ...], int, dict[str, str]]] = {
    "atoms": ("<f8", (6,), 64, {"unit": "Å, eV/Å", "columns": "x y z fx fy fz"}),
}
ARRAYS = PER_FRAME | SHARED | PER_ATOM


class ArrayWriter:
    """The arrays of a new store, appended to part by part.

    Args: file: empty; first: the first frames, by which it is decided whether atoms are worth compressing
    """

    def __init__(self, file: h5py.File, first: FlatFrames) -> None:
        self.file = file
        self.composition_id: dict[bytes, int] = {}
        self.last_cell: bytes | None = None
        self.last_info: bytes | None = None
        atoms_shrink = _compressed_size(first.atoms) < COMPRESS_BELOW
        for name, (dtype, shape, rows, attributes) in ARRAYS.items():
            compress = name not in PER_ATOM or atoms_shrink
            filters = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if compress else {}
            dataset = file.create_dataset(
                name,
                shape=(0, *shape),
                maxshape=(None, *shape),
                dtype=dtype,
                chunks=(rows, *shape),
                fletcher32=True,
                **filters,
            )
            for key, text in attributes.items():
                dataset.attrs[key] = text
        for name in ("offsets", "composition_offsets", "info_offsets"):
            self._append(name, np.zeros(1))

    def append(self, part: FlatFrames) -> None:
        """Add frames at the end."""
        self._append("offsets", self.file["offsets"][-1] + part.offsets[1:])
        self._append("composition_id", self._compositions(part))
        self._append("cell_id", self._cells(part))
        self._append("info_id", self._info(part))
        has_stress = part.has[:, 2].astype(bool)
        row = np.cumsum(has_stress) - 1 + self.file["stresses"].shape[0]
        self._append("stress_id", np.where(has_stress, row, -1))
        self._append("stresses", part.stress[has_stress])
        for name in ("atoms", "energy", "pbc", "has"):
            self._append(name, getattr(part, name))

    def _compositions(self, part: FlatFrames) -> np.ndarray:
        """[n_frames] composition_id; new compositions are written."""
        ids, new = np.empty(part.n_frames, dtype=np.int32), []
        for i, (start, stop) in enumerate(pairwise(part.offsets.tolist())):
            numbers = part.atomic_numbers[start:stop].tobytes()
            if numbers not in self.composition_id:
                self.composition_id[numbers] = len(self.composition_id)
                new.append(numbers)
            ids[i] = self.composition_id[numbers]
        self._append_ragged("composition_offsets", "composition_numbers", new)
        return ids

    def _cells(self, part: FlatFrames) -> np.ndarray:
        """[n_frames] cell_id, -1 for a zero cell; cells that differ from the one before are written."""
        ids, new = np.full(part.n_frames, -1), []
        n_cells = self.file["cells"].shape[0]
        for i in np.flatnonzero(part.cell.any(axis=(1, 2))).tolist():
            cell = part.cell[i].tobytes()
            if cell != self.last_cell:
                new.append(part.cell[i])
                self.last_cell = cell
            ids[i] = n_cells + len(new) - 1
        self._append("cells", np.array(new).reshape(-1, 3, 3))
        return ids

    def _info(self, part: FlatFrames) -> np.ndarray:
        """[n_frames] info_id, -1 for none; texts that differ from the one before are written."""
        ids, new = np.full(part.n_frames, -1), []
        n_texts = self.file["info_offsets"].shape[0] - 1
        for i, text in enumerate(part.info):
            if not text:
                continue
            if text != self.last_info:
                new.append(text)
                self.last_info = text
            ids[i] = n_texts + len(new) - 1
        self._append_ragged("info_offsets", "info", new)
        return ids

    def _append(self, name: str, values: np.ndarray) -> None:
        if len(values):
            dataset = self.file[name]
            start = dataset.shape[0]
            dataset.resize(start + len(values), axis=0)
            dataset[start:] = values

    def _append_ragged(self, offsets: str, name: str, values: list[bytes]) -> None:
        if values:
            self._append(offsets, self.file[offsets][-1] + np.cumsum([len(value) for value in values]))
            self._append(name, np.frombuffer(b"".join(values), dtype=np.uint8))


class StoredArrays:
    """The arrays of a store that is open for reading.

    Args:   file; path: for messages
    Raises: DataError EQ3950 if arrays are missing, EQ3951 to EQ3954 if they do not fit each other
    """

    def __init__(self, file: h5py.File, path: Path) -> None:
        self.file, self.path = file, path
        for name, (dtype, shape, _, _) in ARRAYS.items():
            dataset = file.get(name)
            if not isinstance(dataset, h5py.Dataset) or dataset.dtype != dtype or dataset.shape[1:] != shape:
                raise DataError("EQ3950", f"{path}: array {name} is missing or of another kind; write the store again")
        with hdf5_errors(path):
            held = {name: file[name][()] for name in (*PER_FRAME, "composition_offsets", "info_offsets")}
            self.composition_numbers = file["composition_numbers"][()]
        self.offsets, self.energy, self.has, self.pbc = (held[name] for name in ("offsets", "energy", "has", "pbc"))
        self.composition_id, self.cell_id = held["composition_id"], held["cell_id"]
        self.stress_id, self.info_id = held["stress_id"], held["info_id"]
        self.composition_offsets, self.info_offsets = held["composition_offsets"], held["info_offsets"]
        self.n_frames = len(self.energy)
        self._check_offsets("offsets", self.n_frames, file["atoms"].shape[0])
        n_compositions, n_texts = len(self.composition_offsets) - 1, len(self.info_offsets) - 1
        self._check_offsets("composition_offsets", n_compositions, len(self.composition_numbers))
        self._check_offsets("info_offsets", n_texts, file["info"].shape[0])
        limits = {
            "composition_id": (0, n_compositions),
            "cell_id": (-1, file["cells"].shape[0]),
            "stress_id": (-1, file["stresses"].shape[0]),
            "info_id": (-1, n_texts),
        }
        for name in ("pbc", "has", *limits):
            if len(held[name]) != self.n_frames:
                raise DataError(
                    "EQ3951", f"{path}: {name} has {len(held[name])} rows, expected {self.n_frames}; write it again"
                )
        for name, (low, high) in limits.items():
            if self.n_frames and not low <= held[name].min() <= held[name].max() < high:
                raise DataError("EQ3952", f"{path}: {name} points outside its table; write it again")
        sizes = np.diff(self.composition_offsets)[self.composition_id]
        if not np.array_equal(sizes, np.diff(self.offsets)):
            raise DataError("EQ3953", f"{path}: compositions and offsets disagree on n_atoms; write the store again")

    def _check_offsets(self, name: str, n_rows: int, end: int) -> None:
        offsets = getattr(self, name)
        fits = len(offsets) == n_rows + 1 and offsets[0] == 0 and offsets[-1] == end
        if not fits or (np.diff(offsets) < 0).any():
            raise DataError("EQ3954", f"{self.path}: {name} does not fit the array it points into; write it again")

    def read(self, rows: np.ndarray) -> FlatFrames:
        """Frames of distinct, ascending numbers.  Raises: DataError EQ3072 for a damaged chunk"""
        with hdf5_errors(self.path):
            starts, stops = self.offsets[rows], self.offsets[rows + 1]
            ids = self.composition_id[rows]
            spans = zip(self.composition_offsets[ids].tolist(), self.composition_offsets[ids + 1].tolist(), strict=True)
            numbers = [self.composition_numbers[start:stop] for start, stop in spans]
            offsets = np.zeros(len(rows) + 1, dtype=np.int64)
            np.cumsum(stops - starts, out=offsets[1:])
            return FlatFrames(
                offsets=offsets,
                atomic_numbers=np.concatenate(numbers) if numbers else np.zeros(0, np.uint8),
                atoms=_read_rows(self.file["atoms"], starts, stops),
                energy=self.energy[rows],
                cell=self._table("cells", self.cell_id[rows]),
                pbc=self.pbc[rows],
                stress=self._table("stresses", self.stress_id[rows]),
                has=self.has[rows],
                info=self._texts(self.info_id[rows]),
            )

    def _table(self, name: str, ids: np.ndarray) -> np.ndarray:
        """Rows of a table, zeros for -1; each row is read once."""
        dataset = self.file[name]
        values = np.zeros((len(ids), *dataset.shape[1:]))
        present = ids >= 0
        if present.any():
            distinct, inverse = np.unique(ids[present], return_inverse=True)
            values[present] = _read_rows(dataset, distinct, distinct + 1)[inverse.reshape(-1)]
        return values

    def _texts(self, ids: np.ndarray) -> list[bytes]:
        texts = {-1: b""}
        distinct = np.unique(ids[ids >= 0])
        if len(distinct):
            starts, stops = self.info_offsets[distinct], self.info_offsets[distinct + 1]
            joined = _read_rows(self.file["info"], starts, stops).tobytes()
            ends = np.cumsum(stops - starts).tolist()
            texts |= dict(zip(distinct.tolist(), map(joined.__getitem__, map(slice, [0, *ends], ends)), strict=True))
        return [texts[i] for i in ids.tolist()]


def _read_rows(dataset: h5py.Dataset, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Rows starts[k] to stops[k] - 1 for all k, one after the other; ascending ones that touch are read in one go.

    A third of the time of `dataset[start:stop]` for each: no selection is parsed, nothing is copied.
    """
    shape = dataset.shape[1:]
    values = np.empty((int((stops - starts).sum()), *shape), dtype=dataset.dtype)
    if not len(values):
        return values
    heads = np.flatnonzero(np.append(True, starts[1:] != stops[:-1]))
    firsts, lasts = starts[heads].tolist(), stops[np.append(heads[1:], len(stops)) - 1].tolist()
    source, kind, targets = dataset.id.get_space(), dataset.id.get_type(), {}
    origin, place = (0,) * len(shape), 0
    for first, last in zip(firsts, lasts, strict=True):
        count = last - first
        if count not in targets:
            targets[count] = h5py.h5s.create_simple((count, *shape))
        source.select_hyperslab((first, *origin), (count, *shape))
        dataset.id.read(targets[count], source, values[place : place + count], kind)
        place += count
    return values


def _compressed_size(atoms: np.ndarray) -> float:
    """Size of the first chunks after shuffle and gzip, relative to their size before."""
    rows = PER_ATOM["atoms"][2]
    chunks = [atoms[start : start + rows] for start in range(0, min(len(atoms), 16 * rows), rows)]
    shuffled = [np.ascontiguousarray(chunk).view(np.uint8).reshape(-1, 8).T.tobytes() for chunk in chunks]
    return sum(len(zlib.compress(part, 1)) for part in shuffled) / max(1, sum(map(len, shuffled)))
