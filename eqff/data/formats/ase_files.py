"""Everything else that ASE reads: trajectories (.traj), OUTCAR, vasprun.xml, outputs of other programs, CIF ...

Energies are in eV and lengths in Å, as ASE converts them.  Asked only when no other format knows the file.  What ASE
invents is left out: elements that files of LAMMPS do not state, and energies that dumps do not have.
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from eqff.data.frame import Frame
from eqff.data.reading import outputs, stated_units
from eqff.data.reading.file_units import Units
from eqff.data.reading.format import Format
from eqff.data.reading.labels import N_FRAMES_TO_JUDGE, contents_of, to_frame, units_by_convention
from eqff.data.reading.options import ReadOptions
from eqff.elements import ATOMIC_NUMBERS
from eqff.errors import ConfigError, DataError

REFUSED = {"py", "mysql", "postgresql", "netcdftrajectory", "png", "gif", "mp4", "html", "x3d", "pov", "eps", "db"}
ISOTOPES = ("D", "T")
DUMPS = {"lammps-dump-text", "lammps-dump-binary"}
TYPED = {*DUMPS, "lammps-data"}  # atoms have numbered types there
MAX_HEADER = 2**16  # bytes
SAME_MASS = 0.02  # u, of an element
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
    for index, atoms in enumerate(_images(path, options)):
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
    first = [contents_of(atoms) for atoms in islice(_images(path, options), N_FRAMES_TO_JUDGE)]
    kind = _chosen(path, options)
    return units_by_convention(str(path), first, options, defined=kind not in TYPED, said=_system(path, kind))


def _system(path: str | Path, kind: str) -> dict[str, str] | None:
    """Units that a dump states: ITEM: UNITS, then the name of a system.  Raises: DataError EQ3600"""
    if kind != "lammps-dump-text":
        return None
    with open(path, "rb") as file:
        name = re.search(rb"ITEM: UNITS\s+(\w+)", file.read(MAX_HEADER))
    return {} if name is None else stated_units.stated({"units": name[1].decode()}, str(path))


def provenance(path: str | Path) -> dict[str, str]:
    """Which of ASE's readers was used."""
    return {"ase_format": _kind(path)}


def write(path: str | Path, frames: Iterable[Frame], provenance: Mapping[str, str] | None = None) -> None:
    """Write an ASE trajectory in eV and Å.  Every digit is kept."""
    from ase.io.trajectory import Trajectory

    from eqff.data.store.ase_store import to_atoms

    n_frames = 0
    with Trajectory(str(path), "w") as trajectory:
        for frame in frames:
            trajectory.write(to_atoms(frame))
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
    if kind == "runnerdata" and _is_lammps_data(path):  # both end in .data
        return "lammps-data"
    if kind in TEXT:
        raise DataError("EQ3946", f"{path}: looks like XYZ; insist with format extxyz (--from extxyz)")
    if kind in REFUSED:
        raise DataError(
            "EQ3218",
            f"{path}: files of kind {kind!r} hold no frames that could be read safely; convert them to extended XYZ",
        )
    return str(kind)


def _chosen(path: str | Path, options: ReadOptions) -> str:
    """Name of ASE's format: the caller's, or as the file looks."""
    return options.format if options.format is not None and options.format in kinds() else _kind(path)


def kinds() -> list[str]:
    """Names of ASE's formats."""
    from ase.io.formats import ioformats

    return sorted(name for name, kind in ioformats.items() if kind.can_read and name not in REFUSED | TEXT)


def _elements(path: str | Path, kind: str, options: ReadOptions) -> dict[str, Any]:
    """What ASE's readers of LAMMPS files have to be told about elements.

    Raises: DataError EQ3741 if neither the file nor an option says them
    """
    if kind not in TYPED:
        return {}
    types = element_of_type(options.types)
    if types:
        if kind == "lammps-data":
            return {"Z_of_type": {number: ATOMIC_NUMBERS[symbol] for number, symbol in types.items()}}
        return {"specorder": [types.get(number, "X") for number in range(1, max(types) + 1)]}
    head = b""
    if kind != "lammps-dump-binary":
        with open(path, "rb") as file:
            head = file.read(MAX_HEADER)
    columns = re.search(rb"ITEM: ATOMS([^\n]*)", head)
    if (columns and b"element" in columns[1].split()) or (kind == "lammps-data" and _masses_are_clear(path)):
        return {}
    raise DataError(
        "EQ3741",
        f"{path}: the file numbers types of atoms and does not say their elements; pass types (--types Si,O, in the "
        "order of their numbers, or --types 1=Si,2=O)",
    )


