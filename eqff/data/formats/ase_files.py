"""Everything else that ASE reads: trajectories (.traj), OUTCAR, vasprun.xml, outputs of other programs, CIF ...

Energies are in eV and lengths in Å, as ASE converts them.  Asked only when no other format knows the file.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from eqff.data.frame import LABELS, Frame
from eqff.data.reading.file_units import Units
from eqff.data.reading.format import Format
from eqff.data.reading.labels import N_FRAMES_TO_JUDGE, contents_of, to_frame, units_by_convention
from eqff.data.reading.options import ReadOptions
from eqff.errors import DataError

REFUSED = {"py", "mysql", "postgresql", "netcdftrajectory", "png", "gif", "mp4", "html", "x3d", "pov", "eps", "db"}
TEXT = {"extxyz", "xyz"}  # ASE believes every atom count in them
PACKED = (".gz", ".bz2", ".xz", ".zst")


def accepts(path: str | Path) -> bool:
    """Whether ASE knows the kind of file, by its name and its first bytes."""
    try:
        _kind(path)
    except DataError:
        return False
    return True


def read(path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]:
    """Frames in eV and Å.

    Raises: DataError EQ3945 no kind of file that ASE knows, EQ3219 a frame that ASE cannot read, and those of
            `eqff.data.reading.labels`
    """
    options = options or ReadOptions()
    decided = units(path, options)
    for index, atoms in enumerate(_images(path)):
        where = f"{path}: frame {index}"
        try:
            frame = to_frame(contents_of(atoms), options, decided, where)
        except DataError as error:
            options.skip(error)
        else:
            yield frame


def units(path: str | Path, options: ReadOptions | None = None) -> Units:
    """eV and Å, which ASE's readers give, unless an option says otherwise; odd magnitudes are a warning."""
    options = (options or ReadOptions()).fresh()
    first = [contents_of(atoms) for atoms in islice(_images(path), N_FRAMES_TO_JUDGE)]
    return units_by_convention(str(path), first, options, defined=True)


def provenance(path: str | Path) -> dict[str, str]:
    """Which of ASE's readers was used."""
    return {"ase_format": _kind(path)}


def write(path: str | Path, frames: Iterable[Frame], provenance: Mapping[str, str] | None = None) -> None:
    """Write an ASE trajectory in eV and Å.  Every digit is kept."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io.trajectory import Trajectory

    n_frames = 0
    with Trajectory(str(path), "w") as trajectory:
        for frame in frames:
            atoms = Atoms(frame.atomic_numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
            atoms.info.update(frame.info)
            labels = {name: getattr(frame, name) for name in LABELS if getattr(frame, name) is not None}
            if labels:
                atoms.calc = SinglePointCalculator(atoms, **labels)
            trajectory.write(atoms)
            n_frames += 1
    if not n_frames:
        raise DataError("EQ3920", "there are no frames to write; give at least one")


def _kind(path: str | Path) -> str:
    """Name of ASE's format.  Raises: DataError EQ3024, EQ3218, EQ3944 to EQ3946"""
    from ase.io.formats import filetype, ioformats

    if not Path(path).is_file():
        raise DataError("EQ3024", f"{path}: no such file; check the name")
    if Path(path).suffix.lower() in PACKED:
        raise DataError("EQ3944", f"{path}: is compressed; unpack it first")
    try:
        kind = filetype(str(path))
        if kind not in ioformats:  # a suffix that says nothing
            kind = filetype(str(path), guess=False)
    except Exception as error:  # ASE raises UnknownFileTypeError, and what it meets in odd files
        raise DataError(
            "EQ3945", f"{path}: no kind of file that ASE knows ({error}); name its format with --from"
        ) from None
    if kind in TEXT:
        raise DataError("EQ3946", f"{path}: looks like XYZ; insist with format extxyz (--from extxyz)")
    if kind in REFUSED:
        raise DataError(
            "EQ3218",
            f"{path}: files of kind {kind!r} hold no frames that could be read safely; convert them to extended XYZ",
        )
    return str(kind)


def _images(path: str | Path) -> Iterator[Any]:
    """ase.Atoms one after the other; every way ASE fails on a damaged file becomes one typed error."""
    from ase.io import iread

    kind = _kind(path)
    images = iread(str(path), index=":", format=kind, do_not_split_by_at_sign=True)
    index = 0
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about details of other programs' files
                atoms = next(images)
        except StopIteration:
            break
        except Exception as error:  # ASE's readers raise whatever they meet
            reason = f"{type(error).__name__}: {error}"
            raise DataError(
                "EQ3219", f"{path}: frame {index} cannot be read by ASE as {kind!r} ({reason}); repair or convert it"
            ) from error
        yield atoms
        index += 1
    if index == 0:
        raise DataError("EQ3025", f"{path}: there are no frames to read; check that the file is complete")


FORMAT = Format(
    summary="trajectories, and every other file that ASE reads: CIF, POSCAR, OUTCAR, vasprun.xml ...",
    suffixes=(".traj",),
    read=read,
    units=units,
    accepts=accepts,
    write=write,
    provenance=provenance,
    takes_keys=True,
    fallback=True,
)
