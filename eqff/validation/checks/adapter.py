"""A program called through an adapter is the program that was adapted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from eqff.graph import Structure
from eqff.validation.finding import Measured, check, difference
from eqff.validation.subject import Program


@dataclass(frozen=True, kw_only=True)
class Adapted(Program):
    """A program with the weights it was stored with, adapted; and the same program before."""

    real: Callable[[Structure], tuple[float, Tensor]]  # on real positions: energy eV, forces [n_atoms, 3] eV/Å


@check("the program uses positions otherwise than in edge vectors")
def adapter(subject: Adapted) -> Iterator[Measured]:
    """Energy and forces are those of the unchanged program on real positions."""
    for structure in subject.structures:
        result = subject.evaluate(structure)
        where = f"{len(structure.positions)} atoms, unchanged and adapted"
        energy, forces = subject.real(structure)
        yield difference("energy eV", energy, float(result.energy), subject.limits.energy, where)
        yield difference("force eV/Å", forces, result.forces, subject.limits.force, where)