def _unnamed(path: str | Path, options: ReadOptions) -> DataError:
    return DataError(
        "EQ3743", f"{path}: has a type of atoms that types={options.types!r} does not name; name all types"
    )


def element_of_type(text: str | None) -> dict[int, str]:
    """{1: "Si", 3: "O"} of "Si,X,O" or "1=Si,3=O".  Raises: ConfigError EQ1035"""
    found: dict[int, str] = {}
    for place, part in enumerate(re.split(r"[,\s]+", text.strip()) if text else [], 1):
        number, _, symbol = part.rpartition("=")
        if symbol not in ATOMIC_NUMBERS or not (number.isdecimal() if number else part == symbol):
            raise ConfigError("EQ1035", f"types={text!r}: {part!r} names no element; give e.g. Si,O or 1=Si,2=O")
        found[int(number) if number else place] = symbol
    return found


def _masses_are_clear(path: str | Path) -> bool:
    """Whether a data file of LAMMPS has masses, and each is that of an element."""
    from ase.data import atomic_masses

    section = re.search(
        r"^\s*Masses.*?\n\s*\n((?:\s*\d+\s+[\d.eE+-]+.*\n)+)", Path(path).read_text("utf-8", "replace"), re.M
    )
    if section is None:
        return False
    masses = [float(line.split()[1]) for line in section[1].splitlines() if line.strip()]
    return all(abs(atomic_masses[1:] - mass).min() < SAME_MASS for mass in masses)


def _without_inventions(atoms: Any, kind: str) -> Any:
    """A dump has no energy; ASE says 0."""
    if kind in DUMPS and atoms.calc is not None:
        atoms.calc.results.pop("energy", None)
    return atoms


def _is_lammps_data(path: str | Path) -> bool:
    with open(path, "rb") as file:
        return re.search(rb"^\s*\d+\s+atoms\b", file.read(MAX_HEADER), re.MULTILINE) is not None


def _images(path: str | Path, options: ReadOptions) -> Iterator[Any]:
    """ase.Atoms one after the other; every way ASE fails on a damaged file becomes one typed error."""
    from ase.io import iread

    kind = _chosen(path, options)
    elements = _elements(path, kind, options)
    if kind in ("vasp-out", "vasp-xml"):
        images = (outputs.outcar if kind == "vasp-out" else outputs.vasprun)(path, options)
    else:
        images = iread(str(path), index=":", format=kind, do_not_split_by_at_sign=True, **elements)
    index, n_left_out = 0, options.log.notes.total()
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about details of other programs' files
                atoms = next(images)
        except StopIteration:
            break
        except Exception as error:  # ASE's readers raise whatever they meet
            reason = f"{type(error).__name__}: {error}"
            if elements and isinstance(error, IndexError | KeyError):
                raise _unnamed(path, options) from error
            if isinstance(error, KeyError) and str(error.args[0]) in ISOTOPES:
                raise DataError(
                    "EQ3742",
                    f"{path}: frame {index} has the isotope {error.args[0]}, which ASE cannot read here; write "
                    "extended XYZ, where D and T are hydrogen with their masses",
                ) from error
            raise DataError(
                "EQ3219", f"{path}: frame {index} cannot be read by ASE as {kind!r} ({reason}); repair or convert it"
            ) from error
        if elements and not atoms.numbers.all():
            raise _unnamed(path, options)
        yield _without_inventions(atoms, kind)
        index += 1
    outputs.check_marks(path, kind, index, options)
    if index == 0 and options.log.notes.total() > n_left_out:
        reasons = "; ".join(f"{count} {reason}" for reason, count in options.log.notes.items())
        raise DataError("EQ3745", f"{path}: no frame is left ({reasons}); converge them, or give another file")
    if index == 0:
        raise DataError(
            "EQ3746",
            f"{path}: ASE takes it for {kind!r} and finds no structure with results in it; see whether the calculation "
            "has finished, or name another format of ASE with --from",
        )


FORMAT = Format(
    summary="trajectories, and every other file that ASE reads: CIF, POSCAR, OUTCAR, vasprun.xml ...",
    suffixes=(".traj",),
    read=read,
    units=units,
    accepts=accepts,
    write=write,
    provenance=provenance,
    takes_keys=True,
    kinds=kinds,
    fallback=True,
)
