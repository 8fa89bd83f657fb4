"""Reader behind `ase.io.read("frames.h5")`; declared in `eqff.ase_plugin`."""

from collections.abc import Iterator

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from eqff.data.frame import LABELS, Frame, stated_masses
from eqff.data.store.store import Store


def read_eqff_store(filename: str, index: slice | int = -1) -> Iterator[Atoms]:
    """Frames of a store as ASE's Atoms, one at a time, with labels in a calculator.

    Args:   filename; index: of one frame or a slice, as in `ase.io.read`
    Raises: DataError if the file is damaged or no store; IndexError
    """
    with Store(filename) as store:
        rows = range(len(store))[index]
        for row in rows if isinstance(rows, range) else [rows]:
            yield to_atoms(store.frame(row))


def to_atoms(frame: Frame) -> Atoms:
    """A frame as ASE's Atoms, energy eV, forces eV/Å and stress eV/Å^3 in a SinglePointCalculator."""
    atoms = Atoms(frame.atomic_numbers, frame.positions, cell=frame.cell, pbc=frame.pbc, info=dict(frame.info))
    masses = stated_masses(frame)
    if masses is not None:
        del atoms.info["masses"]
        atoms.set_masses(masses)
    labels = {name: getattr(frame, name) for name in LABELS if getattr(frame, name) is not None}
    if labels:
        atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms
