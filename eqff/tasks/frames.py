"""Frames of any file ASE reads, one after the other, and frames with results as extended XYZ."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from ase.io import iread
from ase.io.extxyz import write_xyz
from ase.io.formats import string2index

from eqff.artifact.potential import Prediction
from eqff.data.reading.xyz import check_layout
from eqff.errors import DataError

XYZ = (".extxyz", ".xyz")
OURS = (".npz", ".h5")  # read by `eqff data`, not by ASE
INFO_KEYS = ("eqff_energy", "eqff_stress")
ARRAY_KEYS = ("eqff_forces", "eqff_energies")
PLAIN_INFO, PLAIN_ARRAYS = ("energy", "free_energy", "stress"), ("forces", "energies", "stresses")


def count_frames(path: Path) -> int:
    """Number of frames, from one pass over the file; nothing of it stays in memory, unless its format needs that.

    Raises: DataError EQ3101 no such file, EQ3102 unreadable, EQ3103 empty, and those of
            `eqff.data.reading.xyz` for XYZ files
    """
    if not path.is_file():
        raise DataError("EQ3101", f"{path}: {'is a folder; give a file' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise DataError("EQ3103", f"{path}: the file is empty")
    n_frames = check_layout(path) if path.suffix in XYZ else 0
    if n_frames == 0:  # another format, or text whose reader has to say what is wrong
        n_frames = sum(1 for _ in read_frames(path))
    if n_frames == 0:
        raise DataError("EQ3103", f"{path}: there are no frames to read")
    return n_frames


def read_frames(path: Path, first: int = 0, stop: int | None = None) -> Iterator[Atoms]:
    """Frames first, first + 1, ... stop - 1.

    Raises: DataError EQ3102 naming the frame that ASE cannot read
    """
    if stop is not None and first >= stop:
        return
    format = "extxyz" if path.suffix in XYZ else None
    images = iread(str(path), slice(first or None, stop), format=format, do_not_split_by_at_sign=True)
    index = first
    while True:
        try:
            atoms = next(images)
        except StopIteration:
            return
        except Exception as error:  # ASE's readers raise whatever they meet
            reason = f"{type(error).__name__}: {error}"
            convert = path.suffix in OURS
            remedy = "make extended XYZ of it with `eqff data convert`" if convert else "repair it, or convert the file"
            raise DataError("EQ3102", f"{path}: frame {index} cannot be read by ASE ({reason}); {remedy}") from error
        yield atoms
        index += 1


def select_frames(path: Path, index: str = ":") -> list[Atoms]:
    """The frames that an index of ASE's form names: "0", "-1", "2:5", "::10"; ":" is all.

    Raises: DataError as `count_frames` and `read_frames`, EQ3106 for an index that names no frame
    """
    n_frames = count_frames(path)
    try:
        chosen = string2index(index)
        numbers = range(n_frames)[chosen] if isinstance(chosen, slice) else [range(n_frames)[chosen]]
    except (ValueError, TypeError, IndexError):
        numbers = []
    if not numbers:
        raise DataError(
            "EQ3106", f"{path}: index {index!r} names none of its {n_frames} frames; give e.g. 0, -1, 2:5 or :"
        )
    first, last = min(numbers), max(numbers)
    frames = dict(enumerate(read_frames(path, first, last + 1), start=first))
    return [frames[number] for number in numbers]


def clear_results(atoms: Atoms, as_calculator: bool) -> None:
    """Make room: results of an earlier prediction go; with as_calculator, labels are renamed to REF_energy, ...

    Raises: DataError EQ3104 if a name to which a label would be moved is taken
    """
    for key in INFO_KEYS:
        atoms.info.pop(key, None)
    for key in ARRAY_KEYS:
        atoms.arrays.pop(key, None)
    if not as_calculator:
        return
    results = atoms.calc.results if atoms.calc is not None else {}
    for names, place in ((PLAIN_INFO, atoms.info), (PLAIN_ARRAYS, atoms.arrays)):
        for name in names:
            source = results if name in results else place
            if name not in source:
                continue
            if f"REF_{name}" in place and not np.array_equal(place[f"REF_{name}"], source[name]):
                raise DataError(
                    "EQ3104", f"has {name!r} and another 'REF_{name}': --as-calculator would lose one; leave it out"
                )
            place[f"REF_{name}"] = source.pop(name)


def attach(atoms: Atoms, prediction: Prediction, as_calculator: bool) -> None:
    """Put results into a frame that `clear_results` has seen: as eqff_energy, ... or as a calculator's."""
    if not as_calculator:
        atoms.info["eqff_energy"] = prediction.energy
        if prediction.stress is not None:
            atoms.info["eqff_stress"] = prediction.stress
        atoms.arrays["eqff_forces"] = prediction.forces
        if prediction.energies is not None:
            atoms.arrays["eqff_energies"] = prediction.energies
        return
    others = atoms.calc.results if atoms.calc is not None else {}
    found = {name: value for name, value in prediction._asdict().items() if value is not None}
    atoms.calc = SinglePointCalculator(atoms, **(others | found))


def frame_text(atoms: Atoms) -> str:
    """One frame of extended XYZ; positions and numbers of atoms have 8 decimals, which is ASE's way.

    Raises: DataError EQ3105 for contents that cannot be written
    """
    if atoms.calc is not None:  # ASE refuses a result that stands in info or arrays, too: the latter is the file's own
        held = {*atoms.info, *atoms.arrays}
        results = {name: value for name, value in atoms.calc.results.items() if name not in held}
        atoms.calc = SinglePointCalculator(atoms, **results)
    text = io.StringIO()
    try:
        write_xyz(text, [atoms])
    except Exception as error:  # odd contents of info and arrays: whatever numpy and ASE meet
        raise DataError(
            "EQ3105", f"cannot be written as extended XYZ ({type(error).__name__}: {error}); remove what is odd"
        ) from error
    return text.getvalue()


def lost_constraints(atoms: Atoms) -> Sequence[str]:
    """Names of constraints that extended XYZ cannot hold."""
    return [type(one).__name__ for one in atoms.constraints if not isinstance(one, FixAtoms | FixCartesian)]
