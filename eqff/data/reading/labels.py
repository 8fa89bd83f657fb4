"""Labels by the names the field uses, or by the names you give: what a file calls energy, forces and stress.

Usual names are taken; two of one kind that differ (energy and REF_energy) are an error that asks which one is
meant.  Names that only look like a label (mp2_energy) are never taken by themselves, but suggested.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from eqff.data.frame import Frame
from eqff.data.reading.file_units import Units, decide_units
from eqff.data.reading.options import ReadOptions
from eqff.errors import DataError
from eqff.units import VOIGT

ENERGY_KEYS = (
    "energy REF_energy ref_energy dft_energy DFT_energy QM_energy Energy total_energy TotEnergy energy_U0 U0".split()
)
FORCES_KEYS = "forces REF_forces ref_forces dft_forces DFT_forces QM_forces force Forces".split()
STRESS_KEYS = "stress REF_stress ref_stress dft_stress DFT_stress".split()
VIRIAL_KEYS = "virial virials REF_virial REF_virials dft_virial DFT_virial".split()
KEYS = {"energy": ENERGY_KEYS, "forces": FORCES_KEYS, "stress": STRESS_KEYS}
NOT_LABELS = ("eqff_", "free_energy", "kinetic", "energies", "atom")  # predictions, parts, references
NO_LABEL = "none"  # as a name: leave this label out
SAME_STRESS = 0.01  # stress and virial may differ by this fraction of the largest component
N_FRAMES_TO_JUDGE = 20  # frames read for the check of magnitudes


@dataclass(frozen=True)
class Contents:
    """One frame as a file has it, in its units: results a program stated, and everything else by name."""

    atomic_numbers: np.ndarray  # [n_atoms]
    positions: np.ndarray  # [n_atoms, 3]
    cell: np.ndarray  # [3, 3] rows are lattice vectors
    pbc: np.ndarray  # [3]
    info: dict[str, Any] = field(default_factory=dict)  # name -> value of the frame
    arrays: dict[str, Any] = field(default_factory=dict)  # name -> values of the atoms
    results: dict[str, Any] = field(default_factory=dict)  # energy, forces, stress where a calculator gave them
    atoms: Callable[[], Any] | None = None  # makes the ase.Atoms, where ASE has read the file


@dataclass(frozen=True, kw_only=True)
class WholeFrame(Frame):
    """A frame that keeps what its file says besides: constraints, momenta, masses, tags, results, columns by name."""

    contents: Contents  # in the units of the file
    units: Units


def contents_of(atoms: Any) -> Contents:
    """The contents of an ase.Atoms."""
    arrays = {name: value for name, value in atoms.arrays.items() if name not in ("numbers", "positions")}
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    return Contents(
        atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc, dict(atoms.info), arrays, results, lambda: atoms
    )


def find(contents: Contents, label: str, options: ReadOptions, where: str) -> tuple[Any, str]:
    """Value and name in the file of one label; (None, "") where there is none.

    Raises: DataError EQ3031 a named label is absent, EQ3033 two that differ
    """
    key = dict(zip(KEYS, options.keys, strict=True)).get(label)
    places = (contents.results, contents.info, contents.arrays)
    if key == NO_LABEL:
        return None, ""
    if key is not None:
        for place in places:
            if key in place:
                return place[key], key
        known = ", ".join(sorted({*contents.results, *contents.info, *contents.arrays})) or "no labels"
        raise DataError("EQ3031", f"{where} has no {key!r} for {label}; choose from {known}")
    return _by_synonym(contents, label, KEYS[label], where)


def _by_synonym(contents: Contents, label: str, synonyms: list[str], where: str) -> tuple[Any, str]:
    found = {label: contents.results[label]} if label in contents.results else {}
    for place in (contents.info, contents.arrays):
        found |= {name: place[name] for name in synonyms if name in place and name not in found}
    if not found:
        return None, ""
    chosen, *others = found
    for other in others:
        if not _equal(found[chosen], found[other]):
            raise DataError(
                "EQ3033",
                f"{where} has {' and '.join(map(repr, found))} for {label}, and they differ; say which is meant by "
                f"{label}_key (--{label}-key)",
            )
    return found[chosen], chosen


def to_frame(contents: Contents, options: ReadOptions, units: Units, where: str) -> Frame:
    """Contents with their labels, in eV and Å; a WholeFrame, whose labels may be missing, with options.structures.

    Raises: DataError EQ3031, EQ3033 as `find`, EQ3032 a label of odd shape, EQ3034 a virial without volume,
            EQ3202 stress and virial that contradict each other
    """
    if not options.structures:
        return _labelled(contents, options, units, where)
    try:
        frame = _labelled(contents, options, units, where)
    except DataError as error:
        if any(options.keys):
            raise
        options.log.unlabelled = options.log.unlabelled or error.message
        bare = replace(contents, info={}, arrays={}, results={})
        frame = replace(_labelled(bare, options, units, where), info=dict(contents.info))
    return WholeFrame(**vars(frame), contents=contents, units=units)


def _labelled(contents: Contents, options: ReadOptions, units: Units, where: str) -> Frame:
    values, names = {}, {}
    for label in KEYS:
        values[label], names[label] = find(contents, label, options, where)
        _note(contents, label, names[label], options)
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused by name later
            return _converted(contents, values, names, options, units, where)
    except (TypeError, ValueError) as error:
        raise DataError(
            "EQ3032",
            f"{where}: a label is not made of numbers of the expected shape ({error}); "
            "repair the label or leave the frame out",
        ) from None


def _converted(
    contents: Contents, values: dict[str, Any], names: dict[str, str], options: ReadOptions, units: Units, where: str
) -> Frame:
    pbc = np.array(contents.pbc, dtype=bool)
    cell = np.array(contents.cell, dtype=np.float64) if pbc.any() else np.zeros((3, 3))
    energy = None if values["energy"] is None else float(_numbers(values["energy"]).reshape(()))
    forces = None if values["forces"] is None else _numbers(values["forces"])
    stress = _stress(contents, values["stress"], names["stress"], cell, options, where) if pbc.any() else None
    used = {*ENERGY_KEYS, *FORCES_KEYS, *STRESS_KEYS, *VIRIAL_KEYS, *(key for key in options.keys if key)}
    return Frame(
        atomic_numbers=np.array(contents.atomic_numbers, dtype=np.int64),
        positions=np.array(contents.positions, dtype=np.float64) * units.length_factor,
        cell=cell * units.length_factor,
        pbc=pbc,
        energy=None if energy is None else energy * units.energy_factor,
        forces=None if forces is None else forces * units.force_factor,
        stress=None if stress is None else stress * units.energy_factor / units.length_factor**3,
        info={key: value for key, value in contents.info.items() if key not in used},
    )


def units_by_convention(
    path: str, contents: list[Contents], options: ReadOptions, stated: tuple[str | None, str | None] = (None, None)
) -> Units:
    """eV and Å unless options or the file say otherwise, checked by the magnitude of forces or energies.

    Args:   contents: the first frames of the file
    Raises: DataError EQ3012 if the magnitudes speak against eV
    """
    forces, energies, numbers = [], [], []
    for index, one in enumerate(contents):
        where = f"{path}: frame {index}"
        try:
            value, energy = (find(one, label, options, where)[0] for label in ("forces", "energy"))
        except DataError:
            if options.structures and not any(options.keys):
                continue  # `to_frame` notes it
            raise
        if value is not None:
            forces.append(_judged(value).reshape(-1))
        if energy is not None and _judged(energy).size == 1:
            energies.append(float(_judged(energy).reshape(())))
            numbers.append(np.asarray(one.atomic_numbers))
    return decide_units(
        path,
        energy=(options.energy_unit, stated[0], "eV"),
        length=(options.length_unit, stated[1], "Å"),
        forces=np.concatenate(forces) if forces else None,
        energies=(energies, numbers),
    )


def _judged(value: Any) -> np.ndarray:
    """Numbers to judge by; what is none is refused later, with its frame."""
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return np.zeros(0)


def _numbers(value: Any) -> np.ndarray:
    """float64, refusing truth values and text.  Raises: ValueError, TypeError"""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"expected numbers, found {str(value)[:40]!r}")
    return array.astype(np.float64)


def _note(contents: Contents, label: str, name: str, options: ReadOptions) -> None:
    """Which name a label had, or which names look like it where it has none."""
    if name:
        options.log.names[label, name] += 1
        return
    word, place = {"energy": ("energy", contents.info), "forces": ("force", contents.arrays)}.get(label, ("", {}))
    if not word or dict(zip(KEYS, options.keys, strict=True))[label] is not None:
        return
    for candidate, value in place.items():
        is_label = word in candidate.lower() and not any(part in candidate.lower() for part in NOT_LABELS)
        if is_label and np.shape(value) in ((), (1,), np.shape(contents.positions)):
            options.log.candidates[label, candidate] += 1


def _stress(
    contents: Contents, stress: Any, name: str, cell: np.ndarray, options: ReadOptions, where: str
) -> np.ndarray | None:
    """[6] Voigt in the file's units, from stress or virial; both are compared."""
    if stress is not None and "virial" in name.lower():
        return _from_virial(stress, cell, where)
    if options.stress_key is not None or not contents.pbc.all():
        return None if stress is None else voigt(stress)
    virial, virial_name = _by_synonym(contents, "virial", VIRIAL_KEYS, where)
    if virial is None:
        return None if stress is None else voigt(stress)
    from_virial = _from_virial(virial, cell, where)
    if stress is None:
        options.log.names["stress", virial_name] += 1
        return from_virial
    found = voigt(stress)
    if np.abs(found - from_virial).max() > SAME_STRESS * max(np.abs(found).max(), np.abs(from_virial).max()):
        ratio = float(found @ from_virial / (from_virial @ from_virial)) if from_virial.any() else float("nan")
        raise DataError(
            "EQ3202",
            f"{where} has {name!r} and {virial_name!r}, but {name} is {ratio:.4g} times -{virial_name}/volume, "
            "expected 1 (-1: another sign; 160.2: GPa; -1602: kbar of VASP); say which is meant by stress_key "
            "(--stress-key)",
        )
    return found


