"""eqff's own data file: millions of frames in one HDF5 file, read at random, identified by a digest.

    write_store(path, frames)            streams any number of frames into a new file, which appears when it is complete
    Store(path)                          reads one frame, some at random, a range, or all of them in turn

eV and Å.  `layout.py` describes the arrays of the file.  A store is never changed once it is written.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import h5py
import numpy as np

from eqff.data import hdf5_guard
from eqff.data.frame import LABELS, Frame, check_frame
from eqff.data.store import layout
from eqff.data.store.damage import hdf5_errors, written_hdf5
from eqff.data.store.flat_frames import EMPTY_DIGEST, FlatFrames, flatten
from eqff.errors import DataError
from eqff.files import new_file

FORMAT = "eqff-store"
LIBRARY = ("v110", "v110")  # HDF5 1.10: the first version with checksums on all of its own metadata
FRAMES_AT_ONCE = 1024  # frames in memory while a store is written, or read from beginning to end


def write_store(
    path: str | Path, frames: Iterable[Frame], *, provenance: Mapping[str, str] | None = None, force: bool = False
) -> str:
    """Write frames to a new store: to a temporary file beside it, synced, then renamed.

    Args:    path; frames: eV, Å, any number, also from a generator; provenance: texts kept as attributes;
             force: replace an existing file
    Returns: digest of the contents, hexadecimal SHA-256
    Raises:  DataError EQ3070 if the file exists, EQ3071 if its folder does not, EQ3077 if it is a folder, EQ3920 if
             there are no frames; DataError and GraphError of `check_frame`
    """
    with new_file(path, force=force) as temporary:
        return fill_store(temporary, frames, str(path), provenance or {})


def fill_store(path: Path, frames: Iterable[Frame], where: str, provenance: Mapping[str, str]) -> str:
    """`write_store` to a name that nothing has yet, for a caller who makes sure that the file is whole or absent.

    Args: where: the final name, for messages
    """
    digest, writer, n_frames = EMPTY_DIGEST, None, 0
    with written_hdf5(path, "x+", LIBRARY) as (file, disk):
        file.attrs["format"] = FORMAT  # before all else: ASE recognises a store by its first bytes
        file.attrs["schema"] = layout.SCHEMA
        file.attrs["units"] = "eV, Å"
        for part in _parts(frames, where):
            if writer is None:
                writer = layout.ArrayWriter(file, part)
            writer.append(part)
            digest = part.extend_digest(digest)
            n_frames += part.n_frames
            disk.check()
        if n_frames == 0:
            raise DataError("EQ3920", "there are no frames to write; give at least one")
        file.attrs["n_frames"] = np.int64(n_frames)
        file.attrs["digest"] = np.bytes_(digest.hex())
        for name, text in provenance.items():
            file.attrs[f"from_{name}"] = str(text)
    return digest.hex()


def _parts(frames: Iterable[Frame], where: str) -> Iterator[FlatFrames]:
    iterator, n_frames = iter(frames), 0
    while part := list(islice(iterator, FRAMES_AT_ONCE)):
        for index, frame in enumerate(part, start=n_frames):
            check_frame(frame, f"{where}: frame {index}")
        n_frames += len(part)
        yield flatten(part)


class Store(Sequence[Frame]):
    """A store opened for reading; use it as a context manager, or call close().  Any number of processes can read it.

    Args:   path
    Raises: DataError EQ3024 no file, EQ3072 not HDF5 or damaged, EQ3950 to EQ3954 damaged,
            EQ3073 HDF5 of another kind, EQ3074 another schema
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError("EQ3024", f"{path}: no such file; check the name")
        hdf5_guard.check(self.path)
        with hdf5_errors(self.path):
            self._file: h5py.File | None = h5py.File(self.path, "r")
        try:
            self._check_kind(self._file)
            self._arrays = layout.StoredArrays(self._file, self.path)
        except BaseException:
            self.close()
            raise

    def _check_kind(self, file: h5py.File) -> None:
        with hdf5_errors(self.path):
            kind, schema = file.attrs.get("format"), int(file.attrs.get("schema", 0))
            names = ", ".join(file) or "nothing"
        if kind != FORMAT:
            raise DataError(
                "EQ3073", f"{self.path}: HDF5, but not a store of eqff (it holds {names}); give a file written by eqff"
            )
        if schema != layout.SCHEMA:
            raise DataError(
                "EQ3074",
                f"{self.path}: schema={schema}, expected {layout.SCHEMA}; use the version of eqff that wrote the file",
            )

    @property
    def file(self) -> h5py.File:
        """The open HDF5 file.  Raises: DataError EQ3075 after close()"""
        if self._file is None:
            raise DataError("EQ3075", f"{self.path}: the store is closed; open it again with Store(path)")
        return self._file

    def close(self) -> None:
        """Close the file.  Frames that were read stay valid."""
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
        return self._arrays.n_frames

    def __iter__(self) -> Iterator[Frame]:
        return self.iterate()

    def iterate(self, start: int = 0) -> Iterator[Frame]:
        """Frames from number `start` to the last, read many at a time.  Raises: DataError EQ3072 for a damaged chunk"""
        for first in range(start, len(self), FRAMES_AT_ONCE):
            yield from self.frames(first, first + FRAMES_AT_ONCE)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...

    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        """One frame, or a list of frames for a slice."""
        if isinstance(index, slice):
            return self.frames_at(range(*index.indices(len(self))))
        return self.frame(index)

    def frame(self, index: int) -> Frame:
        """Frame number `index`, counted from the end if negative.  Raises: IndexError"""
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"{self.path}: frame {index} of {len(self)}")
        return self.frames(position, position + 1)[0]

    def frames(self, start: int, stop: int) -> list[Frame]:
        """Frames start to stop - 1, read together.  Raises: DataError EQ3072 for a damaged chunk"""
        stop = min(stop, len(self))
        return list(self._flat(np.arange(start, stop)).frames()) if stop > start else []

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        """Frames of any numbers in any order, read in the order of the file.  Raises: IndexError, DataError EQ3072"""
        chosen = np.asarray(indices, dtype=np.int64)
        if not len(chosen):
            return []
        if chosen.min() < 0 or chosen.max() >= len(self):
            raise IndexError(f"{self.path}: frames {chosen.min()} to {chosen.max()} of {len(self)}")
        rows, row_of = np.unique(chosen, return_inverse=True)
        frames = list(self._flat(rows).frames())
        return [frames[row] for row in row_of.reshape(-1).tolist()]

    def _flat(self, rows: np.ndarray) -> FlatFrames:
        """Frames of distinct, ascending numbers."""
        if self._file is None:
            raise DataError("EQ3075", f"{self.path}: the store is closed; open it again with Store(path)")
        return self._arrays.read(rows)

    @property
    def n_atoms(self) -> np.ndarray:
        """[n_frames] int64, number of atoms of each frame."""
        return np.diff(self._arrays.offsets)

    @property
    def energy(self) -> np.ndarray:
        """[n_frames] eV, 0 where a frame has no energy."""
        return self._arrays.energy

    def has(self, label: str) -> np.ndarray:
        """[n_frames] bool, whether each frame has this label: energy, forces or stress."""
        return self._arrays.has[:, LABELS.index(label)].astype(bool)

    @property
    def species(self) -> list[int]:
        """Atomic numbers that occur, ascending."""
        return np.unique(self._arrays.composition_numbers).tolist()

    @property
    def digest(self) -> str:
        """SHA-256 of the contents, as it was when the store was written."""
        with hdf5_errors(self.path):
            value = self.file.attrs["digest"]
            return value.decode() if isinstance(value, bytes) else str(value)

    @property
    def provenance(self) -> dict[str, str]:
        """Origin of the data, as given to `write_store`."""
        with hdf5_errors(self.path):
            return {n.removeprefix("from_"): str(v) for n, v in self.file.attrs.items() if n.startswith("from_")}

    def verify(self) -> None:
        """Read everything and compare it with the digest.  Raises: DataError EQ3072 damaged, EQ3076 other contents"""
        with hdf5_errors(self.path):
            stated, n_stated = self.digest, int(self.file.attrs["n_frames"])
        digest = EMPTY_DIGEST
        for start in range(0, len(self), FRAMES_AT_ONCE):
            digest = self._flat(np.arange(start, min(start + FRAMES_AT_ONCE, len(self)))).extend_digest(digest)
        if digest.hex() != stated or n_stated != len(self):
            raise DataError(
                "EQ3076",
                f"{self.path}: digest={digest.hex()[:16]}..., expected {stated[:16]}...: the file was changed; "
                "write or download it again",
            )
