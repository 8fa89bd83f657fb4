"""Extended XYZ, read and written by ASE; labels by the names the field uses, or by the names you give.

Energies are in eV and lengths in Å by ASE's convention, unless options say otherwise.  A Lattice with pbc "F F F" makes
no period.  Two labels of one kind that differ (energy and REF_energy) are an error that asks which one is meant.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from eqff.data.frame import Frame
from eqff.data.options import ReadOptions
from eqff.data.units import Units, decide_units
from eqff.data.xyz import check_layout
from eqff.errors import DataError

SUFFIXES = (".extxyz", ".xyz")
TAKES_KEYS = True
ENERGY_KEYS = ("REF_energy", "dft_energy", "DFT_energy", "Energy", "total_energy", "TotEnergy")
FORCES_KEYS = ("REF_forces", "dft_forces", "DFT_forces", "force", "Forces")
STRESS_KEYS = ("REF_stress", "dft_stress", "DFT_stress")
VIRIAL_KEYS = ("virial", "virials", "REF_virial", "REF_virials", "dft_virial")
N_FRAMES_TO_JUDGE = 20  # frames read for the check of magnitudes


def read(path: str | Path, options: ReadOptions | None = None) -> Iterator[Frame]:
    """Frames in eV and Å: labels that ASE recognises (its calculator results) first, then the names above.

    Args:   options: energy_key, forces_key, stress_key take that name and no other
    Raises: DataError EQ3030 unreadable, EQ3031 a named label that a frame lacks, EQ3032 a label of odd shape
    """
    options = options or ReadOptions()
    decided = units(path, options)
    for index, atoms in enumerate(_atoms(path)):
        yield _frame(atoms, options, decided, f"{path}: frame {index}")


def units(path: str | Path, options: ReadOptions | None = None) -> Units:
    """The units `read` uses for this file, and how they were decided."""
    options = options or ReadOptions()
    forces: list[np.ndarray] = []
    for index, atoms in enumerate(_atoms(path)):
        if index == N_FRAMES_TO_JUDGE:
            break
        found = _label(atoms, "forces", options.forces_key, FORCES_KEYS, f"{path}: frame {index}")
        if found is not None:
            forces.append(np.asarray(found, dtype=float).reshape(-1, 3))
    return decide_units(
        str(path),
        energy=(options.energy_unit, None, "eV"),
        length=(options.length_unit, None, "Å"),
        forces=np.concatenate(forces) if forces else None,
    )


def labelled(atoms: Any, options: ReadOptions, where: str) -> Frame:
    """One ase.Atoms, whatever file it is from, with labels found as `read` finds them, in eV and Å.

    Raises: as `read`
    """
    convention = "convention of the format"
    return _frame(atoms, options, Units("eV", "Å", convention, convention), where)


def write(path: str | Path, frames: Iterable[Frame]) -> None:
    """Write frames in eV and Å with the names ASE recognises: energy, forces, stress.

    ASE writes positions and forces with 8 decimals; .h5 keeps every digit.
    """
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write as ase_write

    images = []
    for frame in frames:
        atoms = _new_atoms(frame)
        results = {"energy": frame.energy, "forces": frame.forces, "stress": frame.stress}
        results = {name: value for name, value in results.items() if value is not None}
        if results:
            atoms.calc = SinglePointCalculator(atoms, **results)
        images.append(atoms)
    if not images:
        raise DataError("EQ3025", "there are no frames to write")
    ase_write(str(path), images, format="extxyz")


def _new_atoms(frame: Frame) -> Any:
    from ase import Atoms

    atoms = Atoms(numbers=frame.atomic_numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.info.update(frame.info)
    return atoms


def _atoms(path: str | Path) -> Iterator[Any]:
    """ase.Atoms one after the other; every way ASE fails on a damaged file becomes one typed error."""
    from ase.io import iread

    if not Path(path).is_file():
        raise DataError("EQ3024", f"{path}: no such file")
    check_layout(path)
    images = iread(str(path), index=":", format="extxyz")
    index = 0
    while True:
        try:
            atoms = next(images)
        except StopIteration:
            break
        except Exception as error:  # ASE raises XYZError, ValueError, KeyError, IndexError ... on damaged text
            reason = f"{type(error).__name__}: {error}"
            raise DataError(
                "EQ3030", f"{path}: frame {index} cannot be read ({reason}); repair or remove it"
            ) from error
        yield atoms
        index += 1
    if index == 0:
        raise DataError("EQ3025", f"{path}: there are no frames to read")


def _label(atoms: Any, name: str, key: str | None, synonyms: tuple[str, ...], where: str) -> Any:
    """One label of one frame: by the name told, or from the calculator ASE attached, or by a synonym."""
    results = atoms.calc.results if atoms.calc is not None else {}
    places = (results, atoms.info, atoms.arrays)
    if key is not None:
        for place in places:
            if key in place:
                return place[key]
        known = sorted({*results, *atoms.info, *atoms.arrays} - {"numbers", "positions"})
        raise DataError("EQ3031", f"{where} has no {key!r} for {name}; it has {', '.join(known) or 'no labels'}")
    found = {name: results[name]} if name in results else {}
    for place in (atoms.info, atoms.arrays):
        found |= {synonym: place[synonym] for synonym in synonyms if synonym in place}
    if not found:
        return None
    chosen, *others = found
    for other in others:
        if not _equal(found[chosen], found[other]):
            raise DataError(
                "EQ3033",
                f"{where} has {chosen!r} and {other!r} for {name}, and they differ; say which is meant by {name}_key",
            )
    return found[chosen]


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(np.allclose(np.asarray(one, dtype=float), np.asarray(other, dtype=float), rtol=0.0, atol=1e-8))
    except (TypeError, ValueError):
        return False


def _frame(atoms: Any, options: ReadOptions, units: Units, where: str) -> Frame:
    energy = _label(atoms, "energy", options.energy_key, ENERGY_KEYS, where)
    forces = _label(atoms, "forces", options.forces_key, FORCES_KEYS, where)
    stress = _label(atoms, "stress", options.stress_key, STRESS_KEYS, where)
    pbc = np.array(atoms.pbc, dtype=bool)
    cell = np.array(atoms.cell[:], dtype=np.float64)
    if stress is not None and options.stress_key in VIRIAL_KEYS:
        stress = _stress_from_virial(stress, cell, where)
    elif stress is None:
        virial = _label(atoms, "virial", None, VIRIAL_KEYS, where) if pbc.all() else None
        if virial is not None:
            stress = _stress_from_virial(virial, cell, where)
    try:
        energy = (
            None if energy is None else float(np.asarray(energy, dtype=np.float64).reshape(())) * units.energy_factor
        )
        forces = None if forces is None else np.array(forces, dtype=np.float64) * units.force_factor
        stress = None if stress is None else voigt(stress) * units.energy_factor / units.length_factor**3
    except (TypeError, ValueError) as error:
        raise DataError("EQ3032", f"{where}: a label is not made of numbers of the expected shape ({error})") from None
    used = {*ENERGY_KEYS, *FORCES_KEYS, *STRESS_KEYS, *VIRIAL_KEYS, *(key for key in options.keys if key)}
    return Frame(
        atomic_numbers=np.array(atoms.numbers, dtype=np.int64),
        positions=np.array(atoms.positions, dtype=np.float64) * units.length_factor,
        cell=cell * units.length_factor if pbc.any() else np.zeros((3, 3)),
        pbc=pbc,
        energy=energy,
        forces=forces,
        stress=stress,
        info={key: value for key, value in atoms.info.items() if key not in used},
    )


def voigt(stress: Any) -> np.ndarray:
    """6 numbers (Voigt) or a 3 x 3 matrix as 9 numbers -> [6] in the order xx, yy, zz, yz, xz, xy.

    Raises: ValueError for any other number of numbers
    """
    stress = np.asarray(stress, dtype=np.float64).reshape(-1)
    if stress.size == 6:
        return stress.copy()
    if stress.size != 9:
        raise ValueError(f"stress has {stress.size} numbers, expected 6 or 9")
    matrix = stress.reshape(3, 3)
    if np.abs(matrix - matrix.T).max() > 1e-3 * np.abs(matrix).max():
        raise ValueError(f"stress is not symmetric: {matrix.tolist()}")
    matrix = 0.5 * (matrix + matrix.T)
    return np.array([matrix[0, 0], matrix[1, 1], matrix[2, 2], matrix[1, 2], matrix[0, 2], matrix[0, 1]])


def _stress_from_virial(virial: Any, cell: np.ndarray, where: str) -> np.ndarray:
    """stress = -virial / volume; virial in the file's energy unit."""
    volume = abs(float(np.linalg.det(cell)))
    if volume == 0.0:
        raise DataError("EQ3034", f"{where}: a virial needs three lattice vectors, the cell has no volume")
    return -np.asarray(virial, dtype=np.float64) / volume
