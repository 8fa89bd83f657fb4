"""How a store lies in HDF5 (schema 2): what is a few numbers per frame is held in memory, what is per atom is read.

    per frame    offsets [n + 1] rows of its atoms, composition_id, cell_id, stress_id, info_id (-1: none),
                 energy [n] eV, pbc [n, 3], has [n, 3] (energy, forces, stress)             about 40 bytes in memory
    per atom     atoms [N, 6]: x, y, z in Å, fx, fy, fz in eV/Å
    shared       composition_offsets, composition_numbers: the distinct sequences of atomic numbers; cells [m, 3, 3] Å
                 and info (JSON text, info_offsets): each kept once as long as it does not change;
                 stresses [k, 6] eV/Å^3

Positions and forces share a row, so a frame taken at random costs one read.  Their chunks are small and compressed only
where that saves a fifth, for thermal motion fills all 53 bits (aspirin: 23 µs a frame from chunks of 3 kB, 51 µs from
65 kB; with gzip 46 µs for a file 4 % smaller, or 150 µs for 10 %).  All chunks carry Fletcher-32 checksums.
"""

import secrets
import zlib
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from eqff.data.store.block import Block
from eqff.data.store.chunks import PlainChunks
from eqff.data.store.damage import damage_named
from eqff.data.store.journal import IndependentFile
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


def create(file: h5py.File, first: Block) -> None:
    """All arrays, empty; `first` decides whether atoms are worth compressing."""
    identity = np.frombuffer(secrets.token_bytes(16), dtype=np.uint8)
    file.create_dataset("identity", data=identity)  # contiguous: a journal knows the file by it
    for name, (dtype, shape, rows, attributes) in ARRAYS.items():
        squeezed = name not in PER_ATOM or _compressed_size(first.atoms) < COMPRESS_BELOW
        how = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if squeezed else {}
        dataset = file.create_dataset(
            name, shape=(0, *shape), maxshape=(None, *shape), dtype=dtype, chunks=(rows, *shape), fletcher32=True, **how
        )
        for key, text in attributes.items():
            dataset.attrs[key] = text
    for name in ("offsets", "composition_offsets", "info_offsets"):
        _append(file, name, np.zeros(1))


def identity(file: h5py.File) -> tuple[int, bytes]:
    """Where in the file its identity lies, and the 16 bytes."""
    return int(file["identity"].id.get_offset()), file["identity"][()].tobytes()


class Appender:
    """What has to be known of a store to append to it.

    Args: file: an open store
    """

    def __init__(self, file: h5py.File) -> None:
        ends, numbers = file["composition_offsets"][()], file["composition_numbers"][()]
        self.composition_id = {
            numbers[start:stop].tobytes(): k for k, (start, stop) in enumerate(pairwise(ends.tolist()))
        }
        self.last_cell: bytes | None = file["cells"][-1].tobytes() if len(file["cells"]) else None
        info_ends = file["info_offsets"][-2:]
        self.last_info: bytes | None = file["info"][info_ends[0] :].tobytes() if len(info_ends) == 2 else None

    def append(self, file: h5py.File, block: Block) -> None:
        """Add frames to an open store."""
        _append(file, "offsets", file["offsets"][-1] + block.offsets[1:])
        _append(file, "composition_id", self._compositions(file, block))
        _append(file, "cell_id", self._cells(file, block))
        _append(file, "info_id", self._info(file, block))
        with_stress = block.has[:, 2].astype(bool)
        row = np.cumsum(with_stress) - 1 + file["stresses"].shape[0]
        _append(file, "stress_id", np.where(with_stress, row, -1))
        _append(file, "stresses", block.stress[with_stress])
        for name in ("atoms", "energy", "pbc", "has"):
            _append(file, name, getattr(block, name))

    def _compositions(self, file: h5py.File, block: Block) -> np.ndarray:
        found, new = np.empty(block.n_frames, dtype=np.int32), []
        ends = block.offsets.tolist()
        for i in range(block.n_frames):
            numbers = block.atomic_numbers[ends[i] : ends[i + 1]].tobytes()
            if numbers not in self.composition_id:
                self.composition_id[numbers] = len(self.composition_id)
                new.append(numbers)
            found[i] = self.composition_id[numbers]
        _append_ragged(file, "composition_offsets", "composition_numbers", new)
        return found

    def _cells(self, file: h5py.File, block: Block) -> np.ndarray:
        found, new = np.full(block.n_frames, -1), []
        n_cells = file["cells"].shape[0]
        for i in np.flatnonzero(block.cell.any(axis=(1, 2))).tolist():
            cell = block.cell[i].tobytes()
            if cell != self.last_cell:
                new.append(block.cell[i])
                self.last_cell = cell
            found[i] = n_cells + len(new) - 1
        _append(file, "cells", np.array(new).reshape(-1, 3, 3))
        return found

    def _info(self, file: h5py.File, block: Block) -> np.ndarray:
        found, new = np.full(block.n_frames, -1), []
        n_texts = file["info_offsets"].shape[0] - 1
        for i, text in enumerate(block.info):
            if not text:
                continue
            if text != self.last_info:
                new.append(text)
                self.last_info = text
            found[i] = n_texts + len(new) - 1
        _append_ragged(file, "info_offsets", "info", new)
        return found


