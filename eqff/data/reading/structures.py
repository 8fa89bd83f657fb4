"""Structures of any file as ase.Atoms, with all that the file says about them, and as text of extended XYZ."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from ase.io.extxyz import per_config_properties, write_xyz

from eqff.data.frame import LABELS, Frame
from eqff.data.reading.index import split_index
from eqff.data.reading.labels import WholeFrame
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Stream
from eqff.data.reading.stress import voigt
from eqff.data.store.ase_store import to_atoms as labelled_atoms
from eqff.errors import ConfigError, DataError

EXTENDED_XYZ = (".extxyz", ".xyz")
RESULTS_OF_EQFF = ("eqff_energy", "eqff_stress"), ("eqff_forces", "eqff_energies")  # in info, in arrays
LABEL_NAMES = ("energy", "free_energy", "stress"), ("forces", "energies", "stresses")  # in info, in arrays


def open_structures(path: str | Path, options: ReadOptions | None = None) -> Stream:
    """A file whose frames keep all that it says; labels that cannot be understood are left out.

    Args:   path: FILE or FILE@INDEX
    Raises: as `Stream`
    """
    return Stream(path, replace(options or ReadOptions(), structures=True))


def read_structures(path: str | Path, options: ReadOptions | None = None) -> list[Atoms]:
    """The structures that FILE@INDEX or options.index names, all without an index.

    Raises: as `Stream`; DataError EQ3106 for an index outside the file
    """
    return [to_atoms(frame) for frame in open_structures(path, options)]


def read_structure(path: str | Path, options: ReadOptions | None = None) -> Atoms:
    """The structure that FILE@INDEX or options.index names, the last one without an index.

    Raises: as `read_structures`; ConfigError EQ1962 for an index that names several
    """
    options = options or ReadOptions()
    if options.index is None and split_index(path)[1] is None:
        options = replace(options, index="-1")
    stream = open_structures(path, options)
    found = list(stream)
    if len(found) > 1:
        raise ConfigError(
            "EQ1962",
            f"{stream.path}: index {stream.index!r} names {len(found)} frames; choose one with FILE@N or --index N",
        )
    return to_atoms(found[0])


def to_atoms(frame: Frame) -> Atoms:
    """A frame as ase.Atoms in eV and Å, with everything that its file says; labels are results of a calculator."""
    if not isinstance(frame, WholeFrame):
        return labelled_atoms(frame)
    contents, units = frame.contents, frame.units
    atoms = contents.atoms() if contents.atoms is not None else _assembled(frame)
    if units.length_factor == units.energy_factor == 1.0:
        return atoms
    atoms.arrays["positions"] = frame.positions.copy()
    atoms.cell[:] = np.asarray(contents.cell) * units.length_factor
    for name in (*LABEL_NAMES[0], *LABEL_NAMES[1]):  # of the file, in its units
        atoms.info.pop(name, None)
        atoms.arrays.pop(name, None)
    labels = {name: getattr(frame, name) for name in LABELS if getattr(frame, name) is not None}
    atoms.calc = SinglePointCalculator(atoms, **labels) if labels else None
    return atoms


def _assembled(frame: WholeFrame) -> Atoms:
    """ase.Atoms as ASE's own reader of extended XYZ makes them."""
    contents = frame.contents
    arrays, info, results = dict(contents.arrays), dict(contents.info), dict(contents.results)
    atoms = Atoms(contents.atomic_numbers, contents.positions, cell=contents.cell, pbc=contents.pbc)
    mask = arrays.pop("move_mask", None)
    if mask is not None:
        atoms.set_constraint(_constraints(np.asarray(mask).astype(bool)))
    if "charge" in arrays:
        arrays["charges"] = arrays.pop("charge")
    for place, names in ((arrays, all_properties), (info, per_config_properties)):
        for name in [name for name in place if name in names and np.asarray(place[name]).dtype.kind in "iuf"]:
            value = place.pop(name)
            results[name] = _stress(value) if name == "stress" else value
    for name, values in arrays.items():
        atoms.set_array(name, np.asarray(values))
    atoms.info = info
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _constraints(mask: np.ndarray) -> Any:
    """From the column move_mask: whether an atom [n_atoms], or a coordinate [n_atoms, 3], may move."""
    if mask.ndim == 1:
        return FixAtoms(mask=~mask)
    return [FixCartesian(atom, mask=~free) for atom, free in enumerate(mask) if not free.all()]


def _stress(value: Any) -> np.ndarray:
    """[6] Voigt, if it is one; else as it is."""
    try:
        return voigt(value)
    except ValueError:
        return np.asarray(value)


def clear_results(atoms: Atoms) -> None:
    """Remove results of an earlier prediction."""
    for names, place in zip(RESULTS_OF_EQFF, (atoms.info, atoms.arrays), strict=True):
        for name in names:
            place.pop(name, None)


def clear_labels(atoms: Atoms) -> None:
    """Remove energy, forces and stress, which belong to a geometry that is left behind."""
    atoms.calc = None
    for names, place in zip(LABEL_NAMES, (atoms.info, atoms.arrays), strict=True):
        for name in names:
            place.pop(name, None)


def frame_text(atoms: Atoms) -> str:
    """One frame of extended XYZ; positions and numbers of atoms have 8 decimals, as ASE writes them.

    Raises: DataError EQ3105 for contents that cannot be written
    """
    if atoms.calc is not None:  # ASE refuses a result whose name is in info or arrays as well: the file's value stays
        in_file = {*atoms.info, *atoms.arrays}
        results = {name: value for name, value in atoms.calc.results.items() if name not in in_file}
        atoms.calc = SinglePointCalculator(atoms, **results)
    text = io.StringIO()
    try:
        write_xyz(text, [atoms])
    except Exception as error:  # odd contents of info and arrays: whatever numpy and ASE meet
        raise DataError(
            "EQ3105",
            f"cannot be written as extended XYZ ({type(error).__name__}: {error}); remove the entry that is odd",
        ) from error
    return text.getvalue()


def lost_constraints(atoms: Atoms) -> Sequence[str]:
    """Names of constraints that extended XYZ cannot hold."""
    return [type(one).__name__ for one in atoms.constraints if not isinstance(one, FixAtoms | FixCartesian)]
