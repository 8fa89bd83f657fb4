"""Labels by the names the field uses, or by the names you give: what a file calls energy, forces and stress.

Usual names are taken, in upper or lower case; two of one kind that differ (energy and REF_energy) are an error that
asks which is meant.  Names that only look like a label (mp2_energy) are never taken by themselves, but suggested.
Beside forces, free_energy is preferred to the energy extrapolated to zero smearing: the forces are its derivatives.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from eqff.data.frame import Frame
from eqff.data.reading import stated_units, stress
from eqff.data.reading.file_units import DEFINED, Units, decide_units
from eqff.data.reading.options import ReadOptions
from eqff.errors import DataError

ENERGY_KEYS = (
    "energy REF_energy ref_energy dft_energy DFT_energy QM_energy Energy total_energy TotEnergy energy_U0 U0".split()
)
FORCES_KEYS = "forces REF_forces ref_forces dft_forces DFT_forces QM_forces force Forces".split()
KEYS = {"energy": ENERGY_KEYS, "forces": FORCES_KEYS, "stress": stress.STRESS_KEYS}
NOT_LABELS = ("eqff_", "free_energy", "kinetic", "energies", "atom")  # predictions, parts, references
FREE_ENERGY = "free_energy"
NO_LABEL = "none"  # as a name: leave this label out
FREE = "energy is free_energy, of which forces are derivatives; 'energy' differs (take it with --energy-key energy)"
SLAB = "a stress belongs to frames that are periodic in three directions"
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
    value, name = _by_synonym(contents, label, KEYS[label], where)
    if label != "energy" or name.lower() not in ("", "energy", "total_energy"):
        return value, name
    free = _named(contents.results, [FREE_ENERGY]) | _named(contents.info, [FREE_ENERGY])
    with_forces = name == "" or find(contents, "forces", options, where)[1]
    for other in free if with_forces else ():
        if name == "" or not _equal(value, free[other]):
            return free[other], other
    return value, name


def _by_synonym(contents: Contents, label: str, synonyms: list[str], where: str) -> tuple[Any, str]:
    usable = {label: contents.results[label]} if label in contents.results else {}
    for place in (contents.info, contents.arrays):
        usable |= {name: value for name, value in _named(place, synonyms).items() if name not in usable}
    if not usable:
        return None, ""
    chosen, *others = usable
    for other in others:
        if not _equal(usable[chosen], usable[other]):
            raise DataError(
                "EQ3033",
                f"{where} has {' and '.join(map(repr, usable))} for {label}, and they differ; say which is meant by "
                f"{label}_key (--{label}-key)",
            )
    return usable[chosen], chosen


def _named(place: Mapping[str, Any], synonyms: list[str]) -> dict[str, Any]:
    """Entries under one of these names, in upper or lower case, in the order of the names."""
    lower: dict[str, list[str]] = {}
    for name in place:
        lower.setdefault(name.lower(), []).append(name)
    return {name: place[name] for synonym in synonyms for name in lower.get(synonym.lower(), ())}


def to_frame(contents: Contents, options: ReadOptions, units: Units, where: str) -> Frame:
    """Contents with their labels, in eV and Å; a WholeFrame, whose labels may be missing, with options.structures.

    Raises: DataError EQ3031, EQ3033 as `find`, EQ3032 a label of odd shape, EQ3202 stress and virial that contradict
            each other, and those of `eqff.data.reading.stress`
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
    n_atoms = len(contents.atomic_numbers)
    with np.errstate(all="ignore"):  # what is not finite is refused by name later
        energy = _numbers(values["energy"], names["energy"], (), where)
        forces = _numbers(values["forces"], names["forces"], (n_atoms, 3), where)
        pbc = np.array(contents.pbc, dtype=bool)
        cell = np.array(contents.cell, dtype=np.float64) if pbc.any() else np.zeros((3, 3))
        label_stress = _stress(contents, values["stress"], names["stress"], options, units, where)
        used = {
            *(synonym.lower() for synonyms in (*KEYS.values(), stress.VIRIAL_KEYS) for synonym in synonyms),
            *(key.lower() for key in options.keys if key),
            *(name.lower() for name in names.values()),
        }
        masses = {"masses": np.asarray(contents.arrays["masses"]).tolist()} if "masses" in contents.arrays else {}
        return Frame(
            atomic_numbers=np.array(contents.atomic_numbers, dtype=np.int64),
            positions=np.array(contents.positions, dtype=np.float64) * units.length_factor,
            cell=cell * units.length_factor,
            pbc=pbc,
            energy=None if energy is None else float(energy) * units.energy_factor,
            forces=None if forces is None else forces * units.force_factor,
            stress=label_stress,
            info={
                key: value
                for key, value in contents.info.items()
                if key.lower() not in used and not (stated_units.is_unit_key(key) and isinstance(value, str))
            }
            | masses,
        )