class Layout:
    """A store of this schema, open for reading.

    Args:   file; path: for messages; raw: the file below HDF5
    Raises: DataError EQ3072 if arrays are missing, or do not fit each other
    """

    def __init__(self, file: h5py.File, path: Path, raw: IndependentFile) -> None:
        self.file, self.path, self.raw = file, path, raw
        self.plain_atoms: PlainChunks | None = None  # made when first needed: it has to visit all chunks
        for name, (dtype, shape, _, _) in ARRAYS.items():
            dataset = file.get(name)
            if not isinstance(dataset, h5py.Dataset) or dataset.dtype != dtype or dataset.shape[1:] != shape:
                raise DataError("EQ3072", f"{path}: array {name} is missing or of another kind; write it again")
        with damage_named(path):
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
                raise DataError("EQ3072", f"{path}: {name} has {len(held[name])} rows, expected {self.n_frames}")
        for name, (low, high) in limits.items():
            if self.n_frames and not low <= held[name].min() <= held[name].max() < high:
                raise DataError("EQ3072", f"{path}: {name} points outside its table; write it again")
        sizes = np.diff(self.composition_offsets)[self.composition_id]
        if not np.array_equal(sizes, np.diff(self.offsets)):
            raise DataError("EQ3072", f"{path}: compositions and offsets disagree on the number of atoms")

    def _check_offsets(self, name: str, n_rows: int, end: int) -> None:
        offsets = getattr(self, name)
        fits = len(offsets) == n_rows + 1 and offsets[0] == 0 and offsets[-1] == end
        if not fits or (np.diff(offsets) < 0).any():
            raise DataError("EQ3072", f"{self.path}: {name} does not fit the array it points into; write it again")

    def block(self, rows: np.ndarray) -> Block:
        """Frames of distinct, ascending numbers.  Raises: DataError EQ3072 for a damaged chunk"""
        with damage_named(self.path):
            starts, stops = self.offsets[rows], self.offsets[rows + 1]
            ids = self.composition_id[rows]
            spans = zip(self.composition_offsets[ids].tolist(), self.composition_offsets[ids + 1].tolist(), strict=True)
            numbers = [self.composition_numbers[start:stop] for start, stop in spans]
            offsets = np.zeros(len(rows) + 1, dtype=np.int64)
            np.cumsum(stops - starts, out=offsets[1:])
            return Block(
                offsets=offsets,
                atomic_numbers=np.concatenate(numbers) if numbers else np.zeros(0, np.uint8),
                atoms=self._atoms(starts, stops),
                energy=self.energy[rows],
                cell=self._table("cells", self.cell_id[rows]),
                pbc=self.pbc[rows],
                stress=self._table("stresses", self.stress_id[rows]),
                has=self.has[rows],
                info=self._texts(self.info_id[rows]),
            )

    def _atoms(self, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        dataset = self.file["atoms"]
        if dataset.compression is not None:
            return read_rows(dataset, starts, stops)
        if self.plain_atoms is None:
            self.plain_atoms = PlainChunks(dataset, self.raw, self.path)
        return self.plain_atoms.read(starts, stops)

    def _table(self, name: str, ids: np.ndarray) -> np.ndarray:
        """Rows of a table, zeros for -1; each row is read once."""
        dataset = self.file[name]
        values = np.zeros((len(ids), *dataset.shape[1:]))
        present = ids >= 0
        if present.any():
            distinct, inverse = np.unique(ids[present], return_inverse=True)
            values[present] = read_rows(dataset, distinct, distinct + 1)[inverse.reshape(-1)]
        return values

    def _texts(self, ids: np.ndarray) -> list[bytes]:
        texts = {-1: b""}
        distinct = np.unique(ids[ids >= 0])
        if len(distinct):
            starts, stops = self.info_offsets[distinct], self.info_offsets[distinct + 1]
            joined = read_rows(self.file["info"], starts, stops).tobytes()
            ends = np.cumsum(stops - starts).tolist()
            texts |= dict(zip(distinct.tolist(), map(joined.__getitem__, map(slice, [0, *ends], ends)), strict=True))
        return [texts[i] for i in ids.tolist()]

    def species(self) -> list[int]:
        """Atomic numbers that occur, ascending."""
        return np.unique(self.composition_numbers).tolist()


def read_rows(dataset: h5py.Dataset, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
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


def _append(file: h5py.File, name: str, values: np.ndarray) -> None:
    if len(values):
        dataset = file[name]
        start = dataset.shape[0]
        dataset.resize(start + len(values), axis=0)
        dataset[start:] = values


def _append_ragged(file: h5py.File, offsets: str, name: str, values: list[bytes]) -> None:
    if values:
        _append(file, offsets, file[offsets][-1] + np.cumsum([len(value) for value in values]))
        _append(file, name, np.frombuffer(b"".join(values), dtype=np.uint8))


def _compressed_size(atoms: np.ndarray) -> float:
    """Size of the first chunks after shuffle and gzip, relative to their size before."""
    rows = PER_ATOM["atoms"][2]
    chunks = [atoms[start : start + rows] for start in range(0, min(len(atoms), 16 * rows), rows)]
    shuffled = [np.ascontiguousarray(chunk).view(np.uint8).reshape(-1, 8).T.tobytes() for chunk in chunks]
    return sum(len(zlib.compress(part, 1)) for part in shuffled) / max(1, sum(map(len, shuffled)))
