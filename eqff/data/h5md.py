"""Trajectories as HDF5 in the layout of H5MD 1.1 (de Buyl, Colberg & Höfling, Comput. Phys. Commun. 185, 1546 (2014)).

    /particles/all/   species, mass, box/edges, position, velocity, force (each with step, time, value)
    /observables/     potential_energy

Å, fs, Å/fs, eV/Å, eV, amu; species are atomic numbers.  The writer uses HDF5's single-writer mode, so the file can be
read while the run goes on and after a crash, here or with h5py.File(path, swmr=True).
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import h5py
import numpy as np

from eqff.data import hdf5_guard
from eqff.data.store.damage import abandon, hdf5_errors, written_hdf5
from eqff.errors import DataError
from eqff.files import named, new_file

FRAMES_PER_CHUNK = 16
# name -> (group, unit, shape of one frame; -1 stands for n_atoms)
SERIES: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "edges": ("particles/all/box/edges", "Angstrom", (3, 3)),
    "positions": ("particles/all/position", "Angstrom", (-1, 3)),
    "velocities": ("particles/all/velocity", "Angstrom fs-1", (-1, 3)),
    "forces": ("particles/all/force", "eV Angstrom-1", (-1, 3)),
    "energy": ("observables/potential_energy", "eV", ()),
}


class H5MDFrame(NamedTuple):
    """One frame; energy and forces are NaN if they were not given."""

    step: int
    time_fs: float
    atomic_numbers: np.ndarray  # [n_atoms]
    masses: np.ndarray  # [n_atoms] amu
    pbc: np.ndarray  # [3] bool
    cell: np.ndarray  # [3, 3] Å, rows are lattice vectors
    positions: np.ndarray  # [n_atoms, 3] Å
    velocities: np.ndarray  # [n_atoms, 3] Å/fs
    energy: float  # eV
    forces: np.ndarray  # [n_atoms, 3] eV/Å


class H5MDWriter:
    """Append frames of one system to a file.

    Args:   path; keep: number of frames of an existing file to keep and continue; None starts a new file
    Raises: DataError EQ3956 if the file has fewer frames, EQ3072 if it is damaged; OSError
    """

    def __init__(self, path: str | Path, keep: int | None = None) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._series: dict[str, h5py.Dataset] = {}  # kept open: closing one writes, see `abandon`
        self.n_frames = 0
        if keep is None:
            return  # the file is made with the first frame, which determines n_atoms
        with new_file(self.path, force=True) as temporary:
            copy = H5MDWriter(temporary)
            for frame in read_h5md(self.path, stop=keep):
                copy.write(**frame._asdict())
            copy.close()
            if copy.n_frames < keep:
                raise DataError(
                    "EQ3956",
                    f"{self.path}: n_frames={copy.n_frames}, expected at least {keep} as in the checkpoint; "
                    "start the run again",
                )
        self._continue()
        self.n_frames = keep

    def _continue(self) -> None:
        self._file = h5py.File(self.path, "r+", libver="latest")
        self._file.swmr_mode = True  # from here on no data set can be added
        axes = {name: self._file[f"particles/all/position/{name}"] for name in ("step", "time")}
        self._series = {name: self._file[f"{group}/value"] for name, (group, _, _) in SERIES.items()} | axes

    def write(
        self,
        *,
        step: int,
        time_fs: float,
        atomic_numbers: np.ndarray,
        masses: np.ndarray,
        pbc: np.ndarray,
        cell: np.ndarray,
        positions: np.ndarray,
        velocities: np.ndarray,
        energy: float | None = None,
        forces: np.ndarray | None = None,
    ) -> None:
        """Append one frame (shapes and units as in `H5MDFrame`); numbers, masses and pbc are those of the first."""
        values = {
            "edges": cell,
            "positions": positions,
            "velocities": velocities,
            "forces": np.full_like(positions, np.nan) if forces is None else forces,
            "energy": np.nan if energy is None else energy,
        }
        n = self.n_frames
        with self._abandoned_on_error():
            if self._file is None:
                with written_hdf5(self.path, "w+", "latest") as (file, _):
                    _lay_out(file, atomic_numbers, masses, pbc)
                self._continue()
            for name, value in (values | {"step": step, "time": time_fs}).items():
                self._series[name].resize(n + 1, axis=0)
                self._series[name][n] = value
        self.n_frames = n + 1

    def flush(self) -> int:
        """Write all frames to the file.  Returns: their number"""
        if self._file is not None:
            with self._abandoned_on_error():
                self._file.flush()
        return self.n_frames

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            if self._file:  # not abandoned
                self.flush()
            self._file.close()
            self._file = None

    @contextlib.contextmanager
    def _abandoned_on_error(self) -> Iterator[None]:
        """On a full disk: OSError with the name of the file, which stays as it was at the last `flush`."""
        try:
            with named(self.path):
                yield
        except OSError:
            if self._file is not None:
                abandon(self._file)
            raise

    def __enter__(self) -> "H5MDWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_h5md(path: str | Path, stop: int | None = None) -> Iterator[H5MDFrame]:
    """Frames of a file of `H5MDWriter`, also while its writer runs or after it has died.

    Args:   path; stop: read no more frames than this
    Raises: DataError EQ3024 no such file, EQ3957 HDF5 of another kind, EQ3072 damaged
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("EQ3024", f"{path}: no such file; check the name")
    with hdf5_errors(path), _open(path) as file:
        if "h5md" not in file or "particles/all/position/value" not in file:
            raise DataError(
                "EQ3957",
                f"{path}: HDF5, but not a trajectory in H5MD (it holds {', '.join(file)}); give a file of `eqff md`",
            )
        everything = file["particles/all"]
        fixed = everything["species"][:], everything["mass"][:], everything["box"].attrs["boundary"]
        pbc = np.array([_text(name) == "periodic" for name in fixed[2]])
        values = {name: file[f"{group}/value"] for name, (group, _, _) in SERIES.items()}
        steps, times = everything["position/step"], everything["position/time"]
        # a dying writer may have lengthened some arrays and not others
        n_frames = min(len(array) for array in (*values.values(), steps, times))
        for i in range(n_frames if stop is None else min(stop, n_frames)):
            yield H5MDFrame(
                step=int(steps[i]),
                time_fs=float(times[i]),
                atomic_numbers=fixed[0],
                masses=fixed[1],
                pbc=pbc,
                cell=values["edges"][i],
                positions=values["positions"][i],
                velocities=values["velocities"][i],
                energy=float(values["energy"][i]),
                forces=values["forces"][i],
            )


