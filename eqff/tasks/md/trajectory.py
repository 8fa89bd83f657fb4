"""Writing frames and rows while a simulation runs: one writer per suffix.

A writer reports how far its file is complete, and a restart truncates the file to such a mark, so that a continued
trajectory equals an uninterrupted one.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from ase import Atoms, units
from ase.io.extxyz import write_xyz

from eqff.errors import DataError, ResourceError, RunError
from eqff.files import new_file


class Writer(Protocol):
    """A file to which records are appended."""

    def write(self, record: Any) -> None:
        """Append; the record is in the file when this returns."""

    def mark(self) -> int:
        """Make everything durable and say where the file ends."""
        ...

    def close(self) -> None:
        """Finish the file."""


class File:
    """A writer whose errors name the file.

    Args:   path: its folder is made; kind: class of the writer; mark: None starts anew, else cut back and continue
    Raises: every method: ResourceError EQ6202 if the file cannot be written; at first RunError EQ5121 if the file
            does not reach the mark, EQ5921 if it cannot be continued
    """

    def __init__(self, path: Path, kind: Any, mark: int | None = None) -> None:
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer: Writer = kind(path, mark)

    def write(self, record: Any) -> None:
        """Append a record."""
        with disk_errors(self.path):
            self._writer.write(record)

    def mark(self) -> int:
        """Make everything durable and say where the file ends."""
        with disk_errors(self.path):
            return self._writer.mark()

    def close(self) -> None:
        """Finish the file."""
        with disk_errors(self.path):
            self._writer.close()


def open_trajectory(path: Path, mark: int | None = None) -> "contextlib.closing[File]":
    """For frames with `step` and `time_fs` in info, momenta, and results.  Args, Raises: as `File`"""
    kind = {".traj": AseTrajectory, ".xyz": TextTrajectory, ".extxyz": TextTrajectory}.get(path.suffix, H5MDTrajectory)
    return contextlib.closing(File(path, kind, mark))


def open_log(path: Path, mark: int | None = None) -> "contextlib.closing[File]":
    """For lines of text.  Args, Raises: as `File`"""
    return contextlib.closing(File(path, Text, mark))


class Text:
    """Text; its mark is the number of bytes."""

    def __init__(self, path: Path, mark: int | None = None) -> None:
        if mark is not None and (not path.is_file() or path.stat().st_size < mark):
            raise _too_short(path)
        self._file: Any = path.open("wb" if mark is None else "r+b")
        if mark is not None:
            self._file.truncate(mark)
            self._file.seek(mark)

    def write(self, record: str) -> None:
        self._file.write(record.encode())
        self._file.flush()

    def mark(self) -> int:
        with contextlib.suppress(OSError):  # pipes and devices cannot be synced
            os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


class TextTrajectory(Text):
    """Extended XYZ."""

    def write(self, record: Atoms) -> None:  # type: ignore[override]
        text = io.StringIO()
        write_xyz(text, [record])
        super().write(text.getvalue())


class AseTrajectory:
    """ASE's .traj; its mark is the number of frames."""

    def __init__(self, path: Path, mark: int | None = None) -> None:
        from ase.io.trajectory import Trajectory, TrajectoryWriter

        if mark is not None:
            try:
                with new_file(path, force=True) as temporary, Trajectory(path) as old:
                    if len(old) < mark:
                        raise _too_short(path)
                    with TrajectoryWriter(temporary) as new:
                        for index in range(mark):
                            new.write(old[index])
            except FileNotFoundError as error:
                raise _too_short(path) from error
        self._path = path
        self._writer = TrajectoryWriter(path, "w" if mark is None else "a")

    def write(self, record: Atoms) -> None:
        self._writer.write(record)

    def mark(self) -> int:
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
        return len(self._writer)

    def close(self) -> None:
        self._writer.close()


class H5MDTrajectory:
    """HDF5 in the layout of H5MD; its mark is the number of frames."""

    def __init__(self, path: Path, mark: int | None = None) -> None:
        from eqff.data.h5md import H5MDWriter  # h5py is imported only for this format

        if mark is not None and not path.is_file():
            raise _too_short(path)
        try:
            self._writer = H5MDWriter(path, mark)
        except DataError as error:
            raise RunError("EQ5921", f"{error.message}; the run cannot be continued, start anew") from error

    def write(self, record: Atoms) -> None:
        results = record.calc.results if record.calc is not None else {}
        self._writer.write(
            step=record.info["step"],
            time_fs=record.info["time_fs"],
            atomic_numbers=record.numbers,
            masses=record.get_masses(),
            pbc=record.pbc,
            cell=record.cell.array,
            positions=record.positions,
            velocities=record.get_velocities() * units.fs,
            energy=results.get("energy"),
            forces=results.get("forces"),
        )

    def mark(self) -> int:
        return self._writer.flush()

    def close(self) -> None:
        self._writer.close()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Errors of the disk become ResourceError EQ6202 with the name of the file."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            "EQ6202", f"{path}: cannot be written ({error.strerror or error}); check name, rights and space on the disk"
        ) from error


def _too_short(path: Path) -> RunError:
    return RunError(
        "EQ5121", f"{path}: is shorter than the checkpoint says, or gone; restore it, or start anew without --resume"
    )