def voigt(stress: Any) -> np.ndarray:
    """6 numbers (Voigt) or a 3 x 3 matrix as 9 numbers -> [6] in the order xx, yy, zz, yz, xz, xy.

    Raises: ValueError for any other number of numbers
    """
    stress = _numbers(stress).reshape(-1)
    if stress.size == 6:
        return stress.copy()
    if stress.size != 9:
        raise ValueError(f"stress has {stress.size} numbers, expected 6 or 9")
    matrix = stress.reshape(3, 3)
    if np.abs(matrix - matrix.T).max() > 1e-3 * np.abs(matrix).max():
        raise ValueError(f"stress is not symmetric: {matrix.tolist()}")
    matrix = 0.5 * (matrix + matrix.T)
    return np.array([matrix[i, j] for i, j in VOIGT])


def _from_virial(virial: Any, cell: np.ndarray, where: str) -> np.ndarray:
    """stress = -virial / volume; virial in the file's energy unit."""
    with np.errstate(all="ignore"):
        volume = abs(float(np.linalg.det(cell)))
    if not 0.0 < volume < np.inf:
        raise DataError(
            "EQ3034",
            f"{where}: a virial needs three lattice vectors, the cell has no volume; "
            "state the cell, or leave the virial out",
        )
    return -voigt(virial) / volume


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(np.allclose(np.asarray(one, dtype=float), np.asarray(other, dtype=float), rtol=0.0, atol=1e-8))
    except (TypeError, ValueError):
        return False
