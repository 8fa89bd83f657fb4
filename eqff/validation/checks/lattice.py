"""One crystal described in several ways."""

from collections.abc import Iterator

import numpy as np

from eqff.validation.finding import Measured, check, same
from eqff.validation.subject import Subject


@check("results depend on the choice of the cell")
def lattice(subject: Subject) -> Iterator[Measured]:
    """Atoms moved by lattice vectors, and another cell of the same lattice."""
    positions, species, cell = _crystal(subject)
    here = subject.evaluate(subject.crystal)
    vectors = np.resize(np.array([[1, -2, 0], [0, 0, 3], [-1, 0, 1]]), positions.shape)
    there = subject.evaluate(subject.structure(positions + vectors @ cell, species, cell))
    yield from same(subject, there, here, "atoms moved by lattice vectors")
    other = np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ cell
    yield from same(
        subject, subject.evaluate(subject.structure(positions, species, other)), here, "other lattice vectors"
    )


@check("a supercell is not the sum of its cells")
def supercell(subject: Subject) -> Iterator[Measured]:
    """n cells have n times the energy and virial, and the same forces."""
    positions, species, cell = _crystal(subject)
    one = subject.evaluate(subject.crystal)
    shifts = np.array([[i, j, 0] for i in range(2) for j in range(3)]) @ cell
    repeated = np.concatenate([positions + shift for shift in shifts])
    many = subject.evaluate(subject.structure(repeated, np.tile(species, 6), np.diag([2, 3, 1]) @ cell))
    got = many._replace(energy=many.energy / 6, strain_gradient=many.strain_gradient / 6)
    energies, forces = one.energies.repeat(6), one.forces.repeat(6, 1)
    yield from same(subject, got, one._replace(energies=energies, forces=forces), "2 x 3 x 1 cells")


def _crystal(subject: Subject) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, species and cell of the periodic structure."""
    structure = subject.crystal
    return structure.positions.numpy(), structure.species.numpy(), structure.cell[0].numpy()
