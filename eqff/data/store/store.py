"""eqff's own data file: millions of frames in one HDF5 file, read at random, never lost, identified by a digest.

    write_store(path, frames)            a whole file, written beside its name and renamed
    StoreWriter(path)                    chunk by chunk, for what takes long: a crash costs the last chunk at most
    Store(path)                          reading: one frame, some at random, a range, all of them one after the other

eV and Å.  How the arrays lie in the file is in `layout.py`, how a chunk survives a crash in `journal.py`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from filelock import Timeout

from eqff.data.frame import LABELS, Frame, check_frame
from eqff.data.store import layout, layout_1
from eqff.data.store.block import EMPTY_DIGEST, Block, make_block
from eqff.data.store.damage import damage_named
from eqff.data.store.journal import IndependentFile, JournaledFile, journal_path, pending, recover
from eqff.data.store.lock import is_written, patiently, repair, writers_lock
from eqff.errors import DataError
from eqff.files import new_file

FORMAT = "eqff-store"
LAYOUTS: dict[int, Any] = {1: layout_1.Layout, 2: layout.Layout}
SCHEMA = layout.SCHEMA
LIBRARY = ("v110", "v110")  # HDF5 1.10: the first version with checksums on all of its own metadata
FRAMES_PER_CHUNK = 1024  # written, and made durable, together
ATOMS_PER_CHUNK = 131072


def write_store(
    path: str | Path, frames: Iterable[Frame], *, provenance: Mapping[str, str] | None = None, force: bool = False
) -> str:
    """Write frames to a new store: to a temporary file beside it, synced, then renamed.

    Args:    frames: eV, Å, any number, taken one after the other; provenance: text kept as attributes; force: replace
    Returns: digest of the contents, hexadecimal SHA-256
    Raises:  DataError EQ3070 if the file exists, EQ3025 without frames, and what check_frame refuses
    """
    digest, appender, n_frames = EMPTY_DIGEST, None, 0
    with new_file(path, force=force) as temporary, h5py.File(temporary, "x", libver=LIBRARY) as file:
        for block in _blocks(frames, str(path)):
            if appender is None:
                _begin(file, block, provenance or {})
                appender = layout.Appender(file)
            appender.append(file, block)
            digest = block.extend_digest(digest)
            n_frames += block.n_frames
        if n_frames == 0:
            raise DataError("EQ3025", f"{path}: there are no frames to write")
        _state(file, n_frames, digest)
    return digest.hex()


class StoreWriter:
    """A store that grows: frames are gathered to chunks, and each chunk is on the disk, whole, before the next.

    Use as a context manager, or call close(): what is then still gathered is written.  Whoever reads meanwhile finds
    the chunks written so far.  The file appears with its first chunk.

    Args:   path; append: continue a store that exists (without, one that exists is refused); provenance: text kept as
            attributes of a new store
    Raises: DataError EQ3070 if the file exists and append is False, EQ3300 another process writes it, EQ3303 it is of
            an older schema, and what Store raises
    """

    def __init__(self, path: str | Path, *, append: bool = False, provenance: Mapping[str, str] | None = None) -> None:
        self.path = Path(path)
        self._provenance = dict(provenance or {})
        self._gathered: list[Frame] = []
        self._n_atoms = 0
        self._file: JournaledFile | None = None
        if self.path.exists() and not append:
            raise DataError("EQ3070", f"{path}: the file exists; choose another name, or append to it")
        if not self.path.parent.is_dir():
            raise DataError("EQ3071", f"{path}: there is no folder {self.path.parent}; make it first")
        self._lock = writers_lock(self.path)
        try:
            self._lock.acquire(timeout=1.0)  # a reader holds it for microseconds, to see whether a writer is there
        except Timeout:
            raise DataError("EQ3300", f"{path}: another process writes this store; wait until it is done") from None
        try:
            self._n_written, self._digest = self._resume()
        except BaseException:
            self._lock.release()
            raise

    def _resume(self) -> tuple[int, bytes]:
        """Open a store that exists, after repairing what a crash left."""
        if not self.path.exists():
            journal_path(self.path).unlink(missing_ok=True)
            return 0, EMPTY_DIGEST
        recover(self.path)
        with Store(self.path) as store:
            if store.schema != SCHEMA:
                raise DataError(
                    "EQ3303",
                    f"{self.path}: is a store of schema {store.schema}, which is only read; convert it to a new one "
                    "(eqff data convert OLD.h5 NEW.h5)",
                )
            state = len(store), bytes.fromhex(store.digest)
        with damage_named(self.path), h5py.File(IndependentFile(self.path), "r") as file:
            identity = layout.identity(file)
            self._appender = layout.Appender(file)
        self._file = JournaledFile(self.path, identity)
        return state

    def __len__(self) -> int:
        return self._n_written + len(self._gathered)

    @property
    def n_written(self) -> int:
        """Number of frames that nothing can take away any more."""
        return self._n_written

    @property
    def digest(self) -> str:
        """SHA-256 of the frames written so far."""
        return self._digest.hex()

    def append(self, frame: Frame) -> None:
        """One more frame, eV and Å.  Raises: what check_frame refuses; EQ3304 after close()"""
        if not self._lock.is_locked:
            raise DataError("EQ3304", f"{self.path}: the writer is closed; open it again with append=True")
        check_frame(frame, f"{self.path}: frame {len(self)}")
        self._gathered.append(frame)
        self._n_atoms += len(frame.atomic_numbers)
        if len(self._gathered) >= FRAMES_PER_CHUNK or self._n_atoms >= ATOMS_PER_CHUNK:
            self.flush()

    def extend(self, frames: Iterable[Frame]) -> None:
        """Some more frames."""
        for frame in frames:
            self.append(frame)

    def flush(self) -> None:
        """Put what is gathered on the disk now."""
        if not self._gathered:
            return
        block = make_block(self._gathered)
        digest = block.extend_digest(self._digest)
        n_frames = self._n_written + block.n_frames
        self._gathered, self._n_atoms = [], 0
        if self._file is None:
            self._create(block, n_frames, digest)
        else:
            with h5py.File(self._file, "r+", libver=LIBRARY) as file:
                self._appender.append(file, block)
                _state(file, n_frames, digest)
            self._file.commit()  # HDF5 has closed the file: on the disk it is never half open
        self._n_written, self._digest = n_frames, digest

    def _create(self, block: Block, n_frames: int, digest: bytes) -> None:
        with new_file(self.path) as temporary, h5py.File(temporary, "x", libver=LIBRARY) as file:
            _begin(file, block, self._provenance)
            self._appender = layout.Appender(file)
            self._appender.append(file, block)
            _state(file, n_frames, digest)
            identity = layout.identity(file)
        self._file = JournaledFile(self.path, identity)

    def close(self) -> None:
        """Write what is gathered, and let others write."""
        if not self._lock.is_locked:
            return
        try:
            self.flush()
        finally:
            if self._file is not None:
                self._file.close()
            self._lock.release()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Store(Sequence[Frame]):
    """A store opened for reading; use as a context manager, or call close().

    Any number of processes can read, also while one writes: they see the frames that were there when they opened it.

    Args:   path
    Raises: DataError EQ3024 no file, EQ3072 not HDF5 or damaged, EQ3073 HDF5 of another kind, EQ3074 newer schema
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._open()
        self._n_frames = self._layout.n_frames

    def _open(self) -> None:
        if not self.path.is_file():
            raise DataError("EQ3024", f"{self.path}: no such file")
        if pending(self.path):
            repair(self.path)
        patiently(self.path, self._open_once)

    def _open_once(self) -> None:
        self.close()
        try:
            with damage_named(self.path):
                raw = IndependentFile(self.path)
                self._file = h5py.File(raw, "r")
                kind, schema = self.file.attrs.get("format"), int(self.file.attrs.get("schema", 0))
            if kind != FORMAT:
                with damage_named(self.path):
                    held = ", ".join(self.file) or "nothing"
                raise DataError("EQ3073", f"{self.path}: HDF5, but not a store of eqff; it holds {held}")
            if schema not in LAYOUTS:
                known = max(LAYOUTS)
                raise DataError(
                    "EQ3074", f"{self.path}: schema={schema}, this version reads up to {known}; update eqff"
                )
            self.schema = schema
            self._layout = LAYOUTS[schema](self.file, self.path, raw)
        except BaseException:
            self.close()
            raise

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
        self.__init__(state["path"])  # type: ignore[misc]

    def __len__(self) -> int:
        return self._n_frames

    def __iter__(self) -> Iterator[Frame]:
        for start in range(0, len(self), FRAMES_PER_CHUNK):
            yield from self.frames(start, start + FRAMES_PER_CHUNK)

    def __getitem__(self, index: Any) -> Any:
        """A frame, or a list of them for a slice."""
        if isinstance(index, slice):
            return self.frames_at(range(*index.indices(len(self))))
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
        return list(self.block(np.arange(start, stop)).frames()) if stop > start else []

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        """Frames of any numbers in any order, read in the order of the file.  Raises: IndexError, DataError EQ3072"""
        chosen = np.asarray(indices, dtype=np.int64)
        if not len(chosen):
            return []
        if chosen.min() < 0 or chosen.max() >= len(self):
            raise IndexError(f"{self.path}: frames {chosen.min()} to {chosen.max()} of {len(self)}")
        rows, place = np.unique(chosen, return_inverse=True)
        found = list(self.block(rows).frames())
        return [found[k] for k in place.reshape(-1).tolist()]

    def block(self, rows: np.ndarray) -> Block:
        """Frames of distinct, ascending numbers as flat arrays.  Raises: DataError EQ3072 for a damaged chunk"""
        if self._file is None:
            raise DataError("EQ3075", f"{self.path}: the store is closed; open it again with Store(path)")
        try:
            return self._layout.block(rows)
        except DataError:
            if not is_written(self.path):
                raise
        return patiently(self.path, lambda: self._block_anew(rows))

    def _block_anew(self, rows: np.ndarray) -> Block:
        self._open_once()
        return self._layout.block(rows)

    @property
    def n_atoms(self) -> np.ndarray:
        """[n_frames] atoms of each frame."""
        return np.diff(self._layout.offsets[: len(self) + 1])

    @property
    def energy(self) -> np.ndarray:
        """[n_frames] eV, 0 where there is none."""
        return self._layout.energy[: len(self)]

    def has(self, label: str) -> np.ndarray:
        """[n_frames] whether frames have an energy, forces or stress."""
        return self._layout.has[: len(self), LABELS.index(label)].astype(bool)

    @property
    def species(self) -> list[int]:
        """Atomic numbers that occur, ascending."""
        return self._layout.species()

    @property
    def digest(self) -> str:
        """SHA-256 of the contents, as it was when the store was written."""
        with damage_named(self.path):
            value = self.file.attrs["digest"]
            return value.decode() if isinstance(value, bytes) else str(value)

    @property
    def provenance(self) -> dict[str, str]:
        """What the writer said about the origin of the data."""
        with damage_named(self.path):
            return {n.removeprefix("from_"): str(v) for n, v in self.file.attrs.items() if n.startswith("from_")}

    def verify(self) -> None:
        """Read everything and compare with the digest.  Raises: DataError EQ3072 damaged, EQ3076 other contents"""
        with damage_named(self.path):
            stated, n_stated = self.digest, int(self.file.attrs.get("n_frames", len(self)))
            if self.schema == 1:
                digest = self._layout.digest()
            else:
                found = EMPTY_DIGEST
                for start in range(0, len(self), FRAMES_PER_CHUNK):
                    found = self.block(np.arange(start, min(start + FRAMES_PER_CHUNK, len(self)))).extend_digest(found)
                digest = found.hex()
        if digest != stated or n_stated != len(self):
            raise DataError("EQ3076", f"{self.path}: contents do not match the digest; the file was changed")


def _blocks(frames: Iterable[Frame], where: str) -> Iterator[Block]:
    iterator, n_frames = iter(frames), 0
    while gathered := list(islice(iterator, FRAMES_PER_CHUNK)):
        for index, frame in enumerate(gathered, start=n_frames):
            check_frame(frame, f"{where}: frame {index}")
        n_frames += len(gathered)
        yield make_block(gathered)


def _begin(file: h5py.File, first: Block, provenance: Mapping[str, str]) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["schema"] = SCHEMA
    file.attrs["units"] = "eV, Å"
    for name, text in provenance.items():
        file.attrs[f"from_{name}"] = str(text)
    layout.create(file, first)
    _state(file, 0, EMPTY_DIGEST)


def _state(file: h5py.File, n_frames: int, digest: bytes) -> None:
    """What changes with every chunk, in place."""
    for name, value in (("n_frames", np.int64(n_frames)), ("digest", np.bytes_(digest.hex()))):
        if name in file.attrs:
            file.attrs.modify(name, value)
        else:
            file.attrs.create(name, value)
