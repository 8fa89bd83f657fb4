"""eqff's own data file: frames as flat HDF5 arrays with offsets, checksums, and one digest over the contents.

    atom arrays   atomic_numbers [N] uint8, positions [N, 3], forces [N, 3]          N = atoms of all frames
    frame arrays  offsets [n + 1], energy [n], cell [n, 3, 3], pbc [n, 3], stress [n, 6], has_energy/forces/stress [n]
    info          info [bytes] JSON text of all frames, info_offsets [n + 1]

eV and Å.  A label that is absent is 0 and its has_ flag is 0, so every number in the file is finite.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from eqff.data.atomic import new_file
from eqff.data.frame import LABELS, Frame, check_frame
from eqff.errors import DataError

SCHEMA = 1
FORMAT = "eqff-store"
FRAMES_PER_WRITE = 1024
LIBRARY = ("v110", "v110")  # HDF5 1.10: the first version with checksums on all of its own metadata
# name -> (dtype, shape of one row, rows in a chunk); the digest runs over them in this order
ARRAYS: dict[str, tuple[str, tuple[int, ...], int]] = {
    "offsets": ("<i8", (), 8192),
    "atomic_numbers": ("u1", (), 16384),
    "positions": ("<f8", (3,), 2048),
    "forces": ("<f8", (3,), 2048),
    "energy": ("<f8", (), 8192),
    "cell": ("<f8", (3, 3), 1024),
    "pbc": ("u1", (3,), 8192),
    "stress": ("<f8", (6,), 1024),
    "has_energy": ("u1", (), 16384),
    "has_forces": ("u1", (), 16384),
    "has_stress": ("u1", (), 16384),
    "info_offsets": ("<i8", (), 8192),
    "info": ("u1", (), 65536),
}
PER_ATOM = ("atomic_numbers", "positions", "forces")
PER_FRAME = ("energy", "cell", "pbc", "stress", "has_energy", "has_forces", "has_stress")


def write_store(
    path: str | Path, frames: Iterable[Frame], *, provenance: Mapping[str, str] | None = None, force: bool = False
) -> str:
    """Write frames to a new store: to a temporary file beside it, synced, then renamed.

    Args:    frames: eV, Å, any number, taken one after the other; provenance: text kept as attributes; force: replace
    Returns: digest of the contents, hexadecimal SHA-256
    Raises:  DataError EQ3070 if the file exists, EQ3025 without frames, and what check_frame refuses
    """
    with new_file(path, force=force) as temporary, h5py.File(temporary, "x", libver=LIBRARY) as file:
        _write(file, frames, str(path), provenance or {})
        digest = _digest(file)
        file.attrs["digest"] = digest
    return digest


class Store:
    """A store opened for reading; use as a context manager, or call close().

    Args:   path
    Raises: DataError EQ3024 no file, EQ3072 not HDF5 or damaged, EQ3073 HDF5 of another kind, EQ3074 newer schema
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._open()

    def _open(self) -> None:
        if not self.path.is_file():
            raise DataError("EQ3024", f"{self.path}: no such file")
        try:
            with _damage_named(self.path):
                self._file = h5py.File(self.path, "r")
                self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        """That this is a store, that its arrays have one length, and that offsets point inside them."""
        file = self.file
        if file.attrs.get("format") != FORMAT:
            held = ", ".join(file) or "nothing"
            raise DataError("EQ3073", f"{self.path}: HDF5, but not a store of eqff; it holds {held}")
        schema = int(file.attrs.get("schema", 0))
        if schema > SCHEMA:
            raise DataError("EQ3074", f"{self.path}: schema={schema}, this version reads up to {SCHEMA}; update eqff")
        n_rows = {}
        for name, (dtype, shape, _) in ARRAYS.items():
            dataset = file.get(name)
            if not isinstance(dataset, h5py.Dataset) or dataset.dtype != dtype or dataset.shape[1:] != shape:
                raise DataError("EQ3072", f"{self.path}: array {name} is missing or of another kind; write it again")
            n_rows[name] = dataset.shape[0]
        self._offsets = self._rows("offsets", 0, None)
        self._info_offsets = self._rows("info_offsets", 0, None)
        n_frames = n_rows["energy"]
        for offsets, end in ((self._offsets, "positions"), (self._info_offsets, "info")):
            fits = len(offsets) == n_frames + 1 and offsets[0] == 0 and offsets[-1] == n_rows[end]
            if not fits or (np.diff(offsets) < 0).any():
                raise DataError("EQ3072", f"{self.path}: the offsets do not fit {end}; write it again")
        for name in ARRAYS:
            expected = n_rows["positions"] if name in PER_ATOM else n_frames
            if not name.endswith(("offsets", "info")) and n_rows[name] != expected:
                raise DataError("EQ3072", f"{self.path}: {name} has {n_rows[name]} rows, expected {expected}")

    @property
    def file(self) -> h5py.File:
        """The open HDF5 file.  Raises: DataError EQ3075 after close()"""
        if self._file is None:
            raise DataError("EQ3075", f"{self.path}: the store is closed; open it again with Store(path)")
        return self._file

    def close(self) -> None:
        """Close the file; frames that were read stay valid."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}  # workers of a loader open the file themselves

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._file = None
        self._open()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[Frame]:
        for start in range(0, len(self), FRAMES_PER_WRITE):
            yield from self.frames(start, start + FRAMES_PER_WRITE)

    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self.frames(start, stop)
            return [self.frame(i) for i in range(start, stop, step)]
        return self.frame(index)

    def frame(self, index: int) -> Frame:
        """Frame number index, from the end if negative.  Raises: IndexError"""
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"{self.path}: frame {index} of {len(self)}")
        return self.frames(position, position + 1)[0]

    def frames(self, start: int, stop: int) -> list[Frame]:
        """Frames start to stop - 1, read in one go.  Raises: DataError EQ3072 for a damaged chunk"""
        stop = min(stop, len(self))
        if stop <= start:
            return []
        atoms = self._offsets[start : stop + 1]
        per_atom = {name: self._rows(name, atoms[0], atoms[-1]) for name in PER_ATOM}
        per_frame = {name: self._rows(name, start, stop) for name in PER_FRAME}
        texts = self._info_offsets[start : stop + 1]
        text = self._rows("info", texts[0], texts[-1]).tobytes()
        found = []
        for i in range(stop - start):
            rows = slice(int(atoms[i] - atoms[0]), int(atoms[i + 1] - atoms[0]))
            info = text[int(texts[i] - texts[0]) : int(texts[i + 1] - texts[0])]
            has = {label: bool(per_frame[f"has_{label}"][i]) for label in LABELS}
            found.append(
                Frame(
                    atomic_numbers=per_atom["atomic_numbers"][rows].astype(np.int64),
                    positions=per_atom["positions"][rows].copy(),
                    cell=per_frame["cell"][i].copy(),
                    pbc=per_frame["pbc"][i].astype(bool),
                    energy=float(per_frame["energy"][i]) if has["energy"] else None,
                    forces=per_atom["forces"][rows].copy() if has["forces"] else None,
                    stress=per_frame["stress"][i].copy() if has["stress"] else None,
                    info=json.loads(info) if info else {},
                )
            )
        return found

    @property
    def digest(self) -> str:
        """SHA-256 over all arrays, as it was when the store was written."""
        with _damage_named(self.path):
            return str(self.file.attrs["digest"])

    @property
    def provenance(self) -> dict[str, str]:
        """What the writer said about the origin of the data."""
        return {n.removeprefix("from_"): str(v) for n, v in self.file.attrs.items() if n.startswith("from_")}

    def verify(self) -> None:
        """Read everything and compare with the digest.  Raises: DataError EQ3072 damaged, EQ3076 other contents"""
        with _damage_named(self.path):
            digest = _digest(self.file)
        if digest != self.digest:
            raise DataError("EQ3076", f"{self.path}: contents do not match the digest; the file was changed")

    def _rows(self, name: str, start: int, stop: int | None) -> np.ndarray:
        with _damage_named(self.path):
            return self.file[name][start:stop]


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Everything h5py raises on files that are cut short or changed, as one typed error."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise DataError("EQ3072", f"{path}: not HDF5, or damaged ({error}); write it again") from None


def _write(file: h5py.File, frames: Iterable[Frame], where: str, provenance: Mapping[str, str]) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["schema"] = SCHEMA
    file.attrs["units"] = "eV, Å"
    for name, text in provenance.items():
        file.attrs[f"from_{name}"] = str(text)
    for name, (dtype, shape, rows) in ARRAYS.items():
        file.create_dataset(
            name, shape=(0, *shape), maxshape=(None, *shape), dtype=dtype, chunks=(rows, *shape),
            compression="gzip", compression_opts=4, shuffle=True, fletcher32=True,
        )  # fmt: skip
    _append(file, "offsets", np.zeros(1))
    _append(file, "info_offsets", np.zeros(1))
    iterator, n_frames = iter(frames), 0
    while block := list(islice(iterator, FRAMES_PER_WRITE)):
        for index, frame in enumerate(block, start=n_frames):
            check_frame(frame, f"{where}: frame {index}")
        _append_frames(file, block)
        n_frames += len(block)
    if n_frames == 0:
        raise DataError("EQ3025", f"{where}: there are no frames to write")


def _append_frames(file: h5py.File, frames: list[Frame]) -> None:
    n_atoms = np.array([len(f.atomic_numbers) for f in frames])
    texts = [json.dumps(f.info, default=_plain).encode() if f.info else b"" for f in frames]
    n_bytes = np.array([len(text) for text in texts])
    _append(file, "offsets", file["offsets"][-1] + np.cumsum(n_atoms))
    _append(file, "info_offsets", file["info_offsets"][-1] + np.cumsum(n_bytes))
    _append(file, "info", np.frombuffer(b"".join(texts), dtype=np.uint8))
    _append(file, "atomic_numbers", np.concatenate([f.atomic_numbers for f in frames]))
    _append(file, "positions", np.concatenate([f.positions for f in frames]))
    zeros = [np.zeros_like(f.positions) if f.forces is None else f.forces for f in frames]
    _append(file, "forces", np.concatenate(zeros))
    _append(file, "energy", np.array([0.0 if f.energy is None else f.energy for f in frames]))
    _append(file, "cell", np.stack([f.cell for f in frames]))
    _append(file, "pbc", np.stack([f.pbc for f in frames]))
    _append(file, "stress", np.stack([np.zeros(6) if f.stress is None else f.stress for f in frames]))
    for label in LABELS:
        _append(file, f"has_{label}", np.array([getattr(f, label) is not None for f in frames]))


def _append(file: h5py.File, name: str, values: np.ndarray) -> None:
    dataset = file[name]
    start = dataset.shape[0]
    dataset.resize(start + len(values), axis=0)
    if len(values):
        dataset[start:] = values


def _digest(file: h5py.File) -> str:
    """SHA-256 over name, dtype, shape and little-endian bytes of every array, in the order of ARRAYS."""
    digest = hashlib.sha256(f"{FORMAT} {SCHEMA}".encode())
    for name, (dtype, _, _) in ARRAYS.items():
        dataset = file[name]
        digest.update(f"{name} {dtype} {dataset.shape}".encode())
        for start in range(0, dataset.shape[0], 65536):
            digest.update(np.ascontiguousarray(dataset[start : start + 65536], dtype=dtype).tobytes())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """numpy values as JSON; anything else as its text."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)