def units_by_convention(
    path: str,
    contents: list[Contents],
    options: ReadOptions,
    *,
    defined: bool = False,
    said: Mapping[str, str] | None = None,
) -> Units:
    """eV and Å unless options or headers of frames say otherwise, checked by the magnitude of forces or energies.

    Args:   contents: the first frames of the file; defined: whether the format leaves no other unit, so that odd
            magnitudes are a warning; said: units that the file states, None: by the header of the first frame
    Raises: DataError EQ3012 if the magnitudes speak against eV, those of `file_units` and `stated_units`;
            ConfigError EQ1008 for an order of stress
    """
    stress.check_order(options.stress_order)
    if said is None:
        said = stated_units.stated(contents[0].info, f"{path}: frame 0") if contents else {}
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
    by_format = "eV" if defined and options.energy_unit is None else None
    units = decide_units(
        path,
        energy=(options.energy_unit, said.get("energy", by_format), "eV"),
        length=(options.length_unit, said.get("length"), "Å"),
        force=(options.force_unit, said.get("force")),
        stress=(options.stress_unit, said.get("stress")),
        forces=np.concatenate(forces) if forces else None,
        energies=(energies, numbers),
    )
    if by_format is not None and "energy" not in said:
        length_source = DEFINED if units.length_source.startswith("convention") else units.length_source
        return replace(units, energy_source=DEFINED, length_source=length_source)
    return units


def check_stated(contents: Contents, first: Mapping[str, str], where: str) -> None:
    """Whether the header of a frame states the units that the first frame's header states.

    Raises: DataError EQ3607
    """
    if not first and not any("unit" in key.lower() for key in contents.info):
        return
    said = stated_units.stated(contents.info, where)
    missing = [quantity for quantity in first if quantity not in said]
    if missing:
        raise DataError(
            "EQ3611",
            f"{where} states no unit of {' and '.join(missing)}, frame 0 does; give all frames the same header",
        )
    for quantity, unit in said.items():
        if quantity not in first or not stated_units.same(quantity, unit, first[quantity]):
            before = f"frame 0 {first[quantity]!r}" if quantity in first else "frame 0 no unit"
            raise DataError(
                "EQ3607",
                f"{where} states {unit!r} as the unit of {quantity}, {before}; give all frames the same units",
            )


def _judged(value: Any) -> np.ndarray:
    """Numbers to judge by; what is none is refused later, with its frame."""
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return np.zeros(0)


def _numbers(value: Any, name: str, shape: tuple[int, ...], where: str) -> np.ndarray | None:
    """float64 of this shape; None for no label.  Raises: DataError EQ3032, also for truth values and text"""
    if value is None:
        return None
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unequal length
        array = np.empty(0, dtype=object)
    if array.dtype.kind in "iuf" and array.size == int(np.prod(shape)) and (not shape or array.shape == shape):
        return array.astype(np.float64).reshape(shape)
    expected = "one number" if not shape else f"numbers of shape {list(shape)}"
    found = f"shape {list(array.shape)}" if array.dtype.kind in "iuf" else repr(str(value)[:40])
    raise DataError(
        "EQ3032", f"{where}: {name!r} is {found}, expected {expected}; repair the label or leave the frame out"
    )


