"""DeePMD npy: a folder with type.raw, type_map.raw and set.000, set.001, ...; also a folder of such folders.

coord, force [n, 3 N], box [n, 9] with lattice vectors as rows, energy [n], virial [n, 9] = -stress * volume; eV and Å
by the definition of the format.  A file `nopbc` says that nothing is periodic.  In mixed sets real_atom_types.npy
[n, N] has the types of every frame, -1 for atoms that only fill the row, and type.raw is a placeholder.

Source: DeePMD-kit's documentation.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from eqff.data.frame import Frame
from eqff.data.reading.file_units import Units, decide_units
from eqff.data.reading.format import Format
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.stress import voigt
from eqff.elements import ATOMIC_NUMBERS, SYMBOLS
from eqff.errors import DataError

FRAMES_PER_SET = 5000
N_FRAMES_TO_JUDGE = 200
MAX_TEXT = 2**26  # bytes of type.raw: 2 numbers an atom


def accepts(path: str | Path) -> bool:
    """Whether it is a folder with type.raw, or a folder of such folders."""
    return bool(_systems(Path(path)))


def read(path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]:
    """Frames in eV and Å, set after set; arrays are mapped, not loaded.

    Raises: DataError EQ3213, EQ3939 text files, EQ3214, EQ3942 a damaged array, EQ3940, EQ3941 a missing one,
            EQ3023 shapes that do not fit, EQ3025 no frames
    """
    options = options or ReadOptions()
    decided = units(path, options)
    for system in _systems(Path(path)):
        names, numbers = _numbers(system)
        for folder in _sets(system):
            yield from _frames(folder, names, numbers, (system / "nopbc").is_file(), decided)


def units(path: str | Path, options: ReadOptions | None = None) -> Units:
    """eV and Å by the definition of the format, unless an option says otherwise."""
    options = options or ReadOptions()
    systems = _systems(Path(path))
    if not systems:
        missing = "no folder with type.raw" if Path(path).exists() else "no such folder"
        raise DataError("EQ3918", f"{path}: {missing}; name a folder that DeePMD-kit can train on")
    forces = None
    for folder in _sets(systems[0]):
        found = _array(folder, "force")
        forces = None if found is None else np.asarray(found[:N_FRAMES_TO_JUDGE])
        break
    return decide_units(
        str(path), energy=(options.energy_unit, None, "eV"), length=(options.length_unit, None, "Å"), forces=forces
    )


def write(path: str | Path, frames: Iterable[Frame], provenance: Mapping[str, str] | None = None) -> None:
    """Write frames of one list of atoms into a new folder, in sets of 5000; energy and forces of all or of none.

    Raises: DataError EQ3215 for frames that this layout cannot hold together
    """
    path = Path(path)
    sets: list[Frame] = []
    first: Frame | None = None
    n_sets = 0
    for index, frame in enumerate(frames):
        if first is None:
            first = frame
            path.mkdir(exist_ok=True)
        _check_alike(frame, first, index)
        sets.append(frame)
        if len(sets) == FRAMES_PER_SET:
            _write_set(path / f"set.{n_sets:03d}", sets)
            sets, n_sets = [], n_sets + 1
    if first is None:
        raise DataError("EQ3920", "there are no frames to write; give at least one")
    if sets:
        _write_set(path / f"set.{n_sets:03d}", sets)
    present, kinds = np.unique(first.atomic_numbers, return_inverse=True)
    (path / "type.raw").write_text("".join(f"{k}\n" for k in kinds))
    (path / "type_map.raw").write_text("".join(f"{SYMBOLS[z]}\n" for z in present))
    if not first.pbc.any():
        (path / "nopbc").write_text("")


def _systems(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    if (path / "type.raw").is_file():
        return [path]
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and (folder / "type.raw").is_file())


def _sets(system: Path) -> list[Path]:
    found = sorted(folder for folder in system.glob("set.*") if folder.is_dir())
    if not found:
        raise DataError("EQ3025", f"{system / 'set.000'}: there are no frames to read; check that the file is complete")
    return found


def _numbers(system: Path) -> tuple[np.ndarray, np.ndarray]:
    """Atomic numbers of the types, and of the atoms.  Raises: DataError EQ3213, EQ3939"""
    try:
        texts = []
        for name in ("type.raw", "type_map.raw"):
            if (system / name).stat().st_size > MAX_TEXT:
                raise ValueError(f"{name} is too large")
            texts.append((system / name).read_text(encoding="utf-8"))
        names = np.array([ATOMIC_NUMBERS[symbol] for symbol in texts[1].split()], dtype=np.int64)
        kinds = [int(word) for word in texts[0].split()]
        if not kinds or min(kinds) < 0:
            raise ValueError("type.raw has no types, or negative ones")
        return names, names[kinds]
    except FileNotFoundError as error:
        raise DataError(
            "EQ3213", f"{system}: there is no {Path(error.filename).name}, which names the elements; write it"
        ) from None
    except (ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise DataError(
            "EQ3939", f"{system}: type.raw and type_map.raw do not name elements ({error}); repair them"
        ) from None


def _array(folder: Path, name: str) -> np.ndarray | None:
    """One array, mapped into memory; None where there is none.  Raises: DataError EQ3214, EQ3942"""
    path = folder / f"{name}.npy"
    if not path.is_file():
        return None
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses the header with ast and maps what it says
        raise DataError("EQ3214", f"{path}: damaged or no plain array ({error}); get it or write it again") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "iuf" or found.ndim == 0:
        raise DataError("EQ3942", f"{path}: holds no array of numbers; write it again")
    return found


def _odd_shape(folder: Path, name: str, array: np.ndarray, expected: tuple[int, ...]) -> DataError:
    return DataError("EQ3023", f"{folder}: {name} has shape {array.shape}, expected {expected}; write the array again")


def _real_types(folder: Path, names: np.ndarray, n_frames: int, n_atoms: int) -> np.ndarray | None:
    """Types of the atoms of every frame of a mixed set [n_frames, n_atoms], -1 where there is no atom.

    Raises: DataError EQ3023 of another shape, EQ3740 types without a name
    """
    types = _array(folder, "real_atom_types")
    if types is None:
        return None
    if types.shape != (n_frames, n_atoms):
        raise _odd_shape(folder, "real_atom_types", types, (n_frames, n_atoms))
    types = np.asarray(types)
    if types.size and not (types.min() >= -1 and types.max() < len(names) and (types == types.astype(int)).all()):
        raise DataError(
            "EQ3740",
            f"{folder}: real_atom_types.npy has types from {types.min()} to {types.max()}, expected -1 (no atom) or a "
            f"line of type_map.raw, 0 to {len(names) - 1}; repair one of the two",
        )
    return types.astype(np.int64)


def _frames(folder: Path, names: np.ndarray, numbers: np.ndarray, nopbc: bool, units: Units) -> Iterator[Frame]:
    width = 3 * len(numbers)
    arrays = {name: _array(folder, name) for name in ("coord", "box", "energy", "force", "virial")}
    if arrays["coord"] is None:
        raise DataError("EQ3940", f"{folder}: there is no coord.npy, so there are no positions; write it")
    n_frames = len(arrays["coord"]) if arrays["coord"].ndim else 0
    for name, columns in (("coord", width), ("box", 9), ("energy", 1), ("force", width), ("virial", 9)):
        array = arrays[name]
        shapes = ((n_frames, columns), (n_frames,)) if columns == 1 else ((n_frames, columns),)
        if array is not None and array.shape not in shapes:
            raise _odd_shape(folder, name, array, shapes[0])
    if arrays["box"] is None and not nopbc:
        raise DataError("EQ3941", f"{folder}: there is neither box.npy nor a file nopbc beside type.raw; add one")
    types = _real_types(folder, names, n_frames, len(numbers))
    for row in range(n_frames):
        value = {name: None if a is None else np.array(a[row], dtype=np.float64) for name, a in arrays.items()}
        if types is None:
            yield _frame(value, numbers, nopbc, units, f"{folder}: frame {row}")
            continue
        there = types[row] >= 0
        for name in ("coord", "force"):
            column = value[name]
            value[name] = None if column is None else column.reshape(-1, 3)[there].reshape(-1)
        yield _frame(value, names[types[row][there]], nopbc, units, f"{folder}: frame {row}")


def _frame(value: dict[str, np.ndarray | None], numbers: np.ndarray, nopbc: bool, units: Units, where: str) -> Frame:
    cell, stress = np.zeros((3, 3)), None
    if value["box"] is not None and not nopbc:
        cell = value["box"].reshape(3, 3) * units.length_factor
        if value["virial"] is not None:
            volume = abs(float(np.linalg.det(cell)))
            try:
                stress = None if volume == 0.0 else -voigt(value["virial"]) * units.energy_factor / volume
            except ValueError as error:
                raise DataError("EQ3933", f"{where}: {error}; write virial.npy as symmetric matrices") from None
    energy, forces = value["energy"], value["force"]
    return Frame(
        atomic_numbers=numbers,
        positions=np.asarray(value["coord"]).reshape(-1, 3) * units.length_factor,
        cell=cell,
        pbc=np.full(3, not nopbc),
        energy=None if energy is None else float(energy.reshape(())) * units.energy_factor,
        forces=None if forces is None else forces.reshape(-1, 3) * units.force_factor,
        stress=stress,
    )


def _check_alike(frame: Frame, first: Frame, index: int) -> None:
    if not np.array_equal(frame.atomic_numbers, first.atomic_numbers):
        reason = "has other atoms than frame 0"
    elif frame.pbc.any() != frame.pbc.all() or frame.pbc.any() != first.pbc.any():
        reason = "is periodic in other directions than frame 0, or in some only"
    elif any((getattr(frame, n) is None) != (getattr(first, n) is None) for n in ("energy", "forces", "stress")):
        reason = "has other labels than frame 0"
    else:
        return
    raise DataError("EQ3215", f"frame {index} {reason}, which the DeePMD layout cannot hold; write .h5 or .extxyz")


def _write_set(folder: Path, frames: list[Frame]) -> None:
    folder.mkdir()
    np.save(folder / "coord.npy", np.stack([f.positions.reshape(-1) for f in frames]))
    if frames[0].pbc.any():
        np.save(folder / "box.npy", np.stack([f.cell.reshape(-1) for f in frames]))
    if frames[0].energy is not None:
        np.save(folder / "energy.npy", np.array([f.energy for f in frames]))
    if frames[0].forces is not None:
        np.save(folder / "force.npy", np.stack([np.asarray(f.forces).reshape(-1) for f in frames]))
    if frames[0].stress is not None:
        np.save(folder / "virial.npy", np.stack([_virial(f) for f in frames]))


def _virial(frame: Frame) -> np.ndarray:
    """[9] eV, -stress * volume."""
    xx, yy, zz, yz, xz, xy = -np.asarray(frame.stress) * abs(float(np.linalg.det(frame.cell)))
    return np.array([xx, xy, xz, xy, yy, yz, xz, yz, zz])


FORMAT = Format(
    summary="DeePMD npy, or a folder of such folders",
    suffixes=("",),
    read=read,
    units=units,
    accepts=accepts,
    write=write,
    writes_folder=True,
    contents="a folder of DeePMD has type.raw and set.000",
)