def _open(path: Path) -> h5py.File:
    """Open for reading; in HDF5's single-writer mode only if needed, as it waits long in files that are damaged."""
    hdf5_guard.check(path)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "open for write" not in str(error):  # a writer is running, or has died
            raise
    return h5py.File(path, "r", libver="latest", swmr=True)


def _lay_out(file: h5py.File, atomic_numbers: np.ndarray, masses: np.ndarray, pbc: np.ndarray) -> None:
    from eqff import __version__

    file.create_group("h5md").attrs["version"] = np.array([1, 1], dtype=np.int32)
    file.create_group("h5md/author").attrs["name"] = "unknown"
    creator = file.create_group("h5md/creator")
    creator.attrs["name"], creator.attrs["version"] = "eqff", __version__
    everything = file.create_group("particles/all")
    everything["species"] = np.asarray(atomic_numbers, dtype=np.int32)
    everything["mass"] = np.asarray(masses, dtype=np.float64)
    everything["mass"].attrs["unit"] = "u"
    box = everything.create_group("box")
    box.attrs["dimension"] = 3
    box.attrs["boundary"] = np.array(["periodic" if p else "none" for p in pbc], dtype="S8")
    n_atoms = len(atomic_numbers)
    step = _series(file, "particles/all/position/step", (), np.int64)
    time = _series(file, "particles/all/position/time", (), np.float64)
    time.attrs["unit"] = "fs"
    for group, unit, shape in SERIES.values():
        shape = tuple(n_atoms if length < 0 else length for length in shape)
        _series(file, f"{group}/value", shape, np.float64).attrs["unit"] = unit
        if "step" not in file[group]:  # all series share one time axis, as hard links
            file[f"{group}/step"], file[f"{group}/time"] = step, time


def _series(file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any) -> Any:
    frames = FRAMES_PER_CHUNK if shape else 1024
    return file.create_dataset(
        name, shape=(0, *shape), maxshape=(None, *shape), chunks=(frames, *shape), dtype=dtype, fletcher32=True
    )


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