def _note(contents: Contents, label: str, name: str, options: ReadOptions) -> None:
    """Which name a label had, or which names look like it where it has none."""
    if name:
        options.log.names[label, name] += 1
        if name.lower() == FREE_ENERGY and label == "energy" and options.energy_key is None:
            other = contents.results.get("energy", next(iter(_named(contents.info, ["energy"]).values()), None))
            if other is not None and not _equal(other, {**contents.info, **contents.results}[name]):
                options.log.notes[FREE] += 1
        return
    place = contents.arrays if label == "forces" else contents.info
    words = {"energy": ["energy"], "forces": ["force"], "stress": ["stress", "virial"]}[label]
    if dict(zip(KEYS, options.keys, strict=True))[label] is not None:
        return
    sizes = ((), (1,)) if label == "energy" else ((6,), (9,), (3, 3)) if label == "stress" else ()
    for candidate, value in place.items():
        lower = candidate.lower()
        if not any(word in lower for word in words) or any(part in lower for part in NOT_LABELS):
            continue
        usual = label == "stress" and lower in {key.lower() for key in stress.VIRIAL_KEYS}
        if not usual and np.shape(value) in (*sizes, np.shape(contents.positions) if label == "forces" else ()):
            options.log.candidates[label, candidate] += 1


def _stress(
    contents: Contents, value: Any, name: str, options: ReadOptions, units: Units, where: str
) -> np.ndarray | None:
    """[6] eV/Å^3, from stress or virial; both are compared."""
    virial, virial_name = None, ""
    if options.stress_key is None:
        virial, virial_name = _by_synonym(contents, "virial", stress.VIRIAL_KEYS, where)
    if not np.all(contents.pbc):
        names = [label for label, there in ((name, value), (virial_name, virial)) if there is not None]
        if names:
            if name:
                options.log.names["stress", name] -= 1
                options.log.names += Counter()  # without those of no frame
            options.log.notes[f"{' and '.join(map(repr, names))} left out: {SLAB}"] += 1
        return None
    cell = np.array(contents.cell, dtype=np.float64)
    of_stress = None if value is None else stress.from_label(value, name, cell, options, units, where)
    if virial is None:
        return of_stress
    of_virial = stress.from_label(virial, virial_name, cell, options, units, where)
    if of_stress is None:
        options.log.names["stress", virial_name] += 1
        return of_virial
    if np.abs(of_stress - of_virial).max() > SAME_STRESS * max(np.abs(of_stress).max(), np.abs(of_virial).max()):
        ratio = float(of_stress @ of_virial / (of_virial @ of_virial)) if of_virial.any() else float("nan")
        raise DataError(
            "EQ3202",
            f"{where} has {name!r} and {virial_name!r}, but {name} is {ratio:.4g} times -{virial_name}/volume, "
            "expected 1 (-1: another sign; 160.2: GPa; -1602: kbar of VASP); say which is meant by stress_key "
            "(--stress-key)",
        )
    return of_stress


def _equal(one: Any, other: Any) -> bool:
    """Whether two labels are the same numbers; a matrix of stress may be written as six numbers in Voigt's order."""
    try:
        one, other = (_six(value) if np.size(value) in (6, 9) else value for value in (one, other))
        return bool(np.allclose(np.asarray(one, dtype=float), np.asarray(other, dtype=float), rtol=0.0, atol=1e-8))
    except (TypeError, ValueError):
        return False


def _six(value: Any) -> np.ndarray:
    numbers = np.asarray(value, dtype=float).reshape(-1)
    return numbers if numbers.size == 6 else numbers[[0, 4, 8, 5, 2, 1]]
